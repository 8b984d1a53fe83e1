"""Word's .docx: title, abstract, keywords and references by styles, sizes and headings.

The XML is read directly: python-docx sees only runs that stand in paragraphs themselves, so that tracked
insertions, smart tags, content controls, text boxes and equations are lost to it, and fails at Strict files,
dangling relationships and ragged tables.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from xuankan.documents.archives import MAX_PARAGRAPHS, Archive, attribute, local, parse_xml, title_property
from xuankan.documents.files import File
from xuankan.documents.joining import first_long
from xuankan.documents.model import Document
from xuankan.documents.sections import NO_HEADING, Block, find_sections, paper, references
from xuankan.documents.titles import TitleCandidate, is_same, pick_title
from xuankan.documents.word_text import paragraph_text
from xuankan.errors import Unreadable

_MAIN: Final = "word/document.xml"
_SKIPPED: Final = frozenset(
    ("del", "moveFrom", "sectPr", "tblPr", "trPr", "tcPr", "sdtPr", "sdtEndPr", "pPr")
)
_HEADING: Final = re.compile(r"heading [1-9]|(?:\w+ )?(?:heading|section|titre|überschrift)\s?\d?")
_TITLE: Final = re.compile(
    r"(?:\w{2,12}[\s_-]*)?(?<!sub)(?<!sub )(?<!short )(?<!running )title(?:[\s_-]?(?:1|main|paper))?"
)
_MAX_STYLES: Final = 20


@dataclass(frozen=True, slots=True)
class _Style:
    name: str = ""
    size: float = 0.0
    outline: bool = False


@dataclass(frozen=True, slots=True)
class _Paragraph:
    lines: tuple[str, ...]
    style: _Style
    size: float
    merged: bool = False
    ends_cell: bool = False


def read_docx(file: File) -> Document:
    """The title by its style, its size or its place; the abstract by its style or under its heading.

    Raises:
        Unreadable: it is damaged or locked, or there is no text in it.
    """
    archive = Archive(file.name, file.whole())
    data = archive.read(_main_part(archive))
    if data is None:
        raise Unreadable(file.name, "it is no Word document, or it is damaged: there is no text part in it")
    body = parse_xml(file.name, data, recover=True)
    paragraphs = list(islice(_joined(_paragraphs(body, _styles(file.name, archive))), MAX_PARAGRAPHS))
    blocks = list(_blocks(paragraphs))
    if not any(block.text for block in blocks):
        raise Unreadable(file.name, "there is no text in it: paste the title and the abstract")
    found = find_sections(blocks)
    head = _head(paragraphs, blocks[: found.start])
    title = pick_title(head, title_property(archive, "docProps/core.xml"))
    abstract, warnings = found.abstract, list[str]()
    if not abstract:
        lines = (" ".join(paragraph.lines) for paragraph in paragraphs)
        abstract = first_long(line for line in lines if not is_same(line, title))
        warnings = [NO_HEADING] if abstract else []
    return paper(title, abstract, found.keywords, references=references(blocks), warnings=warnings)


def _main_part(archive: Archive) -> str:
    """Where the text is: usually in one place, which the relationships of the package name."""
    if _MAIN in archive:
        return _MAIN
    relations = archive.read("_rels/.rels", 2**20)
    found = re.search(rb"Target=[\"']/?([^\"']*document[^\"']*\.xml)[\"']", relations or b"")
    return found[1].decode("utf-8", "replace") if found else _MAIN


def _styles(name: str, archive: Archive) -> Mapping[str, _Style]:
    data = archive.read("word/styles.xml")
    if data is None:
        return {}
    try:
        root = parse_xml(name, data, recover=True)
    except Unreadable:
        return {}  # a document without styles is still one
    known: dict[str, tuple[_Style, str]] = {}
    for element in root:
        if local(element) == "style":
            own, based = _Style(), ""
            for child in element:
                kind = local(child)
                if kind == "name":
                    own = _Style(attribute(child, "val").casefold(), own.size, own.outline)
                elif kind == "basedOn":
                    based = attribute(child, "val")
                elif kind == "rPr":
                    own = _Style(own.name, _size(child), own.outline)
                elif kind == "pPr":
                    own = _Style(own.name, own.size, any(local(e) == "outlineLvl" for e in child))
            known[attribute(element, "styleId")] = own, based
    return {key: _resolved(key, known) for key in known}


def _resolved(key: str, known: Mapping[str, tuple[_Style, str]]) -> _Style:
    own, based = known[key]
    size, outline = own.size, own.outline
    for _ in range(_MAX_STYLES):
        if based not in known:
            break
        parent, based = known[based]
        size, outline = size or parent.size, outline or parent.outline
    return _Style(own.name, size, outline)


def _size(properties: Any) -> float:
    """In points; Word counts halves."""
    value = next((attribute(child, "val") for child in properties if local(child) == "sz"), "")
    return int(value) / 2 if value.isdecimal() and len(value) < 5 else 0.0


def _paragraphs(body: Any, styles: Mapping[str, _Style]) -> Iterator[_Paragraph]:
    """Every paragraph in its order; those of text boxes stand behind the one that holds the box."""
    stack = [(iter(body), "")]
    while stack:
        element = next(stack[-1][0], None)
        if element is None:
            if stack.pop()[1] == "tc":
                yield _Paragraph((), _Style(), 0.0, ends_cell=True)
        elif (kind := local(element)) == "p":
            text = paragraph_text(element)
            style, deleted = _style_of(element, styles)
            yield _Paragraph(text.lines, style, text.size or style.size, deleted)
            if text.boxes:
                stack.append((iter(text.boxes), kind))
        elif kind == "AlternateContent":
            stack.append((iter(element[:1]), kind))
        elif kind not in _SKIPPED:
            stack.append((iter(element), kind))


def _style_of(paragraph: Any, styles: Mapping[str, _Style]) -> tuple[_Style, bool]:
    """A paragraph's style, and whether its end was deleted, so that the next one goes on with it."""
    style, deleted = _Style(), False
    properties = next((child for child in paragraph if local(child) == "pPr"), ())
    for child in properties:
        kind = local(child)
        if kind == "pStyle":
            key = attribute(child, "val")
            style = styles.get(key) or _Style(key.casefold())
        elif kind == "outlineLvl" and attribute(child, "val") != "9":
            style = _Style(style.name, style.size, outline=True)
        elif kind == "rPr":
            deleted = any(local(mark) in ("del", "moveFrom") for mark in child)
    return style, deleted


def _joined(paragraphs: Iterator[_Paragraph]) -> Iterator[_Paragraph]:
    """Paragraphs, with those put together between which the mark was deleted."""
    before: _Paragraph | None = None
    for paragraph in paragraphs:
        if before is not None:
            first, rest = (before.lines or ("",)), (paragraph.lines or ("",))
            lines = (*first[:-1], f"{first[-1]} {rest[0]}".strip(), *rest[1:])
            size = max(before.size, paragraph.size)
            paragraph = _Paragraph(lines, before.style, size, paragraph.merged, paragraph.ends_cell)
        before = paragraph if paragraph.merged else None
        if before is None:
            yield paragraph
    if before is not None:
        yield before


def _blocks(paragraphs: Sequence[_Paragraph]) -> Iterator[Block]:
    for paragraph in paragraphs:
        name = paragraph.style.name
        heading = paragraph.style.outline or _HEADING.fullmatch(name) is not None
        for line in paragraph.lines:
            if line:
                yield Block(line, heading, name, paragraph.size)
        yield Block("", gap=paragraph.ends_cell)


def _head(paragraphs: Sequence[_Paragraph], blocks: Sequence[Block]) -> list[TitleCandidate]:
    """What stands before the abstract, as candidates for the title."""
    limit = sum(not block.text for block in blocks)
    return [
        TitleCandidate(
            " ".join(paragraph.lines), paragraph.size, _TITLE.fullmatch(paragraph.style.name) is not None
        )
        for paragraph in paragraphs[: limit if limit else len(paragraphs)]
        if any(paragraph.lines)
    ]
