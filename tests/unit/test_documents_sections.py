"""Where abstracts and keywords begin and end in the lines of a paper."""

from __future__ import annotations

import pytest

from xuankan.documents.joining import join, split_lines
from xuankan.documents.markup import shorten
from xuankan.documents.model import MAX_ABSTRACT
from xuankan.documents.sections import Block, Sections, find_sections

BODY = "We show that reefs recover within a decade if grazing fish return."


def sections(lines: list[str]) -> Sections:
    return find_sections([Block(line) for line in lines])


@pytest.mark.parametrize(
    "lines",
    [
        ["A title", "Ann Author", "Abstract", BODY, "1 Introduction", "Reefs are old."],
        ["A title", f"Abstract. {BODY}", "Keywords: reef; fish", "", "Introduction"],
        ["A title", f"Abstract—{BODY}", "Index Terms—reef, fish.", "I. INTRODUCTION", "Reefs are old."],
        ["A title", "A BSTRACT", BODY, "1. I NTRODUCTION", "Reefs are old."],
        ["A title", "A B S T R A C T", BODY, "© 2020 Example Press"],
        ["A title", f"ABSTRACT {BODY}", "PACS numbers: 1.2"],
        ["A title", "Summary", BODY, "Corresponding author: ann@example.org"],
        ["题目", "摘要：珊瑚礁。", "Abstract：" + BODY, "关键词：珊瑚礁"],
    ],
)
def test_an_abstract_ends_where_the_next_part_begins(lines: list[str]) -> None:
    assert sections(lines).abstract == BODY


def test_a_text_about_abstract_things_is_no_abstract() -> None:
    lines = [
        "On groups",
        "Abstract algebra is old.",
        "Keywords are not given here",
        "Abstract interpretation",
    ]
    assert sections(lines).abstract == ""
    assert sections(lines).keywords == ()


def test_keywords_may_stand_before_the_abstract() -> None:
    found = sections(["A title", "Keywords:", "reef", "grazing fish", "", "Abstract", BODY])
    assert found.keywords == ("reef", "grazing fish")
    assert found.abstract == BODY
    assert found.start == 1


@pytest.mark.parametrize(
    ("lines", "keywords"),
    [
        (["coral reefs; grazing, and fish; algae."], ("coral reefs", "grazing, and fish", "algae")),
        (["coral reefs, grazing, algae"], ("coral reefs", "grazing", "algae")),
        (["coral reefs · grazing · algae"], ("coral reefs", "grazing", "algae")),
        (["coral reefs, gra-", "zing, algae"], ("coral reefs", "grazing", "algae")),
        (["coral reefs", "grazing"], ("coral reefs", "grazing")),
        (["reef; reef; fish"], ("reef", "fish")),
        ([], ()),
    ],
)
def test_keywords_are_split_as_authors_write_them(lines: list[str], keywords: tuple[str, ...]) -> None:
    assert split_lines(lines) == keywords


def test_words_that_a_line_end_split_are_put_together() -> None:
    assert join(["an algo-", "rithm of the state-of-the-", "art by Levy-", "Khinchin"]) == (
        "an algorithm of the state-of-the-art by Levy- Khinchin"
    )


def test_a_long_abstract_ends_with_a_sentence() -> None:
    short = shorten("This is a sentence. " * 1000)
    assert len(short) <= MAX_ABSTRACT
    assert short.endswith("sentence.")
