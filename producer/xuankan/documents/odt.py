"""OpenDocument texts: title, abstract, keywords and references by styles and headings.

Read directly, as Word's files are: of their XML only paragraphs, spans and styles are wanted here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Final

from xuankan.documents.archives import MAX_PARAGRAPHS, Archive, attribute, local, parse_xml, title_property
from xuankan.documents.files import File
from xuankan.documents.joining import first_long
from xuankan.documents.model import Document
from xuankan.documents.sections import NO_HEADING, Block, find_sections, paper, references
from xuankan.documents.titles import TitleCandidate, is_same, pick_title
from xuankan.errors import Unreadable

# What was deleted, what is no text of the author, and what repeats it.
_DROPPED: Final = frozenset(
    (
        *("tracked-changes", "annotation", "annotation-end", "note", "table-of-content", "sequence-decls"),
        *("object", "object-ole", "image", "forms", "alphabetical-index", "ruby-text", "bibliography-mark"),
    )
)
_SPACES: Final = {"tab": " ", "line-break": "\n"}
_TITLE: Final = re.compile(r"(?:\w{2,12}[\s_-]*)?(?<!sub)(?<!sub )title")
_MAX_SPACES: Final = 100


def read_odt(file: File) -> Document:
    """The title by its style, its size or its place; the abstract by its style or under its heading.

    Raises:
        Unreadable: it is damaged or locked, or there is no text in it.
    """
    archive = Archive(file.name, file.whole())
    data = archive.read("content.xml")
    if data is None:
        raise Unreadable(
            file.name, "it is no OpenDocument text, or it is damaged: there is no text part in it"
        )
    if b"encryption-data" in (archive.read("META-INF/manifest.xml", 2**22) or b""):
        raise Unreadable(file.name, "it wants a password: save it without one")
    root = parse_xml(file.name, data, recover=True)
    styles = _styles(root)
    common = archive.read("styles.xml")
    if common is not None:
        styles = {**_styles(parse_xml(file.name, common, recover=True)), **styles}
    blocks = [
        block
        for paragraph in islice(_paragraphs(root, styles), MAX_PARAGRAPHS)
        for block in (*paragraph, Block(""))
    ]
    if not any(block.text for block in blocks):
        raise Unreadable(file.name, "there is no text in it: paste the title and the abstract")
    found = find_sections(blocks)
    head = [
        TitleCandidate(block.text, block.size, _TITLE.fullmatch(block.style) is not None)
        for block in blocks[: found.start]
        if block.text
    ]
    title = pick_title(head, title_property(archive, "meta.xml"))
    abstract, warnings = found.abstract, list[str]()
    if not abstract:
        abstract = first_long(block.text for block in blocks if not is_same(block.text, title))
        warnings = [NO_HEADING] if abstract else []
    return paper(title, abstract, found.keywords, references=references(blocks), warnings=warnings)


class _OdtStyle:
    __slots__ = ("name", "parent", "size")

    def __init__(self, element: Any) -> None:
        self.name = (attribute(element, "display-name") or attribute(element, "name")).replace("_20_", " ")
        self.parent = attribute(element, "parent-style-name")
        sizes = (attribute(child, "font-size") for child in element if local(child) == "text-properties")
        self.size = next(
            (float(size[:-2]) for size in sizes if re.fullmatch(r"\d{1,3}(\.\d+)?pt", size)), 0.0
        )


def _styles(root: Any) -> dict[str, _OdtStyle]:
    return {
        attribute(style, "name"): _OdtStyle(style)
        for group in root
        if local(group) in ("automatic-styles", "styles")
        for style in group
        if local(style) == "style"
    }


def _style_of(key: str, styles: Mapping[str, _OdtStyle]) -> tuple[str, float]:
    """The name of the named style that one is made of, in small letters, and its size in points."""
    name, size = key, 0.0
    for _ in range(20):
        style = styles.get(key)
        if style is None:
            break
        name, size = style.name, size or style.size
        # `P12` is what a paragraph of a named style becomes when somebody changes its looks.
        if not re.fullmatch(r"P\d+", style.name):
            break
        key = style.parent
        name = key or name
    return name.replace("_20_", " ").casefold(), size


def _paragraphs(root: Any, styles: Mapping[str, _OdtStyle]) -> Iterator[list[Block]]:
    body = next((child for child in root if local(child) == "body"), None)
    stack = [(iter(() if body is None else body), "")]
    while stack:
        element = next(stack[-1][0], None)
        if element is None:
            if stack.pop()[1] == "table-cell":
                yield [Block("", gap=True)]
        elif (kind := local(element)) in ("p", "h"):
            pieces: list[str] = []
            boxes: list[Any] = []
            _text(element, pieces, boxes)
            name, size = _style_of(attribute(element, "style-name"), styles)
            lines = (" ".join(line.split()) for line in "".join(pieces).split("\n"))
            yield [Block(line, kind == "h", name, size) for line in lines if line]
            if boxes:
                stack.append((iter(boxes), kind))
        elif kind not in _DROPPED:
            stack.append((iter(element), kind))


def _text(element: Any, pieces: list[str], boxes: list[Any]) -> None:
    """The text of a paragraph; recursion is bounded by the parser, which refuses more than 256 levels."""
    pieces.append(element.text or "")
    for child in element:
        kind = local(child)
        if kind == "s":
            count = attribute(child, "c")
            pieces.append(" " * min(int(count) if count.isdecimal() else 1, _MAX_SPACES))
        elif kind in _SPACES:
            pieces.append(_SPACES[kind])
        elif kind == "text-box":
            boxes.append(child)
        elif kind not in _DROPPED:
            _text(child, pieces, boxes)
        pieces.append(child.tail or "")
