"""`python -m tests.support.traced URL TRACEPARENT`: a portal and a worker that are traced, and one call."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import MutableMapping
from typing import Any

from tests.support import portal
from tests.support.engine import ScriptedEngine
from tests.support.world import running
from xuankan.errors import RequestExpired
from xuankan.tracing import Traced, configure


async def main(url: str, traceparent: str) -> None:
    async with running(url, ScriptedEngine(row_s=0.001)), portal.producer(url) as producer:

        async def app(scope: Any, receive: Any, send: Any) -> None:
            del scope, receive
            ranking = await producer.rank(portal.manuscript())
            portal.assert_right(ranking, portal.manuscript())
            await send({"type": "http.response.start", "status": 200, "headers": []})

        async def receive() -> MutableMapping[str, Any]:
            return {"type": "http.disconnect"}

        async def send(message: MutableMapping[str, Any]) -> None:
            del message

        scope = {"type": "http", "method": "POST", "path": "/v1/rankings/wait"}
        await Traced(app)({**scope, "headers": [(b"traceparent", traceparent.encode())]}, receive, send)
    # Nobody serves this one: it expires, in a trace of its own.
    async with portal.producer(url) as producer:
        try:
            await producer.rank(portal.manuscript(1), deadline_s=0.2)
        except RequestExpired:
            return
    raise AssertionError


if __name__ == "__main__":
    configure("xuankan-test")
    asyncio.run(main(*sys.argv[1:]))
