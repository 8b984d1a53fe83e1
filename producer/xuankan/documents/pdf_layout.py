"""What the lines of a PDF's page are: which are the title, and which belong together as paragraphs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from xuankan.documents.joining import join
from xuankan.documents.pdf_lines import Line
from xuankan.documents.sections import is_heading, is_note
from xuankan.documents.titles import can_be_title, clean_title, is_name, letters

_SAME_SIZE: Final = 0.07
_SAME_TITLE: Final = 0.8
"""A line of a title, in italics or after a colon, may be smaller or larger than the others."""
_MAX_GAP: Final = 1.75
"""From line to line, in sizes; more is a new paragraph."""
_TITLE_GAP: Final = 1.6
_WIDE_GAP: Final = 3.2
"""More is another part of the page."""
_MIN_LETTERS: Final = 4
_MAX_LETTERS: Final = 400
_DISTINCT: Final = 1.12
"""Of the body's size; what is not larger is no title for its size."""
_HEAD_LINES: Final = 40
_JOURNAL: Final = re.compile(
    r"\b(?:journal|proceedings|transactions|letters|annals|bulletin|archives?|acta|magazine|gazette|quarterly|advances|"
    r"issn|elsevier|springer|wiley|mdpi|frontiers|plos|nature|science(?:direct)?|arxiv|biorxiv|medrxiv|preprints?)\b",
    re.IGNORECASE,
)
_NAME: Final = re.compile(
    r"(?:(?:Dr|Prof|Mr|Ms)\.?\s+)?[A-Z][\w.'’-]*(?:\s+(?:[A-Z][\w.'’-]*|van|von|de|der|den|da|dos|di|la|le|del|el|bin|ibn)){1,4}"
    r"[\s\d,*∗†‡§¶a-f⋆]*"
)
_BETWEEN_NAMES: Final = re.compile(r"\s*(?:,\s*and\s+|\s+and\s+|\s*&\s*|[,;·]\s*)(?=[A-Z])")


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


def is_far(above: Line, below: Line) -> bool:
    """Whether two lines of a column are so far apart that something else begins."""
    gap = above.bottom - below.bottom
    return gap > _WIDE_GAP * max(above.size, below.size)


def title_of(lines: Sequence[Line], named: str) -> str:
    """The title of a page: its largest lines above the abstract, wherever they were drawn.

    The properties' title counts if the page says the same there, and decides if no line is larger.
    """
    head = _head(lines)
    body = body_size(lines)
    found = _largest(head)
    printed = "" if not found else clean_title(join([_unmarked(found, at) for at in range(len(found))]))
    known = is_name(named) and letters(named) in letters(" ".join(line.text for line in head))
    if known and (letters(printed) in letters(named) or letters(named) in letters(printed)):
        return clean_title(max(named, printed, key=_told))
    if known and (not found or found[0].size < _DISTINCT * body):
        return clean_title(named)
    return printed


def _told(title: str) -> tuple[int, int]:
    """How much a title says: letters, then words; properties lack the space where a printed line ended."""
    return len(letters(title)), sum(len(word) > 1 for word in title.split())


def body_size(lines: Sequence[Line]) -> float:
    """The size of most letters of a page, in points."""
    sizes = Counter[float]()
    for line in lines:
        sizes[line.size] += len(line.text)
    return sizes.most_common(1)[0][0] if sizes else 0.0


def _head(lines: Sequence[Line]) -> list[Line]:
    """The lines above the abstract, from top to bottom; all of the page if there is no heading."""
    ends = [line.bottom for line in lines if is_heading(line.text) and not is_note(line.text)]
    ordered = sorted(_rows(lines), key=lambda line: (-line.bottom, line.left))
    above = [line for line in ordered if line.bottom > max(ends, default=float("-inf"))]
    return (above or ordered)[:_HEAD_LINES]


def _rows(lines: Sequence[Line]) -> Iterator[Line]:
    """Lines, with what PDFium broke within one row put together: a wide space, another font."""
    before: Line | None = None
    for line in lines:
        if before is not None:
            level = abs(before.bottom - line.bottom) < 0.35 * before.size
            near = -1 < line.left - before.right < 1.2 * before.size
            if level and near and line.size >= _SAME_TITLE * before.size:
                text = f"{before.text} {line.text}"
                before = replace(before, text=text, right=line.right, marks=line.marks)
                continue
            yield before
        before = line
    if before is not None:
        yield before


def _largest(head: Sequence[Line]) -> list[Line]:
    """The lines of the title."""
    blocks = [block for block in _title_blocks(head) if _can_be(block)]
    blocks.sort(key=lambda block: -_size(block))
    for place, block in enumerate(blocks):
        text = join(line.text for line in block)
        if len(text.split()) > 3 and not (_JOURNAL.search(text) and len(text.split()) < 6):
            return block
        # A name of a journal or of a series may be larger than the title below it.
        lower = next((other for other in blocks[place + 1 :] if _is_rival(block, other)), None)
        if lower is None:
            return block
    return blocks[0] if blocks else []


def _is_rival(block: Sequence[Line], other: Sequence[Line]) -> bool:
    """Whether of two blocks the smaller one looks more like a title than the larger, short one."""
    text = join(line.text for line in other)
    gap = block[-1].bottom - other[0].bottom
    is_subtitle = 0 < gap <= 2 * _size(block) and not _JOURNAL.search(join(line.text for line in block))
    return (
        _size(other) >= 0.6 * _size(block)
        and len(text.split()) > 3
        and not is_subtitle
        and not is_authors(text)
    )


def is_authors(text: str) -> bool:
    """Whether a line is one of names."""
    parts = [part for part in _BETWEEN_NAMES.split(text) if part.strip()]
    return bool(parts) and all(_NAME.fullmatch(part.strip(" ,")) for part in parts)


def _title_blocks(head: Sequence[Line]) -> Iterator[list[Line]]:
    """Lines of about one size close to each other; so a title's line in italics stays with the others."""
    blocks: list[list[Line]] = []
    for line in head:
        # A column beside the title, as of a journal's notes, stands between its lines from top to bottom.
        for block in reversed(blocks):
            if _same_title(block, line):
                block.append(line)
                break
            if not _is_beside(block[-1], line):
                blocks.append([line])
                break
        else:
            blocks.append([line])
    yield from blocks


def _is_beside(one: Line, other: Line) -> bool:
    return one.right <= other.left or other.right <= one.left


def _same_title(block: Sequence[Line], line: Line) -> bool:
    above = block[-1]
    if not can_be_title(above.text):
        return False
    large, small = max(above.size, line.size), min(above.size, line.size)
    if small < (1 - _SAME_SIZE) * large and (small < _SAME_TITLE * large or is_authors(line.text)):
        return False
    if small < (1 - _SAME_SIZE) * large and above.font != line.font and _is_bold(above) != _is_bold(line):
        return False
    return 0 <= above.bottom - line.bottom < _TITLE_GAP * large and can_be_title(line.text)


def _is_bold(line: Line) -> bool:
    return re.search(r"bold|black|heavy|[-,]bd|cmbx|medi\b", line.font, re.IGNORECASE) is not None


def _can_be(block: Sequence[Line]) -> bool:
    text = join(line.text for line in block)
    return _MIN_LETTERS <= len(letters(text)) <= _MAX_LETTERS and can_be_title(text) and not is_note(text)


def _size(block: Sequence[Line]) -> float:
    return max(line.size for line in block)


def _unmarked(block: Sequence[Line], at: int) -> str:
    """A line of the title without the small mark of a footnote at its end."""
    line = block[at]
    mark = line.text[len(line.text) - line.marks :] if line.marks else ""
    if mark and at == len(block) - 1 and re.fullmatch(r"[\d*∗†‡§¶,a-c⋆]{1,4}", mark):
        return line.text[: -line.marks]
    return line.text


def _continues(above: Line, line: Line) -> bool:
    if abs(line.size - above.size) > _SAME_SIZE * above.size or is_heading(line.text):
        return False
    if line.bottom > above.bottom + above.size:  # the next column
        return line.left > above.right - above.size
    return above.bottom - line.bottom < _MAX_GAP * max(above.size, line.size)
