"""For everybody: screen readers (axe-core), the keyboard alone, a phone, little motion, and in Chinese."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.support.page import BIBLIOGRAPHY, choose, paper, rank, ranked, write
from tests.support.site import OpenPage, Site

pytestmark = pytest.mark.asyncio(loop_scope="package")

PHONE: dict[str, Any] = {
    "viewport": {"width": 360, "height": 740},
    "device_scale_factor": 2,
    "is_mobile": True,
    "has_touch": True,
}
LOOKS: dict[str, dict[str, Any]] = {
    "light": {},
    "dark": {"color_scheme": "dark"},
    "phone": PHONE | {"color_scheme": "dark", "locale": "zh-CN"},
    "contrast": {"forced_colors": "active"},
}


async def check(page: Page, where: str) -> None:
    """No rule of axe-core is broken, those of good practice included."""
    if not await page.evaluate("'axe' in window"):
        await page.evaluate((files("axe_playwright_python") / "axe.min.js").read_text())
    # Half-transparent colours of a picture that is being shown are no colours that anybody reads.
    await page.evaluate(
        """Promise.all(document.getAnimations()
            .filter((animation) => animation.effect.getTiming().iterations === 1)
            .map((animation) => animation.finished))"""
    )
    found = await page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    broken = [
        f"{rule['id']}: {rule['help']}: {[node['html'][:120] for node in rule['nodes'][:3]]}"
        for rule in found["violations"]
    ]
    assert not broken, f"{where}: {broken}"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("look", LOOKS)
async def test_axe_finds_nothing(site: Site, open_page: OpenPage, look: str) -> None:
    page = await open_page(**LOOKS[look])
    await page.locator(".examples button").first.wait_for()
    await check(page, "welcome")
    await page.locator("#filters summary").click()
    await page.locator("#publishers").fill("Springer")
    await page.locator("#publishers").press("Enter")
    await check(page, "filters")
    await page.locator("#submit").click()
    await expect(page.locator("#title-error")).to_be_visible()
    await check(page, "an error in the form")
    site.engine.gate.clear()
    await page.locator("#title").fill(paper()["title"])
    await page.locator("#submit").click()
    await expect(page.locator(".waiting")).to_be_visible()
    await check(page, "waiting")
    site.engine.gate.set()
    await ranked(page)
    await page.locator(".place summary").first.click()
    for box in (0, 1):
        await page.locator("input[data-journal]").nth(box).check()
    await check(page, "ranking")
    await page.locator("#tray-compare").click()
    await check(page, "comparison")
    await page.keyboard.press("Escape")
    await choose(page, "refs.bib", BIBLIOGRAPHY)
    await expect(page.locator("#pick")).to_be_visible()
    await check(page, "bibliography")


async def test_axe_finds_nothing_where_a_key_is_wanted(locked_url: str, open_page: OpenPage) -> None:
    page = await open_page(f"{locked_url}/")
    await expect(page.locator("#key")).to_be_visible()
    await check(page, "key")


async def test_the_keyboard_alone_is_enough(open_page: OpenPage) -> None:
    page = await open_page()
    keyboard = page.keyboard
    focused = page.locator(":focus")

    async def tab_to(selector: str, most: int = 40) -> None:
        for _ in range(most):
            await keyboard.press("Tab")
            if await page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
                outline = await focused.evaluate(
                    "e => getComputedStyle(e.closest('label.drop') ?? e).outlineStyle"
                )
                assert outline != "none", f"{selector} has the focus and does not show it"
                return
        raise AssertionError(f"{selector} is not reached by {most} tabs")

    await keyboard.press("Tab")
    await expect(focused).to_have_text("Skip to the ranking")
    await expect(focused).to_be_in_viewport()
    await tab_to("#file")
    await tab_to("#title")
    await keyboard.insert_text(paper()["title"])
    await tab_to("#abstract")
    await keyboard.insert_text(paper()["abstract"])
    await tab_to("#filters summary")
    await keyboard.press("Enter")
    await tab_to("#publishers")
    await keyboard.type("springer")
    await keyboard.press("Enter")
    await keyboard.press("Shift+Tab")
    await expect(focused).to_have_accessible_name("Remove springer")
    await keyboard.press("Enter")
    await expect(focused).to_have_id("publishers")
    await tab_to("#submit")
    await keyboard.press("Enter")
    await ranked(page)
    await expect(page.locator("#results")).to_be_focused()
    await tab_to(".place h3 a")
    await tab_to(".place summary")
    await keyboard.press("Enter")
    await expect(page.locator(".place details li").first).to_be_visible()
    for _ in range(2):
        await tab_to("input[data-journal]")
        await keyboard.press("Space")
    await tab_to("#tray-compare", most=80)
    await keyboard.press("Enter")
    await expect(page.get_by_role("dialog", name="Side by side")).to_be_visible()
    await keyboard.press("Escape")
    await expect(focused).to_have_id("tray-compare")


async def test_a_phone_shows_all_of_it_and_scrolls_one_way(open_page: OpenPage) -> None:
    page = await open_page(**PHONE)
    await page.locator("#filters summary").tap()
    await rank(page)
    await expect(page.locator(".result-title")).to_be_in_viewport()
    assert await page.evaluate("document.documentElement.scrollWidth") == 360
    small = await page.evaluate(
        """[...document.querySelectorAll("button, select, input, summary, label.drop")]
            .filter((e) => e.checkVisibility() && !e.closest(".unseen") && e.type !== "file")
            .map((e) => [e.id || e.textContent, (e.closest("label") ?? e).getBoundingClientRect()])
            .filter(([, box]) => box.width < 24 || box.height < 24)
            .map(([name]) => name)"""
    )
    assert small == []


async def test_who_wants_little_motion_gets_none(site: Site, open_page: OpenPage) -> None:
    moving = "document.getAnimations().filter((animation) => animation.playState === 'running').length"
    for motion, moves in (("no-preference", True), ("reduce", False)):
        page = await open_page(reduced_motion=motion)
        site.engine.gate.clear()
        await write(page)
        await page.locator("#submit").click()
        await expect(page.locator(".ghosts")).to_be_visible()
        assert (await page.evaluate(moving) > 0) is moves
        site.engine.gate.set()
        await ranked(page)


async def test_in_chinese_nothing_is_left_in_english(open_page: OpenPage) -> None:
    page = await open_page(locale="zh-CN")
    await expect(page).to_have_title("选刊 Xuankan——这篇稿件该投哪里？")
    await expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
    await page.locator("#filters summary").click()
    await page.locator("input[value=closed]").check()
    await write(page)
    await page.locator("#abstract").fill("")
    await page.locator("#submit").click()
    await ranked(page)
    await expect(page.locator(".warnings li")).to_have_text(
        [
            "没有摘要：只凭标题排名可靠性低得多。",
            re.compile("^因目录中缺少信息、无法判断是否符合条件，632 种期刊中有 \\d+ 种被排除。$"),
        ]
    )
    # What is the page's own; names and subjects are the journals', titles the papers'.
    own = await page.evaluate(
        """[...document.querySelectorAll("[data-t], .badge, summary, .fit, button, label, .hint")]
            .filter((e) => e.checkVisibility() && !e.closest("[lang=en]") && !e.querySelector("input"))
            .map((e) => e.textContent.trim())"""
    )
    english = [
        text for text in own if not re.search("[\u4e00-\u9fff]", text) and re.search("[A-Za-z]{2}", text)
    ]
    assert set(english) <= {"CSV", "JSON", "BibTeX"}
    await page.locator("#language").click()
    await expect(page.locator("html")).to_have_attribute("lang", "en")
    await expect(page.locator(".warnings li").first).to_contain_text("There is no abstract")
    await page.reload()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Where should this manuscript go?")


async def test_both_languages_say_everything(open_page: OpenPage) -> None:
    page = await open_page()
    words: dict[str, dict[str, str]] = await page.evaluate(
        """import(new URL("page/words.js", location)).then(({en, zh}) => ({en, zh}))"""
    )
    assert set(words["en"]) == set(words["zh"])
    for name, text in words["en"].items():
        assert set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", words["zh"][name])), name
    used = set(re.findall(r'data-t(?:-\w+)?="(\w+)"', await page.content()))
    assert used <= set(words["en"])
