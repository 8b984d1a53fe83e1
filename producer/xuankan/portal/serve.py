"""Running a portal until a signal ends it: SIGTERM drains, and calls that wait are told to come again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Sequence
from types import FrameType
from typing import Any, Final, cast

import uvicorn

from xuankan.errors import InputError
from xuankan.portal.app import application
from xuankan.portal.connections import ACCEPTED_AT_ONCE, Connections
from xuankan.portal.gateway import Gateway
from xuankan.portal.probes import Probes
from xuankan.portal.settings import PortalSettings

_log = logging.getLogger("xuankan.portal")

_BACKLOG: Final = 1024
_KEEP_ALIVE_S: Final = 30
_DRAIN_S: Final = 10


async def serve(
    settings: PortalSettings,
    host: str,
    port: int,
    *,
    metrics_host: str | None = None,
    metrics_port: int | None = None,
    trusted_proxies: Sequence[str] = (),
) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        settings: the portal's.
        host: where to listen.
        port: the same; 0 takes a free one, and the log says which.
        metrics_host: where `/metrics`, `/healthz` and `/readyz` are served for operators; None: on `host`.
        metrics_port: the same; None for nowhere.
        trusted_proxies: addresses or networks whose `X-Forwarded-For` is believed.

    Raises:
        InputError: settings that cannot be used, or an address that cannot be listened on.
        CatalogueError: the package's catalogue cannot be read.
    """
    gateway = Gateway(settings)
    connections = Connections(trusted_proxies=trusted_proxies)
    listener = listen(host, port, "port")
    config = uvicorn.Config(
        application(gateway),
        http=cast(Any, connections.protocol),
        backlog=ACCEPTED_AT_ONCE,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_DRAIN_S,
        proxy_headers=bool(trusted_proxies),
        forwarded_allow_ips=list(trusted_proxies),
    )
    before = signal.signal(signal.SIGTERM, _ended)
    asyncio.get_running_loop().set_exception_handler(connections.fault)
    try:
        async with contextlib.AsyncExitStack() as stack:
            if metrics_port is not None:
                probed = listen(metrics_host or host, metrics_port, "metrics_port")
                await stack.enter_async_context(Probes(gateway).served(probed))
            _log.info("listening on http://%s", _address(listener))
            await _Server(config, gateway).serve([listener])
    finally:
        listener.close()
        signal.signal(signal.SIGTERM, before)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, gateway: Gateway) -> None:
        super().__init__(config)
        self._gateway = gateway
        self._loop = asyncio.get_running_loop()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        # asyncio accepts as many connections at once as may wait, before it can refuse any.
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(_BACKLOG)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Calls that wait and event streams would hold up the end.
        self._loop.call_soon_threadsafe(self._gateway.draining.set)
        super().handle_exit(sig, frame)


def _ended(number: int, frame: FrameType | None) -> None:
    """Uvicorn raises the signals that it caught once more when it is done; then this has nothing to do."""
    del number, frame


def listen(host: str, port: int, field: str) -> socket.socket:
    """A listening socket.

    Raises:
        InputError: of `field`: the address cannot be listened on.
    """
    try:
        ((family, *_), *_) = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise InputError(field, f"cannot listen on {host}:{port}: {error.strerror}") from None


def _address(listener: socket.socket) -> str:
    host, port, *_ = listener.getsockname()
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
