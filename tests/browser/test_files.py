"""Files: chosen, dropped, with several entries, and such that cannot be read."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.support.page import BIBLIOGRAPHY, choose, paper, ranked
from tests.support.site import OpenPage

pytestmark = pytest.mark.asyncio(loop_scope="package")

FILES = Path(__file__).parents[1] / "data" / "documents"


async def test_a_chosen_pdf_fills_the_form_and_can_be_ranked(open_page: OpenPage) -> None:
    page = await open_page()
    await page.locator("#file").set_input_files(FILES / "ieee.pdf")
    await expect(page.locator("#file-state")).to_contain_text("taken from ieee.pdf. Please check them.")
    await expect(page.get_by_label("Title", exact=True)).to_have_value(paper(1)["title"])
    await expect(page.get_by_label("Abstract")).to_have_value(paper(1)["abstract"])
    await expect(page.get_by_label("Keywords")).to_have_value("cold load, smart meters, restoration")
    await expect(page.locator("#words")).to_have_text(f"{len(paper(1)['abstract'].split())} words")
    await page.keyboard.press("Control+Enter")
    await ranked(page)


async def test_a_file_may_be_dropped_anywhere(open_page: OpenPage) -> None:
    page = await open_page()
    transfer = await page.evaluate_handle(
        """(content) => {
            const transfer = new DataTransfer();
            const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
            transfer.items.add(new File([bytes], "reefs.tex"));
            return transfer;
        }""",
        base64.b64encode(rb"\title{On reefs}\begin{abstract}Reefs recover.\end{abstract}").decode(),
    )
    await page.dispatch_event("footer", "dragenter", {"dataTransfer": transfer})
    await expect(page.get_by_text("Drop it to read the title")).to_be_visible()
    await page.dispatch_event("footer", "drop", {"dataTransfer": transfer})
    await expect(page.get_by_text("Drop it to read the title")).to_be_hidden()
    await expect(page.get_by_label("Title", exact=True)).to_have_value("On reefs")
    await expect(page.get_by_label("Abstract")).to_have_value("Reefs recover.")


async def test_of_a_bibliography_one_is_chosen(open_page: OpenPage) -> None:
    page = await open_page()
    await choose(page, "refs.bib", BIBLIOGRAPHY)
    dialog = page.get_by_role("dialog", name="Which one?")
    await expect(dialog.get_by_role("button", name="On")).to_have_count(2)
    await expect(page.locator("#file-state")).to_contain_text("1 more entries are not shown.")
    await dialog.get_by_label("Search the titles").fill("reef dna")
    await expect(dialog.get_by_role("button", name="On")).to_have_count(1)
    await dialog.get_by_role("button", name="On the DNA of reefs").click()
    await expect(page.get_by_label("Title", exact=True)).to_have_value("On the DNA of reefs")
    await expect(page.get_by_label("Keywords")).to_have_value("reef, fish")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("paper.pdf", b"not one", "It is called .pdf but is none"),
        ("paper.pages", b"x", "A file called .pages"),
        ("locked.pdf", None, "It wants a password"),
    ],
)
async def test_a_file_that_cannot_be_read_leaves_the_form_alone(
    open_page: OpenPage, name: str, content: bytes | None, says: str
) -> None:
    page = await open_page()
    await page.get_by_label("Title", exact=True).fill("Mine")
    await choose(page, name, (FILES / name).read_bytes() if content is None else content)
    await expect(page.locator("#file-state.wrong")).to_contain_text(says)
    await expect(page.get_by_label("Title", exact=True)).to_have_value("Mine")


async def test_markup_in_a_file_stays_text(open_page: OpenPage) -> None:
    page = await open_page()
    evil = "<img src=x onerror=alert(1)><b>Bold</b>"
    entries = f"@article{{a, title = {{{evil}}}, abstract = {{{evil}}}}}\n@article{{b, title = {{Second}}}}"
    await choose(page, f"{evil}.bib".replace("/", "-"), entries.encode())
    # Tags that exports carry are taken away; any other is text.
    await expect(page.locator("#pick-list b").first).to_have_text("<img src=x onerror=alert(1)>Bold")
    assert await page.locator("#pick-list img, #file-state img").count() == 0
