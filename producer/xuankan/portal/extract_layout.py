"""What a page's lines are: which of them are the title, and which belong together as paragraphs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from xuankan.portal.extract_text import is_heading, join

if TYPE_CHECKING:
    from xuankan.portal.extract_pdf import Line

_SAME_SIZE: Final = 0.07
_MAX_GAP: Final = 1.75
"""From line to line, in sizes; more is a new paragraph."""
_MIN_TITLE_LETTERS: Final = 8
# What programs write into the properties when the author wrote nothing.
_NO_TITLE = re.compile(
    r"^(untitled|microsoft word|document\d*|title|main|paper|manuscript|.*\.(docx?|tex|pdf|dvi))\b", re.I
)


def paragraphs(lines: Sequence[Line]) -> Iterator[list[Line]]:
    """Lines that follow each other in one size without a gap; a heading starts a new one."""
    block: list[Line] = []
    for line in lines:
        if block and not _continues(block[-1], line):
            yield block
            block = []
        block.append(line)
    if block:
        yield block


def title_of(lines: Sequence[Line], named: str) -> str:
    """The title: what the properties say if the page says so too, else the page's largest text."""
    page = _letters(" ".join(line.text for line in lines))
    if len(named.split()) > 1 and not _NO_TITLE.match(named) and _letters(named) in page:
        return named
    head: list[list[Line]] = []
    for block in paragraphs(lines):
        if is_heading(block[0].text):
            break
        head.append(block)
    found = [
        (block[0].size, join([line.text for line in block]))
        for block in head or paragraphs(lines)
        if len(_letters("".join(line.text for line in block))) >= _MIN_TITLE_LETTERS
    ]
    if not found:
        return ""
    found.sort(key=lambda sized: -sized[0])
    for (_, text), (size, _) in pairwise(found):
        # A name of a journal or of a kind of article may be larger than the title below it.
        if len(text.split()) > 3 or size < 0.6 * found[0][0]:
            return text
    return found[0][1] if len(found) == 1 or len(found[0][1].split()) > 1 else found[-1][1]


def _continues(above: Line, line: Line) -> bool:
    if abs(line.size - above.size) > _SAME_SIZE * above.size or is_heading(line.text):
        return False
    if line.bottom > above.bottom + above.size:  # the next column
        return line.left > above.right - above.size
    return above.bottom - line.bottom < _MAX_GAP * max(above.size, line.size)


def _letters(text: str) -> str:
    return re.sub(r"[\W_]+", "", text).casefold()
