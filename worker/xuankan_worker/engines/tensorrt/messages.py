"""What TensorRT says while it works: errors for whoever asked for the work, the rest for the log."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Generator, Sequence
from typing import Any

_log = logging.getLogger(__name__)


class LoggedErrors:
    """The library's error lines, handed to whoever listens while they come; others go to the log."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: list[list[str]] = []

    @contextlib.contextmanager
    def listen(self) -> Generator[list[str]]:
        """A block whose list collects the lines that come while it runs, from any thread."""
        lines: list[str] = []
        with self._lock:
            self._listeners.append(lines)
        try:
            yield lines
        finally:
            with self._lock:
                self._listeners = [other for other in self._listeners if other is not lines]

    def add(self, line: str) -> None:
        """Hand a line to all who listen."""
        with self._lock:
            for lines in self._listeners:
                lines.append(line)
            heard = bool(self._listeners)
        (_log.debug if heard else _log.error)("%s", line)


def failure(lines: Sequence[str]) -> str:
    """The library's own words on what failed, for an error message."""
    return "; ".join(dict.fromkeys(lines)) or "the library gave no reason"


def logger(trt: Any, errors: LoggedErrors) -> Any:
    """An `ILogger` that hands on errors and logs warnings."""

    class Log(trt.ILogger):
        """Called from the library's own threads; must not raise into them."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, text: str) -> None:
            level = int(severity)
            if level <= int(trt.ILogger.ERROR):
                errors.add(" ".join(text.split()))
            elif level == int(trt.ILogger.WARNING):
                _log.warning("%s", text)

    return Log()
