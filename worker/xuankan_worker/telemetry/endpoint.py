"""`/metrics`, `/healthz` and `/readyz`, for Prometheus and Kubernetes. Not a public face."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from http import HTTPStatus

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

_TIMEOUT_S = 5.0
_GOODBYE_S = 1.0
"""How long those that are being answered are waited for at the end."""
_MAX_HEAD_BYTES = 8192
_MAX_CONNECTIONS = 64
"""More at a time are closed unheard: a scraper needs one."""


class HttpEndpoint:
    """Answers one GET a connection.

    `not_ready` returns why the worker is not ready for traffic, or None if it is.
    """

    def __init__(self, registry: CollectorRegistry, not_ready: Callable[[], str | None]) -> None:
        self._registry = registry
        self._not_ready = not_ready
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[object]] = set()
        self.port = 0

    async def start(self, host: str, port: int) -> None:
        """Listen; port 0 takes any free one, and `port` then says which.

        Raises:
            OSError: the port is taken or not allowed.
        """
        self._server = await asyncio.start_server(self._serve, host, port, limit=_MAX_HEAD_BYTES)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
        if self._connections:
            await asyncio.wait(self._connections, timeout=_GOODBYE_S)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            if len(self._connections) > _MAX_CONNECTIONS:
                return
            async with asyncio.timeout(_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
                request_line, *headers = head.decode("latin-1").split("\r\n")
                writer.write(self._response(request_line, _accept(headers)))
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # a peer that went away or does not speak HTTP
        finally:
            writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(_TIMEOUT_S):
                    await writer.wait_closed()
            self._connections.discard(task)

    def _response(self, request_line: str, accept: str) -> bytes:
        method, _, rest = request_line.partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        status, kind, body = HTTPStatus.OK, "text/plain; charset=utf-8", b"ok\n"
        if method not in ("GET", "HEAD"):
            status, body = HTTPStatus.METHOD_NOT_ALLOWED, b"only GET\n"
        elif path == "/metrics":
            encode, kind = choose_encoder(accept)  # OpenMetrics, which carries exemplars, to whom asks for it
            body = encode(self._registry)
        elif path == "/readyz":
            if (reason := self._not_ready()) is not None:
                status, body = HTTPStatus.SERVICE_UNAVAILABLE, f"{reason}\n".encode()
        elif path != "/healthz":
            status, body = HTTPStatus.NOT_FOUND, b"/metrics, /healthz or /readyz\n"
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {kind}\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        return head.encode() + (b"" if method == "HEAD" else body)


def _accept(headers: list[str]) -> str:
    for header in headers:
        name, _, value = header.partition(":")
        if name.strip().lower() == "accept":
            return value.strip()
    return ""
