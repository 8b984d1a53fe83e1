"""A place to make something in before it takes its place in a release."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import tempfile
from collections.abc import Generator
from pathlib import Path

from xuankan.errors import EngineError, ReleaseError


@contextlib.contextmanager
def workshop(engines: Path) -> Generator[Path]:
    """A directory to build in, on the same file system; what a killed build left in it is removed.

    Raises:
        EngineError: another build of this release is running.
        ReleaseError: the release cannot be written.
    """
    try:
        engines.mkdir(exist_ok=True)
        lock = (engines / ".lock").open("w")
    except OSError as error:
        raise ReleaseError(f"{engines} cannot be written: {error}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise EngineError(f"another build into {engines} is running: wait for it") from error
        for left in engines.glob(".build-*"):
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=engines, prefix=".build-") as directory:
            yield Path(directory)
