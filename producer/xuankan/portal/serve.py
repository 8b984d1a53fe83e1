"""Running a portal until a signal ends it: SIGTERM drains, and calls that wait are told to come again."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Sequence
from types import FrameType
from typing import Final

import uvicorn
from prometheus_client import start_http_server

from xuankan.errors import InputError
from xuankan.portal.app import application
from xuankan.portal.gateway import Gateway
from xuankan.portal.settings import PortalSettings

_log = logging.getLogger("xuankan.portal")

_BACKLOG: Final = 1024
_MAX_CONNECTIONS: Final = 4000
_KEEP_ALIVE_S: Final = 30
_DRAIN_S: Final = 10


async def serve(
    settings: PortalSettings,
    host: str,
    port: int,
    *,
    metrics_port: int | None = None,
    trusted_proxies: Sequence[str] = (),
) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        settings: the portal's.
        host: where to listen.
        port: the same; 0 takes a free one, and the log says which.
        metrics_port: where `/metrics` is served on the same host; None for nowhere.
        trusted_proxies: addresses or networks whose `X-Forwarded-For` is believed.

    Raises:
        InputError: settings that cannot be used, or an address that cannot be listened on.
        CatalogueError: the package's catalogue cannot be read.
    """
    gateway = Gateway(settings)
    listener = _listen(host, port)
    config = uvicorn.Config(
        application(gateway),
        backlog=_BACKLOG,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=_MAX_CONNECTIONS,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_DRAIN_S,
        proxy_headers=bool(trusted_proxies),
        forwarded_allow_ips=list(trusted_proxies),
    )
    before = signal.signal(signal.SIGTERM, _ended)
    metrics = None
    try:
        if metrics_port is not None:
            try:
                metrics, _ = start_http_server(metrics_port, host, gateway.metrics.registry)
            except OSError as error:
                raise InputError("metrics_port", f"{host}:{metrics_port}: {error.strerror}") from None
        _log.info("listening on http://%s", _address(listener))
        await _Server(config, gateway).serve([listener])
    finally:
        if metrics is not None:
            await asyncio.to_thread(metrics.shutdown)
            metrics.server_close()
        listener.close()
        signal.signal(signal.SIGTERM, before)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, gateway: Gateway) -> None:
        super().__init__(config)
        self._gateway = gateway
        self._loop = asyncio.get_running_loop()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Calls that wait and event streams would hold up the end.
        self._loop.call_soon_threadsafe(self._gateway.draining.set)
        super().handle_exit(sig, frame)


def _ended(number: int, frame: FrameType | None) -> None:
    """Uvicorn raises the signals that it caught once more when it is done; then this has nothing to do."""
    del number, frame


def _listen(host: str, port: int) -> socket.socket:
    try:
        ((family, *_), *_) = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise InputError("port", f"cannot listen on {host}:{port}: {error.strerror}") from None


def _address(listener: socket.socket) -> str:
    host, port, *_ = listener.getsockname()
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
