"""The lines of a PDF's first pages with their size and place, by PDFium."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any, Final, cast

MAX_PAGES: Final = 4
"""Covers and title pages come first; the abstract is not behind the fourth."""
_MAX_CHARACTERS: Final = 60_000
"""Of a page; a full page of small print has some 10,000."""
_UPRIGHT: Final = 0.1
"""Radians; the stamp of arXiv runs up the margin."""
_HYPHENS: Final = (0x02, 0xFFFE)
"""What PDFium puts where a hyphen ends a line."""

_LIGATURES: Final = {0x1B: "ff", 0x1C: "fi", 0x1D: "fl", 0x1E: "ffi", 0x1F: "ffl"}
"""Of TeX's T1 encoding, whose bitmap fonts say no more than these codes."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line as it is printed; places in points, `bottom` from the page's lower edge."""

    text: str
    size: float
    left: float
    right: float
    bottom: float


def pdf_lines(data: bytes) -> tuple[list[list[Line]], str]:
    """The lines of the first `MAX_PAGES` pages in their order of reading, and the title in the properties.

    Raises:
        ValueError: it is damaged or wants a password.
    """
    import pypdfium2  # pyright: ignore[reportMissingTypeStubs]  # it has none

    pdfium = cast(Any, pypdfium2)
    try:
        document = pdfium.PdfDocument(data)
    except pdfium.PdfiumError as error:
        locked = "password" in str(error).lower()
        raise ValueError("it wants a password: unlock it first" if locked else "it is damaged") from error
    if not len(document):
        raise ValueError("it has no pages")
    named = str(document.get_metadata_value("Title") or "")
    return [_lines(document[number]) for number in range(min(MAX_PAGES, len(document)))], named


def _lines(page: Any) -> list[Line]:
    import pypdfium2.raw as untyped  # pyright: ignore[reportMissingTypeStubs]  # it has none

    raw = cast(Any, untyped)
    text = page.get_textpage()
    box, lines = raw.FS_RECTF(), list[Line]()
    characters: list[str] = []
    sizes: list[float] = []
    edges: list[tuple[float, float, float]] = []

    def close() -> None:
        if edges and "".join(characters).strip():
            joined = "".join(characters).strip()
            lefts, rights, bottoms = zip(*edges, strict=True)
            lines.append(Line(joined, _middle(sizes), min(lefts), max(rights), _middle(bottoms)))
        for collected in (characters, sizes, edges):
            collected.clear()

    for index in range(min(text.count_chars(), _MAX_CHARACTERS)):
        code = raw.FPDFText_GetUnicode(text, index)
        if code in (0x0A, 0x0D):
            close()
            continue
        if abs(raw.FPDFText_GetCharAngle(text, index)) > _UPRIGHT:
            continue
        if code in _HYPHENS:
            characters.append("-")
            close()
            continue
        characters.append(_LIGATURES.get(code, chr(code)))
        if code > 0x20 and raw.FPDFText_GetLooseCharBox(text, index, ctypes.byref(box)):
            sizes.append(abs(box.top - box.bottom))
            edges.append((box.left, box.right, box.bottom))
    close()
    return lines


def _middle(values: Any) -> float:
    return sorted(values)[len(values) // 2]
