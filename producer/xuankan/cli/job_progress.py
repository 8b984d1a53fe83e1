"""How far a job is: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn

from xuankan.terminal import Terminal

if TYPE_CHECKING:
    from xuankan.backlog.job import JobProgress as Done

_LOG_EVERY_S: Final = 30.0
_PACE_OVER_S: Final = 60.0


class Watched:
    """A context in which progress is shown on standard error.

    Attributes:
        began: whether any was.
        rows, total: what was shown last.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Terminal(stderr=True, highlight=False)
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._seen: deque[tuple[float, int]] = deque()
        self._logged_s = float("-inf")
        self.rows = self.total = 0
        self.began = False

    def __enter__(self) -> Watched:
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.completed:,} of {task.total:,}"),
                BarColumn(),
                TaskProgressColumn(),
                TextColumn("{task.fields[said]}"),
                console=self._console,
            )
            self._task = self._bar.add_task("", total=0, said="", start=True, visible=False)
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Leave the last state on the screen."""
        if self._bar is not None:
            self._bar.stop()

    def show(self, done: Done, total: int) -> None:
        """Show how many of `total` rows are done, at which pace, the time left and the failures."""
        now_s = time.monotonic()
        self._seen.append((now_s, done.rows))
        while now_s - self._seen[0][0] > _PACE_OVER_S:
            self._seen.popleft()
        self.began, self.rows, self.total = True, done.rows, total
        said = self._said(done)
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done.rows, total=total, said=said, visible=True)
        elif now_s - self._logged_s >= _LOG_EVERY_S or done.rows == total:
            self._logged_s = now_s
            self._console.print(f"{done.rows:,} of {total:,}  {said}".rstrip(), soft_wrap=True)

    def _said(self, done: Done) -> str:
        (first_s, first), (last_s, last) = self._seen[0], self._seen[-1]
        parts: list[str] = []
        if last > first:
            pace = (last - first) / (last_s - first_s)
            parts += [f"{pace:,.1f} a second"]
            if last < self.total:
                parts += [f"{_duration((self.total - last) / pace)} left"]
        if done.bad:
            parts.append(f"{done.bad:,} without a ranking")
        return ", ".join(parts)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
