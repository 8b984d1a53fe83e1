"""`xuankan demo`, what `make demo` runs: the default model on real manuscripts, and nothing left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest


@pytest.fixture
def place() -> Generator[Path]:
    """A temporary directory for the demo, short enough for a socket's path, and empty at the end."""
    with tempfile.TemporaryDirectory(prefix="x") as directory:
        yield Path(directory)
        assert list(Path(directory).iterdir()) == []


def _alive(place: Path) -> list[str]:
    """Command lines of the processes that were told to put their files into `place`, or work there."""
    found: list[str] = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            told = f"TMPDIR={place}".encode() in (process / "environ").read_bytes()
            # Valkey writes its title over its environment.
            if told or (process / "cwd").readlink().is_relative_to(place):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:  # it ended while we looked
            continue
    return found


@contextmanager
def _demo(place: Path) -> Generator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "xuankan.cli.main", "demo"],
        env={**os.environ, "TMPDIR": str(place), "COLUMNS": "160", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_it_ranks_six_manuscripts_and_leaves_nothing_behind(place: Path) -> None:
    with _demo(place) as process:
        out, err = process.communicate(timeout=100)
    assert (process.returncode, err) == (0, "")
    assert out.count("100 journals scored") == 6
    assert re.search(r"6 manuscripts, 600 journals scored in \d", out)
    assert "Similar papers in Monthly Notices of the Royal Astronomical Society:" in out
    for column in ("score", "journal", "publisher", "ISSN", "subjects", "access", "APC"):
        assert column in out
    assert "◀ is where it appeared." in out
    assert _alive(place) == []


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_nothing_behind(place: Path, signum: signal.Signals) -> None:
    with _demo(place) as process:
        assert process.stdout is not None
        assert "ready after" in process.stdout.readline()
        assert any("valkey-server" in command for command in _alive(place))
        assert any("worker run" in command for command in _alive(place))
        os.killpg(process.pid, signum)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.strip() == "interrupted"
    assert _alive(place) == []
