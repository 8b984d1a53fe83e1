"""A child process that never outlives this one, however it ends.

The kernel sees to that (PR_SET_PDEATHSIG, see prctl(2)), with two traps that are avoided here:

- The signal is sent when the *thread* ends that made the child. So each child is made by a thread of its own
  that ends after it.
- A parent that dies before the child has asked for the signal leaves an orphan. So the child asks first, then
  looks whether its parent is still there, and only then becomes the program (`_LAUNCHER`). Asking in a
  `preexec_fn` instead would run Python between fork and exec, which can deadlock where there are threads.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Final, Self

from xuankan.errors import XuankanError

_LAUNCHER: Final = """
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""
_LONGEST_SOCKET_PATH: Final = 100
"""Linux allows 107 bytes."""


class Child(ABC):
    """A child process, its temporary directory and its end; a context manager, asynchronous or not."""

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
        self._environment: dict[str, str] = {}

    @abstractmethod
    def _command(self, directory: Path) -> Sequence[str]: ...

    @abstractmethod
    def _is_ready(self) -> bool: ...

    def start(self) -> Self:
        """Start, and return once it serves; also again after `kill`, or after it ended by itself.

        Raises:
            XuankanError: it cannot be started; the message says why, with the end of its log.
        """
        with self._lock:
            if self._closed or (self._process is not None and self._process.poll() is None):
                raise RuntimeError(f"{self._what} is {'closed' if self._closed else 'running'}")
            if self._directory is None:
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

    @property
    def pid(self) -> int:
        """Its process; there while it runs."""
        assert self._process is not None, "it has not been started: use it in a with statement"
        return self._process.pid

    def kill(self) -> None:
        """End it by SIGKILL, as a crash would, and return once it is gone; `start` brings it back."""
        with self._lock:
            if (process := self._process) is not None:
                process.kill()
                process.wait()
                self._process = None

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
                with log_path.open("ab") as log:
                    process = subprocess.Popen(  # noqa: S603  # our own command
                        [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), *command],
                        env=os.environ | self._environment,
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
                raise self._error(f"{self._what} was closed while starting")
            if process.poll() is not None:
                raise self._error(f"{self._what} ended while starting:\n{self._log_end()}")
            if time.monotonic() > until_s:
                raise self._error(
                    f"{self._what} is not ready after {self._start_timeout_s:g} s:\n{self._log_end()}"
                )
            time.sleep(0.005)

    def _log_end(self) -> str:
        assert self._directory is not None
        with contextlib.suppress(OSError):
            lines = (self._directory / "log").read_text(errors="replace").strip().splitlines()
            return "\n".join(lines[-8:]) or "(no output)"
        return "(its log is gone)"

    def _discard(self) -> None:
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
