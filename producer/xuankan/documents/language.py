"""Which of several texts is the English one: the model reads English."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from xuankan.manuscript import ENGLISH_WORDS

_LETTER: Final = re.compile(r"[^\W\d_]")
_LATIN: Final = re.compile(r"[A-Za-z]")
_WORD: Final = re.compile(r"[^\W\d_]+")
_FOREIGN: Final = frozenset(
    _WORD.findall(
        "la le les des du et est une dans pour sur par el los las del que una se con y en de di il della che "
        "un os uma um dos das não para com der die das und ist mit von zu den ein eine im nicht het een van "
        "voor na"
    )
)
"""Words of the languages whose authors give two abstracts, and of English none."""
_SAMPLE: Final = 4_000


def most_english(texts: Sequence[str]) -> str:
    """The one of the texts that is English; the first of those that are alike, or nothing of none."""
    return max(texts, key=_english, default="")


def is_latin(text: str) -> bool:
    """Whether a text is in Latin letters, most of them without marks."""
    sample = text[:_SAMPLE]
    return len(_LATIN.findall(sample)) >= 0.7 * len(_LETTER.findall(sample))


def _english(text: str) -> tuple[bool, float]:
    sample = text[:_SAMPLE]
    if not _LETTER.search(sample):
        return False, -1.0
    words = _WORD.findall(sample.casefold())
    known = sum((word in ENGLISH_WORDS) - (word in _FOREIGN or not word.isascii()) for word in words)
    # A few per cent more or less say nothing of the language.
    return is_latin(sample), round(10 * known / max(1, len(words)))
