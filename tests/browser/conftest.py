"""A portal with the package's own catalogue, a worker whose engine waits on demand, and a real browser."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, ConsoleMessage, Page, Request, async_playwright, expect

from tests.support.engine import ScriptedEngine
from tests.support.gateway import served, write_keys
from tests.support.programs import need
from tests.support.server import ValkeyProcess
from tests.support.site import OpenPage, Site, scoring
from xuankan.catalogue import Catalogue

_PATIENCE_MS = 30_000
"""On a machine that is busy with other things."""
expect.set_options(timeout=_PATIENCE_MS)


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    server, engine = ValkeyProcess(tmp_path_factory.mktemp("valkey")), ScriptedEngine()
    server.start()
    try:
        with served(server.url, catalogue=Catalogue.default()) as url, scoring(server.url, engine):
            yield Site(url, server.url, engine)
    finally:
        server.kill()


@pytest.fixture(autouse=True)
def open_gate(site: Site) -> Iterator[None]:
    yield
    site.engine.gate.set()


@pytest.fixture
def locked_url(site: Site, tmp_path: Path) -> Iterator[str]:
    """The same site, for those who have a key."""
    with served(site.server_url, catalogue=Catalogue.default(), keys_file=write_keys(tmp_path)) as url:
        yield url


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def browser() -> AsyncIterator[Browser]:
    chromium = need("chromium")
    async with async_playwright() as playwright:
        # CI runs as root, in a container of little shared memory.
        options = ["--no-sandbox", "--disable-dev-shm-usage"]
        browser = await playwright.chromium.launch(executable_path=chromium, args=options)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="package")
async def open_page(browser: Browser, site: Site) -> AsyncIterator[OpenPage]:
    """Opens the page in a browser of its own; whatever the test does, nothing may break or call elsewhere."""
    troubles: list[str] = []
    contexts: list[Any] = []

    def on_console(message: ConsoleMessage) -> None:
        # Chromium reports every answer that is a refusal.
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            troubles.append(message.text)

    async def open_one(url: str = "", **options: Any) -> Page:
        address = url or f"{site.url}/"
        options.setdefault("viewport", {"width": 1280, "height": 900})
        context = await browser.new_context(**options)
        contexts.append(context)
        context.set_default_timeout(_PATIENCE_MS)
        page = await context.new_page()
        page.on("pageerror", lambda error: troubles.append(f"{error}"))
        page.on("console", on_console)

        def on_request(request: Request) -> None:
            own = address.split("#")[0]
            if not request.url.startswith((own, "blob:", "data:")):
                troubles.append(f"asked elsewhere: {request.url}")

        page.on("request", on_request)
        await page.goto(address)
        await page.locator("#service").filter(has_text="632").wait_for()
        return page

    yield open_one
    for context in contexts:
        await context.close()
    assert troubles == []
