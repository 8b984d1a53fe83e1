"""Progress of long commands: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from xuankan.terminal import Terminal

LOG_EVERY_S = 10.0


class Bar(Protocol):
    """What a command tells its progress to."""

    def told(self, what: str, part: float) -> None:
        """Something is done to this part, 0 to 1."""

    def say(self, text: str) -> None:
        """Print a line of its own."""


@contextmanager
def bar(title: str) -> Generator[Bar]:
    """A progress bar on stderr; where that is no terminal, a line every ten seconds."""
    console = Terminal(stderr=True)
    if not console.is_terminal:
        yield _PlainProgress(console)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield _Terminal(progress, title)


class _Terminal:
    def __init__(self, progress: Progress, title: str) -> None:
        self._progress = progress
        self._task = progress.add_task(title, total=1.0)

    def told(self, what: str, part: float) -> None:
        self._progress.update(self._task, description=what, completed=part)

    def say(self, text: str) -> None:
        self._progress.console.print(text, highlight=False)


class _PlainProgress:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._started = time.monotonic()
        self._next = self._started

    def told(self, what: str, part: float) -> None:
        now = time.monotonic()
        if now < self._next and part < 1.0:
            return
        self._next = now + LOG_EVERY_S
        spent = now - self._started
        left = f", {spent * (1 - part) / part:,.0f} s left" if 0 < part < 1 else ""
        self.say(f"{spent:6.0f} s {part:6.1%} {what}{left}")

    def say(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True)
