"""Text -> terms: words and pairs of neighbouring words, the one featuriser of fitting and serving."""

from __future__ import annotations

import re
from collections.abc import Iterator

from xuankan.unicode import normalized

TITLE_WEIGHT = 3
"""How often a title's terms count beside the abstract's."""

_STOP = frozenset(
    """
    a also an and are as at be been between both by can for from has have in into is it its more not of on
    or our such than that the their these this to using was we were which with
    """.split()  # noqa: SIM905  # one word a line would be no easier to read
)
"""Only words that say nothing at all: "study", "patients" or "theorem" tell one journal's style from
another's."""
_TOKEN = re.compile(r"[a-z][a-z0-9]+")
_COMMAND = re.compile(r"\\[a-z]+\*?")


def terms(text: str) -> Iterator[str]:
    """Every word of `text` but stop words, and every pair of words with only stop words between them."""
    if not text.isascii():
        text = normalized("NFKD", text).encode("ascii", "ignore").decode()
    previous: str | None = None
    for word in _TOKEN.findall(_COMMAND.sub(" ", text.lower())):
        if word in _STOP:
            continue
        yield word
        if previous is not None:
            yield f"{previous} {word}"
        previous = word


def term_counts(title: str, abstract: str) -> dict[str, int]:
    """How often each term occurs in a manuscript, the title's counting `TITLE_WEIGHT` times."""
    counts: dict[str, int] = {}
    for text, weight in ((title, TITLE_WEIGHT), (abstract, 1)):
        for term in terms(text):
            counts[term] = counts.get(term, 0) + weight
    return counts
