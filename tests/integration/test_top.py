"""`xuankan top` on a terminal, as an operator watches it."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Generator
from contextlib import contextmanager
from fcntl import ioctl
from pathlib import Path

import pytest

from tests.support.engine import ScriptedEngine
from tests.support.secured import password, secured_server
from tests.support.server import ValkeyProcess
from tests.support.world import KEYS, Queue, eventually, request, running

_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Screen:
    """A program on a terminal of its own."""

    def __init__(self, url: str, rows: int, columns: int) -> None:
        self._ours, theirs = pty.openpty()
        ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        os.set_blocking(self._ours, False)
        self.shown = b""
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "xuankan.cli.main", "top", "--interval-s", "0.2"),
                *("--redis", url, "--namespace", KEYS.namespace),
            ],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={"PATH": os.environ["PATH"], "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"},
        )
        os.close(theirs)

    def text(self) -> str:
        """All that was shown so far."""
        try:
            while part := os.read(self._ours, 65536):
                self.shown += part
        except OSError:  # nothing more for now, or for good
            pass
        return _CODES.sub("", self.shown.decode(errors="replace"))

    def frame(self) -> str:
        """The latest whole picture."""
        return self.text().rpartition("xuankan top")[2]

    def press(self, key: bytes) -> None:
        os.write(self._ours, key)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._ours)


@contextmanager
def screen(url: str, rows: int = 40, columns: int = 140) -> Generator[Screen]:
    shown = Screen(url, rows, columns)
    try:
        yield shown
    finally:
        shown.close()


def shows(on: Screen, *words: str) -> Callable[[], bool]:
    return lambda: all(word in on.frame() for word in words)


async def ended(on: Screen) -> int:
    await eventually(lambda: on.process.poll() is not None)
    return on.process.returncode


async def test_a_terminal_shows_what_happens_until_q(server_url: str, queue: Queue) -> None:
    engine = ScriptedEngine()
    engine.gate.clear()
    with screen(server_url) as shown:
        await eventually(shows(shown, "no live worker"))
        async with running(server_url, engine):
            await queue.push(*(request(lane="bulk") for _ in range(60)))
            await queue.push_raw(b"garbage", None)
            await eventually(shows(shown, "worker-1", "running", "scripted ×2", "1 dead letter"))
            await eventually(lambda: bool(re.search(r"bulk +\d\d +\d+ ", shown.frame())))
            assert "█" in shown.frame()
            engine.gate.set()
            # 40 rows of each request, 16 a batch at most.
            await eventually(lambda: bool(re.search(r"worker-1 .* 0/2 .* 1\d\.\d .*%", shown.frame())))
            await eventually(lambda: bool(re.search(r"requests/s [\d.]+ in, [1-9][\d.]* out", shown.frame())))
        await eventually(shows(shown, "no live worker"))
        shown.press(b"q")
        assert await ended(shown) == 0
        assert "Traceback" not in shown.text()


async def test_ctrl_c_is_an_end_like_any_other(server_url: str, queue: Queue) -> None:
    del queue
    with screen(server_url) as shown:
        await eventually(shows(shown, "no live worker"))
        shown.process.send_signal(signal.SIGINT)
        assert await ended(shown) == 0
        shown.text()
        assert b"\x1b[?1049l" in shown.shown  # the terminal has its own picture again


async def test_a_server_that_goes_away_is_said_and_waited_for(own_server: ValkeyProcess) -> None:
    own_server.start()
    with screen(own_server.url) as shown:
        await eventually(shows(shown, "no live worker"))
        own_server.kill()
        await eventually(shows(shown, "the server has not answered for", "no live worker"))
        own_server.start()
        await eventually(lambda: "not answered" not in shown.frame() and "no live worker" in shown.frame())
        shown.press(b"q")
        assert await ended(shown) == 0


async def test_into_a_pipe_goes_one_picture(server_url: str, queue: Queue) -> None:
    await queue.push(request())
    async with running(server_url, ScriptedEngine()):
        await eventually(queue.is_empty)
        code, text, _ = await piped(server_url)
    assert code == 0
    assert "worker-1" in text
    assert "\x1b" not in text


def test_the_operators_user_suffices(tmp_path: Path) -> None:
    with secured_server(tmp_path) as server:
        server.command("admin", "XADD", KEYS.stream("bulk"), "*", "request", "x")
        command = [sys.executable, "-m", "xuankan.cli.main", "top", "--namespace", KEYS.namespace]
        done = subprocess.run(
            command,
            env=os.environ | {"XUANKAN_REDIS": server.url("operator")},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert "1 request waits and no worker serves" in done.stdout
    assert password("operator") not in done.stdout + done.stderr


async def test_nothing_to_look_at_is_an_error_for_programs() -> None:
    code, text, error = await piped("redis://127.0.0.1:1")
    assert (code, text) == (3, "")
    assert "does not answer" in error
    assert "Traceback" not in error


async def piped(url: str) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "xuankan.cli.main", "top", "--redis", url, "--namespace", KEYS.namespace]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("option", [("--interval-s", "0"), ("--redis", "nowhere")])
async def test_what_cannot_be_is_refused(option: tuple[str, str]) -> None:
    command = [sys.executable, "-m", "xuankan.cli.main", "top", *option]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert option[0].strip("-") in done.stderr or "scheme" in done.stderr
