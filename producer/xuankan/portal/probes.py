"""`/metrics`, `/healthz` and `/readyz` for operators, on a port and in a thread of their own.

Whatever strangers do to the portal's event loop, its supervisor is answered: alive is a portal whose loop has
gone round lately, however slowly, and only one that has stopped for long should be restarted.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import AsyncGenerator
from typing import Any, Final, cast

import uvicorn
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from xuankan.portal.connections import Connections
from xuankan.portal.gateway import Gateway

_MAX_CONNECTIONS: Final = 64
"""A scraper and a kubelet need one each."""
_TURN_S: Final = 1.0
_STOPPED_S: Final = 60.0
"""How long the event loop may go without a turn before the portal counts as dead."""
_READY_S: Final = 5.0
_GOODBYE_S: Final = 1


class Probes:
    """What operators ask of a gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._turned_s = time.monotonic()

    @contextlib.asynccontextmanager
    async def served(self, listener: socket.socket) -> AsyncGenerator[None]:
        """Answer on a listening socket, which is closed in the end."""
        self._loop = asyncio.get_running_loop()
        config = uvicorn.Config(
            Starlette(
                routes=[
                    Route("/healthz", self._healthz),
                    Route("/readyz", self._readyz),
                    Route("/metrics", self._metrics),
                ]
            ),
            # One address may have all: kubelet and Prometheus may sit behind the same.
            http=cast(Any, Connections(_MAX_CONNECTIONS, ("*",)).protocol),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_GOODBYE_S,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],), name="xuankan-portal-probes")
        turning = asyncio.create_task(self._turn(), name="xuankan-portal-turn")
        thread.start()
        try:
            yield
        finally:
            turning.cancel()
            server.should_exit = True
            await asyncio.to_thread(thread.join)
            listener.close()

    async def _turn(self) -> None:
        while True:
            self._turned_s = time.monotonic()
            await asyncio.sleep(_TURN_S)

    async def _metrics(self, request: Request) -> Response:
        encode, kind = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(self._gateway.metrics.registry), headers={"Content-Type": kind})

    async def _healthz(self, _: Request) -> Response:
        stopped_s = time.monotonic() - self._turned_s
        if stopped_s < _STOPPED_S:
            return PlainTextResponse("ok\n")
        return PlainTextResponse(f"the event loop has not gone round for {stopped_s:.0f} s\n", 503)

    async def _readyz(self, _: Request) -> Response:
        asked = asyncio.run_coroutine_threadsafe(self._gateway.not_ready(), self._loop)
        try:
            async with asyncio.timeout(_READY_S):
                reason = await asyncio.wrap_future(asked)
        except TimeoutError:
            reason = f"it is too busy to tell within {_READY_S:g} s"
        return PlainTextResponse("ok\n") if reason is None else PlainTextResponse(f"{reason}\n", 503)
