"""From a manuscript to its journals, in a real browser on a real portal, queue and worker."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import httpx2
import pytest
from playwright.async_api import Route, expect

from tests.support.gateway import OJS, served
from tests.support.page import paper, rank, ranked, titles, write
from tests.support.site import OpenPage, Site
from xuankan.embedded.servers import EmbeddedWorker

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def test_an_author_pastes_a_manuscript_and_sees_its_journals(site: Site, open_page: OpenPage) -> None:
    page = await open_page()
    await rank(page)
    async with httpx2.AsyncClient(base_url=site.url, timeout=30) as client:
        body = {"title": paper()["title"], "abstract": paper()["abstract"], "top_k": 50}
        answer: dict[str, Any] = (await client.post("/v1/rankings", json=body)).json()
    names = [place["journal"]["title"] for place in answer["journals"]]
    assert await titles(page) == names[:10]
    first, best = page.locator(".place").first, answer["journals"][0]
    await expect(first).to_contain_text(f"fit {100 * best['score']:.1f}%")
    for fact in (best["journal"]["publisher"], *best["journal"]["issns"]):
        await expect(first).to_contain_text(fact)
    # The list continues, and the keyboard stands on what is new.
    await page.get_by_role("button", name="Show 10 more").click()
    assert await titles(page) == names[:20]
    await expect(page.locator(".place h3").nth(10)).to_be_focused()


async def test_bars_are_as_long_as_the_fit_beside_the_best(open_page: OpenPage) -> None:
    page = await open_page()
    await rank(page)
    shown = await page.locator(".place .fit").evaluate_all(
        """fits => fits.map((fit) => {
            const bar = fit.querySelector(".bar");
            return [bar.firstChild.getBoundingClientRect().width / bar.getBoundingClientRect().width,
                    parseFloat(fit.textContent.slice(4))];
        })"""
    )
    assert shown[0][0] == pytest.approx(1.0)
    for width, percent in shown:
        assert width == pytest.approx(max(0.01, percent / shown[0][1]), abs=0.02)


async def test_a_journal_shows_papers_it_published_and_leads_to_its_page(open_page: OpenPage) -> None:
    page = await open_page()
    await rank(page)
    papers = page.locator(".place details").first
    await expect(papers.locator("li").first).to_be_hidden()
    await papers.get_by_text("Papers it has published").click()
    await expect(papers.locator("li").first).to_be_visible()
    for link in await page.locator(".place h3 a").all():
        assert (await link.get_attribute("href") or "").startswith(("http://", "https://"))
        assert await link.get_attribute("rel") == "noopener noreferrer"


async def test_similar_papers_come_first_and_lead_only_to_the_web(open_page: OpenPage) -> None:
    page = await open_page()

    def with_papers(text: str) -> str:
        """An event or an answer, with papers if it is a ranking."""
        head = "data: " if text.startswith("data: ") else ""
        body: dict[str, Any] = (
            json.loads(text.removeprefix(head)) if text.startswith(("{", "data: {")) else {}
        )
        if body.get("status") != "done":
            return text
        first = {"title": "Drag of <b>spheres</b>", "year": 2016, "link": "https://doi.org/10.1/x"}
        others = [
            {"title": "Unlinked", "year": 2012, "link": None},
            {"title": "Hostile", "year": 2011, "link": "javascript:alert(1)"},
        ]
        body["journals"][0]["evidence"] = [{**paper, "nearness": 0.8} for paper in (first, *others)]
        return head + json.dumps(body | {"few_fit": True})

    async def answer(route: Route) -> None:
        found = await route.fetch()
        lines = (await found.text()).split("\n")
        await route.fulfill(response=found, body="\n".join(map(with_papers, lines)))

    await page.route(re.compile(r"/v1/rankings"), answer)
    await rank(page)
    first = page.locator(".place").first
    await expect(first.get_by_role("heading", name="Similar papers there")).to_be_visible()
    await expect(first.locator(".similar li")).to_have_text(
        [re.compile(r"^Drag of <b>spheres</b>.* 2016$"), "Unlinked 2012", "Hostile 2011"]
    )
    (link,) = await first.locator(".similar a").all()
    assert await link.get_attribute("href") == "https://doi.org/10.1/x"
    assert await link.get_attribute("target") == "_blank"
    assert "noopener" in (await link.get_attribute("rel") or "")
    await expect(page.get_by_text("Few journals here fit this manuscript")).to_be_visible()
    # A journal without similar papers shows those of its profile.
    await expect(page.locator(".place").nth(1).get_by_text("Papers it has published")).to_be_visible()


async def test_the_way_to_the_ranking_is_shown(site: Site, open_page: OpenPage) -> None:
    page = await open_page()
    site.engine.gate.clear()
    await write(page)
    await page.get_by_label("Abstract").press("Control+Enter")
    step = page.locator(".steps [aria-current=step]")
    await expect(step).to_have_text("Ranking")
    await expect(page.locator("#live")).to_have_text("Reading the journals' profiles against your manuscript")
    await expect(page.get_by_role("button", name="Find journals")).to_be_disabled()
    await expect(page.locator("#results")).to_have_attribute("aria-busy", "true")
    site.engine.gate.set()
    await ranked(page)
    await expect(page.locator("#live")).to_contain_text("50 journals ranked. The best fit is")
    await expect(page.locator("#results")).to_be_focused()
    await expect(page.get_by_role("button", name="Find journals")).to_be_enabled()


async def test_cancelling_takes_the_request_back(site: Site, open_page: OpenPage) -> None:
    page = await open_page()
    site.engine.gate.clear()
    await write(page)
    await page.get_by_role("button", name="Find journals").click()
    async with page.expect_response(lambda answer: answer.request.method == "DELETE") as deleted:
        await page.get_by_role("button", name="Cancel").click()
    assert (await deleted.value).status == 204
    await expect(page.get_by_text("Or try one of these")).to_be_visible()
    await expect(page.get_by_label("Title", exact=True)).to_be_focused()
    assert await page.get_by_label("Abstract").input_value() == paper()["abstract"]
    site.engine.gate.set()
    await rank(page)


async def test_a_reload_brings_the_ranking_back(open_page: OpenPage) -> None:
    page = await open_page()
    await rank(page)
    before = await titles(page)
    assert "#r=" in page.url
    await page.reload()
    await ranked(page)
    assert await titles(page) == before
    await page.goto(page.url.split("#")[0] + "#r=gone")
    await page.reload()
    await expect(page.get_by_role("alert")).to_contain_text("no longer kept")


@pytest.mark.parametrize(
    ("title", "abstract", "place", "says"),
    [
        ("", "", "#title-error", "Give at least a title or an abstract."),
        ("珊瑚礁的恢复", "", "#title-error", "give the title and the abstract in English"),
        ("Reefs", "word " * 30_000, "#abstract-error", "Submit only the abstract, not the whole text"),
    ],
)
async def test_what_is_wrong_is_said_beside_its_field(
    open_page: OpenPage, title: str, abstract: str, place: str, says: str
) -> None:
    page = await open_page()
    await page.get_by_label("Title", exact=True).fill(title)
    await page.get_by_label("Abstract").fill(abstract)
    await page.get_by_role("button", name="Find journals").click()
    await expect(page.locator(place)).to_contain_text(says)
    field = page.locator(place.removesuffix("-error"))
    await expect(field).to_be_focused()
    await expect(field).to_have_attribute("aria-invalid", "true")
    await field.fill("Reefs recover")
    await expect(page.locator(place)).to_be_hidden()


async def test_filters_choose_what_is_ranked(open_page: OpenPage) -> None:
    page = await open_page()
    await page.locator("#filters summary").click()
    await expect(page.get_by_label("Publishes in")).to_contain_text(re.compile(r"English \(\d+\)"))
    await page.get_by_label("Open access").check()
    await page.get_by_label("Publisher").fill("springer")
    await page.get_by_label("Publisher").press("Enter")
    await expect(page.get_by_role("button", name="Remove springer")).to_be_visible()
    await expect(page.locator("#filter-count")).to_contain_text("of 632 journals")
    count = int((await page.locator("#filter-count").inner_text()).split()[0])
    await rank(page)
    badges = page.locator(".place .badge:first-child")
    assert await badges.count() == count
    assert set(await badges.all_inner_texts()) <= {"Open access", "Open, free for authors"}
    for facts in await page.locator(".place .facts").all_inner_texts():
        assert "springer" in facts.lower()
    await expect(page.locator(".warnings")).to_contain_text("The filters left out")
    await page.get_by_role("button", name="Remove springer").click()
    await page.get_by_label("Charge at most").fill("0")
    await page.get_by_label("Subject").fill("surgery of reefs")
    await page.get_by_role("button", name="Find journals").click()
    await expect(page.locator("#filters-error")).to_contain_text("None of 632 journals passes")
    assert await badges.count() == count  # the ranking before stays


async def test_a_network_that_is_away_is_said_and_forgiven(open_page: OpenPage) -> None:
    page = await open_page()
    await page.context.set_offline(True)
    await write(page)
    await page.get_by_role("button", name="Find journals").click()
    await expect(page.get_by_role("alert")).to_contain_text("The server cannot be reached.")
    await page.context.set_offline(False)
    await page.get_by_role("button", name="Find journals").click()
    await ranked(page)
    await expect(page.get_by_role("alert")).to_be_empty()


async def test_a_broken_stream_is_taken_up_again(site: Site, open_page: OpenPage) -> None:
    page = await open_page()
    opened = asyncio.Semaphore(0)

    async def break_once(route: Any) -> None:
        opened.release()
        await route.abort("connectionreset")

    await page.route("**/events", break_once, times=1)
    site.engine.gate.clear()
    await write(page)
    await page.get_by_role("button", name="Find journals").click()
    await asyncio.wait_for(opened.acquire(), 20)
    site.engine.gate.set()
    await ranked(page)


async def test_a_site_with_keys_asks_for_one(locked_url: str, open_page: OpenPage) -> None:
    page = await open_page(f"{locked_url}/")
    await page.get_by_label("Key", exact=True).fill("xk_wrong")
    await page.get_by_role("button", name="Use it").click()
    await expect(page.get_by_role("dialog")).to_be_visible()
    await page.get_by_label("Key", exact=True).fill(OJS)
    await page.get_by_role("button", name="Use it").click()
    await expect(page.get_by_role("dialog")).to_be_hidden()
    await rank(page)


async def test_the_packaged_model_finds_the_journal_of_a_real_paper(site: Site, open_page: OpenPage) -> None:
    """Another deployment on the same server: the portal as it is installed, and a worker as it is."""
    with (
        served(site.server_url, namespace="real", catalogue=None) as url,
        EmbeddedWorker(site.server_url, namespace="real"),
    ):
        page = await open_page(f"{url}/")
        await page.get_by_role("button", name=paper()["title"]).click()
        await ranked(page)
        assert (await titles(page))[0] == paper()["journal"]
