"""Wall clocks that tests set: of one process, by libfaketime, while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.support.programs import need

_LIBRARY = "faketime/libfaketimeMT.so.1"
CLOCK_FILE = "FAKETIME_TIMESTAMP_FILE"
"""Names the file that says what time it is for a process; read again and again."""


class SetClock:
    """A wall clock that processes with `environment` read; their monotonic clocks stay as they are."""

    def __init__(self, file: Path) -> None:
        need("faketime")
        self._file = file
        self._offset_s = 0.0
        self.step(0.0)
        self.environment: Mapping[str, str] = {**settable(file), "FAKETIME_NO_CACHE": "1"}

    def step(self, seconds: float) -> None:
        """Set it forward, or back."""
        self._offset_s += seconds
        set_clock(self._file, self._offset_s)


def settable(file: Path) -> Mapping[str, str]:
    """The environment of a process whose clock `set_clock` sets; empty where libfaketime is missing."""
    library = next(Path("/usr/lib").glob(f"*/{_LIBRARY}"), None)
    if library is None:
        return {}
    return {"LD_PRELOAD": str(library), CLOCK_FILE: str(file), "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


def set_clock(file: Path, offset_s: float) -> None:
    """Set a clock to so much beside the right time."""
    fresh = file.with_suffix(".new")
    fresh.write_text(f"{offset_s:+.3f}\n")
    fresh.replace(file)
