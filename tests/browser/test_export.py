"""What an author takes away: files that other programs read, and a comparison."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from pathlib import Path

import pytest
from bibtexparser.entrypoint import parse_string
from playwright.async_api import Page, expect

from tests.support.page import paper, rank, titles
from tests.support.site import OpenPage

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def saved(page: Page, kind: str, name: str) -> str:
    async with page.expect_download() as download:
        await page.get_by_role("group", name="Save as").get_by_role("button", name=kind).click()
    file = await download.value
    assert file.suggested_filename == name
    return await asyncio.to_thread(Path(await file.path()).read_text, encoding="utf-8")


async def test_a_ranking_is_saved_in_three_formats(open_page: OpenPage) -> None:
    page = await open_page()
    await rank(page)
    best = await titles(page)

    document = json.loads(await saved(page, "JSON", "journals.json"))
    assert document["manuscript"]["title"] == paper()["title"]
    assert [place["journal"]["title"] for place in document["journals"]][:10] == best

    text = await saved(page, "CSV", "journals.csv")
    assert text.startswith("\ufeff")  # else Excel takes it for another encoding
    rows = list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline="")))
    assert len(rows) == len(document["journals"]) == 50
    for row, place in zip(rows, document["journals"], strict=True):
        assert row["journal"] == place["journal"]["title"]
        assert row["publisher"] == (place["journal"]["publisher"] or "")
        assert float(row["fit"]) == place["score"]
        assert row["issn"] == "; ".join(place["journal"]["issns"])

    library = parse_string(await saved(page, "BibTeX", "journals.bib"))
    assert not library.failed_blocks
    assert [entry.key for entry in library.entries] == [p["journal"]["id"] for p in document["journals"]]
    for entry, place in zip(library.entries, document["journals"], strict=True):
        title = str(entry["title"]).strip("{}").replace("\\&", "&")
        assert title == place["journal"]["title"]


async def test_journals_side_by_side(open_page: OpenPage) -> None:
    page = await open_page()
    await rank(page)
    best = await titles(page)
    tray = page.get_by_role("region", name="Journals to compare")
    await expect(tray).to_be_hidden()
    for place in (2, 0):
        await page.get_by_role("checkbox", name=f"Compare {best[place]}", exact=True).check()
    await expect(tray).to_contain_text("2 of 4 chosen")
    await tray.get_by_role("button", name="Compare").click()
    dialog = page.get_by_role("dialog", name="Side by side")
    assert await dialog.locator("thead th").all_inner_texts() == ["Journal", best[0], best[2]]
    rows = await dialog.locator("tbody th").all_inner_texts()
    assert rows[:3] == ["Fit", "Rank", "Publisher"]
    assert await dialog.locator("tbody tr").nth(1).locator("td").all_inner_texts() == ["1", "3"]
    await page.keyboard.press("Escape")
    await expect(dialog).to_be_hidden()
    await expect(tray.get_by_role("button", name="Compare")).to_be_focused()
    for place in (1, 3):
        await page.get_by_role("checkbox", name=f"Compare {best[place]}", exact=True).check()
    await page.get_by_role("checkbox", name=f"Compare {best[4]}", exact=True).click()
    await expect(tray).to_contain_text("4 can be compared at once.")
    assert not await page.get_by_role("checkbox", name=f"Compare {best[4]}", exact=True).is_checked()
    await tray.get_by_role("button", name="Clear").click()
    await expect(tray).to_be_hidden()
