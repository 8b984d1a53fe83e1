"""Lines that were broken where a page ends put together again: paragraphs, keywords."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Sequence
from typing import Final

from xuankan.documents.markup import split_keywords

_MAX_KEYWORD: Final = 100
_LONG: Final = 350
"""Characters of a paragraph that may be an abstract without a heading."""
_PREFIXES: Final = frozenset(
    ("self", "well", "high", "low", "long", "short", "large", "small", "two", "three", "cross", "non")
)
"""Words that keep the hyphen behind them."""


def first_long(paragraphs: Iterable[str]) -> str:
    """The first paragraph that is long enough to be an abstract, or nothing."""
    return next((p for p in paragraphs if len(p) >= _LONG and p.count(" ") > len(p) / 12), "")


def split_lines(lines: Sequence[str]) -> tuple[str, ...]:
    """Keywords as authors write them: between semicolons, dots or commas, or one a line."""
    joined = join(lines)
    found = split_keywords(joined)
    if len(found) < 2 and len(lines) > 1:
        found = split_keywords("\n".join(lines))
    return tuple(word for word in found if 1 < len(word) <= _MAX_KEYWORD)


def join(lines: Iterable[str], compounds: Container[str] = ()) -> str:
    """Lines of a paragraph as one, with words put together that were split at a line's end.

    Args:
        lines: the lines.
        compounds: words, in small letters, that keep the hyphen because it stands elsewhere too.
    """
    pieces: list[str] = []
    for line in lines:
        line = " ".join(line.split())
        if not line:
            continue
        if pieces and pieces[-1].endswith("-") and line[:1].islower():
            last = pieces.pop()
            # `state-of-the-` keeps its hyphen, as does `self-`; `algo-` does not.
            word = last.rsplit(" ", 1)[-1].lstrip("([“\"'").casefold()
            whole = word + re.split(r"[^\w-]", line, maxsplit=1)[0].casefold()
            kept = "-" in word[:-1] or word[:-1] in _PREFIXES or whole in compounds
            pieces.append((last if kept else last[:-1]) + line)
        else:
            pieces.append(line)
    return " ".join(pieces)
