"""PDF: the title by size and place, the abstract and the keywords by their headings, on the first pages."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from xuankan.documents.files import File
from xuankan.documents.joining import first_long, join
from xuankan.documents.model import Document
from xuankan.documents.pdf_layout import is_far, paragraphs, title_of
from xuankan.documents.pdf_lines import Line, pdf_lines
from xuankan.documents.sections import NO_HEADING, Block, find_sections, paper
from xuankan.documents.titles import letters
from xuankan.errors import Unreadable

_PAGE_NUMBER: Final = re.compile(r"\W*(?:page\s*)?\d{1,4}(?:\s*(?:of|/)\s*\d{1,4})?\W*", re.IGNORECASE)
_RUN_IN: Final = re.compile(r"(?:abstract|summary|key\s?words(?: and phrases)?|index terms)", re.IGNORECASE)
_WORD: Final = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)+")
_SCAN: Final = "there is no text in it, only pictures of pages (a scan): paste title and abstract"


def read_pdf(file: File) -> Document:
    """What the first pages print; what the properties say counts only if the page says so too.

    Raises:
        Unreadable: it is damaged or locked, or a scan.
    """
    try:
        printed = pdf_lines(file.whole())
    except ValueError as error:
        raise Unreadable(file.name, str(error)) from error
    pages = [page for page in printed.pages if page]
    if not pages:
        raise Unreadable(file.name, _SCAN)
    title = title_of(pages[0], printed.named)
    blocks = [block for page in pages for block in paragraphs(page)]
    compounds = frozenset(
        word for page in pages for line in page for word in _WORD.findall(line.text.casefold())
    )
    found = find_sections(list(_blocks(blocks)), compounds)
    if found.abstract:
        return paper(title, found.abstract, found.keywords)
    texts = [join((line.text for line in block), compounds) for block in blocks]
    guess = first_long(text for text in texts if letters(text) != letters(title))
    return paper(title, guess, found.keywords, warnings=[NO_HEADING] if guess else [])


def _blocks(paragraphs: Sequence[Sequence[Line]]) -> Iterator[Block]:
    """Lines with an empty block between paragraphs, and one that ends everything where a page has a gap."""
    before: Line | None = None
    for paragraph in paragraphs:
        if before is not None:
            yield Block("", gap=is_far(before, paragraph[0]))
        for line in paragraph:
            if not _PAGE_NUMBER.fullmatch(line.text):
                yield Block(_opened(line), size=line.size)
        before = paragraph[-1]
    yield Block("")


def _opened(line: Line) -> str:
    """A line; a run-in heading, which is in a font of its own, gets the mark that others have."""
    lead = line.text[: line.lead].rstrip()
    if lead and _RUN_IN.fullmatch(lead) and line.lead < len(line.text):
        return f"{lead}: {line.text[line.lead :].lstrip(' .:—–-')}"
    return line.text
