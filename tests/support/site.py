"""The page for authors: where it is served, and the worker that scores for it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass

from playwright.async_api import Page

from tests.support.engine import ScriptedEngine
from tests.support.world import TEMPERATURE, WEIGHT, config
from xuankan.catalogue import Catalogue
from xuankan.protocol.template import Template
from xuankan_worker.execution.served_model import ServedModel
from xuankan_worker.worker import Worker

OpenPage = Callable[..., Awaitable[Page]]


@dataclass(frozen=True)
class Site:
    """Where the page is, and what scores: `engine.gate` cleared, nothing is."""

    url: str
    server_url: str
    engine: ScriptedEngine


@contextlib.contextmanager
def scoring(url: str, engine: ScriptedEngine) -> Generator[None]:
    """A worker with the package's catalogue, in a thread."""
    ready, ended = threading.Event(), threading.Event()

    async def serve() -> None:
        served = ServedModel(
            engine, Template.default(), Catalogue.default(), "release-1", WEIGHT, TEMPERATURE
        )
        async with Worker(config(url), served):
            ready.set()
            await asyncio.to_thread(ended.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="worker")
    thread.start()
    try:
        assert ready.wait(30), "the worker did not start"
        yield
    finally:
        engine.gate.set()
        ended.set()
        thread.join(30)
        assert not thread.is_alive()
