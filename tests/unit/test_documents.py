"""What the documentation names exists: files, folders, links, headings. And every page can be found."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_FOLDERS = [ROOT / folder for folder in ("docs", "producer", "worker")]
PAGES = sorted([*ROOT.glob("*.md"), *(page for folder in _FOLDERS for page in folder.rglob("*.md"))])
_TOP = ("producer", "worker", "tests", "deploy", "docs", ".ci")
_CODE = re.compile(r"```.*?```", re.DOTALL)
_QUOTED = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_IN_SOURCE = re.compile(r"(?<![\w/.])(?:docs|deploy|tests)/[\w./-]+\.(?:py|md|conf|template|json|yml)\b")
_CHANGELOG = ROOT / "CHANGELOG.md"  # names what is gone, too
_DJANGO = {"urls.py", "settings.py"}  # of the reader's own project


@cache
def file_names() -> set[str]:
    folders = [ROOT / top for top in _TOP]
    return {path.name for folder in folders for path in folder.rglob("*")} | {p.name for p in ROOT.iterdir()}


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower().replace("`", "")).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    text = _CODE.sub("", page.read_text())
    return {slug(heading) for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}


def linked(page: Path) -> list[str]:
    return [link for link in _LINK.findall(_CODE.sub("", page.read_text())) if "://" not in link]


def named(page: Path) -> list[str]:
    """The paths that a page quotes, from the root of the tree."""
    quoted = _QUOTED.findall(_CODE.sub("", page.read_text()))
    return [text for text in quoted if re.fullmatch(rf"(?:{'|'.join(map(re.escape, _TOP))})/[\w./-]*", text)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_paths_and_links_of_a_page_exist(page: Path) -> None:
    if page != _CHANGELOG:
        assert [path for path in named(page) if not (ROOT / path).exists()] == []
        modules = re.findall(r"`([\w-]+\.py)`", page.read_text())
        assert [name for name in modules if name not in file_names() | _DJANGO] == []
    for link in linked(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


@pytest.mark.parametrize("package", ["producer", "worker", "deploy"])
def test_files_that_docstrings_and_messages_name_exist(package: str) -> None:
    sources = [(path, path.read_text()) for path in (ROOT / package).rglob("*.py")]
    assert sources
    found = {name: path for path, text in sources for name in _IN_SOURCE.findall(text)}
    assert {name: path for name, path in found.items() if not (ROOT / name).exists()} == {}


def test_every_page_of_docs_is_two_clicks_from_the_readme() -> None:
    def targets(page: Path) -> set[Path]:
        paths = {(page.parent / link.partition("#")[0]).resolve() for link in linked(page)}
        return {path for path in paths if path.suffix == ".md"}

    first = targets(ROOT / "README.md")
    reached = first.union(*map(targets, first))
    assert {page for page in PAGES if page.is_relative_to(ROOT / "docs")} - reached == set()


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 180
