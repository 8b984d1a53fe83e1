"""Files: chosen, dropped, with several entries, and such that cannot be read."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from playwright.async_api import FilePayload, expect

from tests.support.page import BIBLIOGRAPHY, choose, paper, ranked, titles
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


def citing(*journals: str) -> bytes:
    works = "".join(rf"\bibitem{{a}} A. Author, {journal} 1, 2 (2001).\n" for journal in journals)
    return (
        rf"\documentclass{{article}}\title{{{paper()['title']}}}\begin{{document}}"
        r"\begin{abstract}Charge order.\end{abstract}"
        rf"\begin{{thebibliography}}{{9}}{works}\end{{thebibliography}}\end{{document}}"
    ).encode()


async def test_the_page_says_which_journals_the_manuscript_cites(open_page: OpenPage) -> None:
    page = await open_page()
    await choose(page, "main.tex", citing())
    await expect(page.locator("#file-state")).to_contain_text("taken from main.tex")
    await page.locator("#submit").click()
    await ranked(page)
    best = (await titles(page))[0]
    assert await page.locator(".cited").count() == 0
    await choose(page, "main.tex", citing(best, best, "Journal of Nowhere"))
    found = page.locator("#references-state")
    await expect(found).to_contain_text("main.tex: 3 references, 2 of them to 1 journals")
    await page.locator("#submit").click()
    cited = page.locator(".place").first.locator(".cited")
    await expect(cited).to_have_text("You cite this journal 2 times")
    await page.get_by_role("button", name="中文").click()
    await expect(cited).to_have_text("您引用了该刊 2 次")
    await expect(found).to_contain_text("main.tex：3 条参考文献")


async def test_a_reference_list_beside_the_manuscript(open_page: OpenPage) -> None:
    page = await open_page()
    works = b"@article{a, title={X}, journal={Nature}}\n@article{b, title={Y}, journal={Phys. Rev. B}}"
    both = [
        FilePayload(name=name, mimeType="application/octet-stream", buffer=content)
        for name, content in (("refs.bib", works), ("main.tex", citing("Phys. Rev. B")))
    ]
    await page.locator("#file").set_input_files(both)
    # Given beside the manuscript it counts instead of the list in it.
    await expect(page.locator("#references-state")).to_contain_text("refs.bib: 2 references")
    await expect(page.get_by_label("Title", exact=True)).to_have_value(paper()["title"])
    await page.get_by_role("button", name="Remove Reference list").click()
    await expect(page.locator("#references-state")).to_have_text("")
    await page.get_by_label("Add your reference list").set_input_files(both[0])
    await expect(page.locator("#references-state")).to_contain_text("refs.bib: 2 references")
    unread = FilePayload(name="refs.bib", mimeType="application/octet-stream", buffer=b"nothing")
    await page.get_by_label("Add your reference list").set_input_files(unread)
    await expect(page.locator("#references-state.wrong")).to_contain_text("No references were found in it")


async def test_markup_in_a_file_stays_text(open_page: OpenPage) -> None:
    page = await open_page()
    evil = "<img src=x onerror=alert(1)><b>Bold</b>"
    entries = f"@article{{a, title = {{{evil}}}, abstract = {{{evil}}}}}\n@article{{b, title = {{Second}}}}"
    await choose(page, f"{evil}.bib".replace("/", "-"), entries.encode())
    # Tags that exports carry are taken away; any other is text.
    await expect(page.locator("#pick-list b").first).to_have_text("<img src=x onerror=alert(1)>Bold")
    assert await page.locator("#pick-list img, #file-state img").count() == 0
