"""A portal of the small world on a port of its own, and a client for it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from pathlib import Path
from typing import Any

import httpx2
import uvicorn

from tests.support import portal
from tests.support.server import free_port
from tests.support.world import KEYS, catalogue
from xuankan.portal.app import application
from xuankan.portal.gateway import Gateway
from xuankan.portal.settings import PortalSettings

OJS, HUB = "xk_of-ojs", "xk_of-hub"
KEYS_FILE = """
[keys.ojs]
sha256 = "{ojs}"
[keys.hub]
sha256 = "{hub}"
rankings_per_minute = 6
burst = 3
"""


def paper(number: int = 0, **changes: Any) -> dict[str, Any]:
    """The body of a submission."""
    manuscript = portal.manuscript(number)
    return {"title": manuscript.title, "abstract": manuscript.abstract} | changes


def gateway(url: str, **changes: Any) -> Gateway:
    """The gateway of a portal of the server at `url`."""
    values: dict[str, Any] = {"namespace": KEYS.namespace, "catalogue": catalogue(), "server_timeout_s": 20.0}
    return Gateway(PortalSettings(url, **(values | changes)))


@contextlib.contextmanager
def served(url: str, **changes: Any) -> Generator[str]:
    """A portal of the server at `url`, in a thread; its own address."""
    with serving(gateway(url, **changes)) as address:
        yield address


@contextlib.contextmanager
def serving(of: Gateway) -> Generator[str]:
    """A portal of a gateway, in a thread; its own address."""
    port = free_port()
    config = uvicorn.Config(
        application(of),
        port=port,
        ws="none",
        log_config=None,
        timeout_graceful_shutdown=5,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="portal")
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the portal did not start"
            thread.join(0.01)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


@contextlib.asynccontextmanager
async def calling(url: str, key: str | None = None, **changes: Any) -> AsyncGenerator[httpx2.AsyncClient]:
    """A client of a portal of the server at `url`."""
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    portal_ = served(url, **changes)
    address = await asyncio.to_thread(portal_.__enter__)
    try:
        async with httpx2.AsyncClient(base_url=address, headers=headers, timeout=30) as client:
            yield client
    finally:
        await asyncio.to_thread(portal_.__exit__, None, None, None)


def write_keys(directory: Path, extra: str = "") -> Path:
    """A file of the keys `OJS`, of the usual allowance, and `HUB`, of a small one."""
    path = directory / "keys.toml"
    named = {name: hashlib.sha256(key.encode()).hexdigest() for name, key in (("ojs", OJS), ("hub", HUB))}
    path.write_text(KEYS_FILE.format(**named) + extra)
    return path


@contextlib.asynccontextmanager
async def states(client: httpx2.AsyncClient, path: str) -> AsyncGenerator[AsyncIterator[tuple[str, Any]]]:
    """The events of a stream: their names and what they say."""

    async def read(response: httpx2.Response) -> AsyncIterator[tuple[str, Any]]:
        name = ""
        async for line in response.aiter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                yield name, json.loads(line.removeprefix("data: "))

    async with client.stream("GET", path) as response:
        assert response.headers["content-type"].startswith("text/event-stream"), await response.aread()
        yield read(response)
