"""The page, the interface's description and the readers speak of the same kinds of files."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from typing import get_args

import pytest

from xuankan.catalogue import Catalogue
from xuankan.documents import Document, File, read
from xuankan.documents.kinds import KINDS, SUFFIXES
from xuankan.portal.extract_child import manuscripts
from xuankan.portal.extraction import Format

CASES = Path(__file__).parents[1] / "data" / "documents" / "cases"


def test_the_interface_names_every_kind() -> None:
    assert get_args(Format) == tuple(KINDS)


def test_the_page_offers_every_kind_of_file() -> None:
    page = (files("xuankan.portal") / "page" / "index.html").read_text("utf-8")
    (accepted,) = re.findall(r'id="file"[^>]* accept="([^"]*)"', page)
    assert accepted.split(",") == sorted(SUFFIXES)


@pytest.mark.parametrize(
    "path",
    sorted(path for path in CASES.glob("*") if not path.name.endswith(".expected.txt")),
    ids=lambda path: path.name,
)
def test_the_portal_finds_what_the_commands_find(path: Path) -> None:
    """They share the readers; what the portal knows of a file's name is its ending alone."""
    found = manuscripts(File(f"file{path.suffix}", data=path.read_bytes()), Catalogue.default)
    assert [(one["title"], one["abstract"], tuple(one["keywords"])) for one in found["manuscripts"]] == [
        (one.title, one.abstract, one.keywords) for one in read(File.at(path)) if isinstance(one, Document)
    ]
