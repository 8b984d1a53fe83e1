"""Plain text as authors save it: the title first, the abstract under its heading or all the rest."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from xuankan.documents.encodings import decode
from xuankan.documents.files import File
from xuankan.documents.joining import first_long, join
from xuankan.documents.model import MAX_ABSTRACT, Document
from xuankan.documents.sections import NO_HEADING, Block, find_sections, paper, references
from xuankan.documents.titles import can_be_title, clean_title

_MAX_TITLE_LINES: Final = 4
_GOES_ON: Final = re.compile(
    r"(?:\b(?:a|an|and|as|at|by|for|from|in|of|on|or|the|to|under|using|via|with)|[-:,–—])$"
)
_FIELD: Final = re.compile(r"^\s*(?:authors?|by|affiliations?|date|e-?mail)\s*[:：]", re.IGNORECASE)
_REFERENCES: Final = re.compile(
    r"^\W*(?:references?|bibliography|literature cited|works cited)\W*$", re.IGNORECASE
)


def read_text(file: File) -> Document:
    """A text in any encoding."""
    text, warning = decode(file.whole())
    return text_document(text, [warning] if warning else [])


def text_document(text: str, warnings: Sequence[str] = ()) -> Document:
    """A text in memory, as it is pasted."""
    return of_blocks(
        [Block(" ".join(line.split())) for line in text.lstrip("\ufeff").split("\n")], "", warnings
    )


def of_blocks(blocks: Sequence[Block], title: str, warnings: Sequence[str]) -> Document:
    """The document of some lines; `title` is empty if it is one of them."""
    lines = list(blocks)
    if not title:
        title, lines = _title(lines)
    found = find_sections(lines)
    cited = references(lines)
    if found.abstract:
        return paper(title, found.abstract, found.keywords, references=cited, warnings=warnings)
    end = found.start if found.keywords else len(lines)
    end = next((at for at, line in enumerate(lines[:end]) if _REFERENCES.match(line.text)), end)
    body = [line.text for line in lines[:end] if not _FIELD.match(line.text)]
    abstract = join(body)
    if len(abstract) > MAX_ABSTRACT:
        guess = first_long(_paragraphs(body))
        abstract, warnings = guess or abstract, [*warnings, NO_HEADING] if guess else warnings
    return paper(title, abstract, found.keywords, references=cited, warnings=warnings)


def _title(lines: Sequence[Block]) -> tuple[str, list[Block]]:
    """The first line, with those that go on with it, and what follows."""
    start = next((at for at, line in enumerate(lines) if can_be_title(line.text)), len(lines))
    if start == len(lines):
        return "", list(lines)
    if is_abstract_first(lines[start].text):
        return "", list(lines)
    end = start + 1
    while end < min(len(lines), start + _MAX_TITLE_LINES) and lines[end].text:
        if not (_GOES_ON.search(lines[end - 1].text) or lines[end].text[:1].islower()):
            break
        end += 1
    if end < len(lines) and lines[end].text and len(lines[start].text) > 300:
        return "", list(lines)
    return clean_title(re.sub(r"^#+\s*", "", join(line.text for line in lines[start:end]))), list(lines[end:])


def is_abstract_first(line: str) -> bool:
    """Whether a text has no title: it begins with the abstract's heading."""
    return find_sections([Block(line), Block("x" * 100)]).start == 0


def _paragraphs(lines: Sequence[str]) -> list[str]:
    found: list[list[str]] = [[]]
    for line in lines:
        if line:
            found[-1].append(line)
        elif found[-1]:
            found.append([])
    return [join(paragraph) for paragraph in found]
