"""What an author does on the page."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

from playwright.async_api import FilePayload, Page, expect

BIBLIOGRAPHY = b"""
@article{one, title = {On the {DNA} of reefs}, abstract = {Reefs recover.}, keywords = {reef, fish}}
@article{two, title = {On plasma}}
@article{three, author = {Nobody}}
"""


@cache
def paper(number: int = 3) -> dict[str, Any]:
    """A real manuscript: title, abstract and the journal that published it."""
    lines = (files("xuankan") / "data" / "manuscripts.jsonl").read_text().splitlines()
    return json.loads(lines[number])


async def write(page: Page, number: int = 3) -> None:
    await page.locator("#title").fill(paper(number)["title"])
    await page.locator("#abstract").fill(paper(number)["abstract"])


async def rank(page: Page, number: int = 3) -> None:
    """Type a manuscript, ask, and wait for the ranking."""
    await write(page, number)
    await page.locator("#submit").click()
    await ranked(page)


async def ranked(page: Page) -> None:
    await expect(page.locator(".place").first).to_be_visible(timeout=60_000)


async def titles(page: Page) -> list[str]:
    """The journals shown, best first."""
    found = await page.locator(".place h3 a").evaluate_all(
        "links => links.map(link => link.firstChild.textContent)"
    )
    return list(found)


async def choose(page: Page, name: str, content: bytes) -> None:
    """Choose a file in the form."""
    file = FilePayload(name=name, mimeType="application/octet-stream", buffer=content)
    await page.locator("#file").set_input_files(file)
