"""Normal forms of text from strangers, at a cost that grows with its length alone."""

from __future__ import annotations

import unicodedata
from typing import Final, Literal

_MOST_MARKS: Final = 30
"""Combining marks behind one letter: more than any script writes, and what the Stream-Safe Text Format of
UAX #15 allows."""
_OF_MARKS: Final = {0x0F73: "\u0f71\u0f72", 0x0F75: "\u0f71\u0f74", 0x0F81: "\u0f71\u0f80"}
"""What is no mark and becomes marks: in both forms three vowels of Tibetan (a test knows of no other)."""
_OF_MARKS_IN_NFKD: Final = {**_OF_MARKS, 0xFF9E: "\u3099", 0xFF9F: "\u309a"}
"""And half-width katakana's signs of voicing."""


def normalized(form: Literal["NFC", "NFKD"], text: str) -> str:
    """`unicodedata.normalize` of text in which no letter has more than 30 combining marks.

    Normal forms put the marks of a letter in order, and Python sorts them by insertion: a run of 40,000 takes
    seconds, one of 80,000 four times as long. Marks beyond the 30th are dropped.
    """
    if text.isascii():
        return text
    text = text.translate(_OF_MARKS_IN_NFKD if form == "NFKD" else _OF_MARKS)
    return unicodedata.normalize(form, _without_heaps(text))


def _without_heaps(text: str) -> str:
    combining = unicodedata.combining
    kept: list[str] = []
    run, start = 0, 0
    for place, letter in enumerate(text):
        if letter < "\u0300" or not combining(letter):
            run = 0
            continue
        run += 1
        if run > _MOST_MARKS:
            kept.append(text[start:place])
            start = place + 1
    kept.append(text[start:])
    return "".join(kept)
