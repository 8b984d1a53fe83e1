"""Normal forms are Unicode's own where text is text, and leave no heap of marks where it is none."""

from __future__ import annotations

import sys
from typing import Final, Literal
from unicodedata import combining, normalize

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xuankan.unicode import normalized

FORMS: Final[tuple[Literal["NFC", "NFKD"], ...]] = ("NFC", "NFKD")
MARKS: Final = ("\u0301", "\u0315", "\u0334", "\u05b0", "\u0344", "\u0f73", "\uff9e")
"""Of different classes, which have to be brought into order."""


@pytest.mark.parametrize(
    ("form", "known"),
    [("NFC", "\u0f73\u0f75\u0f81"), ("NFKD", "\u0f73\u0f75\u0f81\uff9e\uff9f")],
)
def test_what_becomes_a_mark_and_is_none_is_known(form: Literal["NFC", "NFKD"], known: str) -> None:
    letters = filter(lambda one: not combining(one), map(chr, range(sys.maxunicode + 1)))
    assert [one for one in letters if combining(normalize(form, one)[0])] == list(known)


@given(st.text(st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from(MARKS)), max_size=30))
def test_text_is_as_unicode_says(text: str) -> None:
    assert normalized("NFC", text) == normalize("NFC", text)
    assert normalized("NFKD", text) == normalize("NFKD", text)


@given(st.lists(st.sampled_from(MARKS), min_size=1, max_size=4))
def test_no_heap_is_left_to_be_sorted(unit: list[str]) -> None:
    for form in FORMS:
        longest = run = 0
        for letter in normalized(form, "a" + "".join(unit) * 400):
            run = run + 1 if combining(letter) else 0
            longest = max(longest, run)
        assert longest <= 2 * 30  # one of them is two
