"""The lines of a PDF's first pages with their size and place, by PDFium."""

from __future__ import annotations

import ctypes
import math
from collections import Counter
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

from xuankan.unicode import normalized

MAX_PAGES: Final = 4
"""Covers and title pages come first; the abstract is not behind the fourth."""
_MAX_CHARACTERS: Final = 60_000
"""Of a page; a full page of small print has some 10,000."""
_UPRIGHT: Final = 0.1
"""Radians; the stamp of arXiv runs up the margin."""
_HYPHENS: Final = (0x02, 0xFFFE, 0xAD, 0x2010)
"""What PDFium puts where a hyphen ends a line, and what authors do."""
_LIGATURES: Final = {0x1B: "ff", 0x1C: "fi", 0x1D: "fl", 0x1E: "ffi", 0x1F: "ffl"}
"""Of TeX's T1 encoding, whose bitmap fonts say no more than these codes."""
_ACCENTS: Final = {
    "¨": "\u0308", "´": "\u0301", "`": "\u0300", "ˆ": "\u0302", "˜": "\u0303", "ˇ": "\u030c", "˘": "\u0306",
    "˚": "\u030a", "˝": "\u030b", "¯": "\u0304", "˙": "\u0307", "¸": "\u0327", "˛": "\u0328",
}  # fmt: skip
_SMALL: Final = 0.8
"""Of a line's size; what is smaller at its end is the mark of a footnote."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line as it is printed.

    Attributes:
        text: what it says, accents on their letters.
        size: of most of its letters, in points.
        left: of its first letter from the page's left edge, in points.
        right: of its last letter.
        bottom: from the page's lower edge.
        font: the name of the font of most of its letters.
        lead: how many characters at its beginning are in another font than the rest: a run-in heading.
        marks: how many characters at its end are smaller and higher than the rest.
    """

    text: str
    size: float
    left: float
    right: float
    bottom: float
    font: str = ""
    lead: int = 0
    marks: int = 0


@dataclass(frozen=True, slots=True)
class Printed:
    """Attributes: `pages`, the lines of each in their order of drawing; `named`, the properties' title."""

    pages: tuple[tuple[Line, ...], ...]
    named: str


def pdf_lines(data: bytes) -> Printed:
    """The lines of the first `MAX_PAGES` pages.

    Raises:
        ValueError: it is damaged or wants a password.
    """
    pdfium: Any = import_module("pypdfium2")  # it has no types
    try:
        document = pdfium.PdfDocument(data)
        count = len(document)
    except pdfium.PdfiumError as error:
        locked = "password" in str(error).lower()
        raise ValueError("it wants a password: unlock it first" if locked else "it is damaged") from error
    if not count:
        raise ValueError("it has no pages")
    named = str(document.get_metadata_value("Title") or "")
    pages: list[tuple[Line, ...]] = []
    for number in range(min(MAX_PAGES, count)):
        try:
            pages.append(tuple(_Page(document[number]).lines()))
        except pdfium.PdfiumError:
            pages.append(())  # one page may be damaged
    document.close()
    return Printed(tuple(pages), " ".join(named.split()))


class _Page:
    def __init__(self, page: Any) -> None:
        self._raw: Any = import_module("pypdfium2.raw")
        self._text = page.get_textpage()
        self._box = self._raw.FS_RECTF()
        self._matrix = self._raw.FS_MATRIX()
        self._name = ctypes.create_string_buffer(80)
        self._letters: list[_Letter] = []

    def lines(self) -> list[Line]:
        """Lines as PDFium breaks them; what does not stand upright is left out."""
        raw, text = self._raw, self._text
        found: list[Line] = []
        for index in range(min(text.count_chars(), _MAX_CHARACTERS)):
            code = raw.FPDFText_GetUnicode(text, index)
            if code in (0x0A, 0x0D):
                self._close(found)
            elif abs(raw.FPDFText_GetCharAngle(text, index)) > _UPRIGHT:
                continue
            elif code in _HYPHENS:
                self._letters.append(_Letter("-"))
                if code in _HYPHENS[:2]:
                    self._close(found)
            elif code in _LIGATURES or (code > 0x20 and not 0xD800 <= code < 0xE000):
                self._letters.append(self._letter(index, code))
            else:
                self._letters.append(_Letter(" "))
        self._close(found)
        return found

    def _letter(self, index: int, code: int) -> _Letter:
        raw, text, box, matrix = self._raw, self._text, self._box, self._matrix
        letter = _Letter(_LIGATURES.get(code, chr(code)))
        if raw.FPDFText_GetLooseCharBox(text, index, ctypes.byref(box)):
            size = raw.FPDFText_GetFontSize(text, index)
            if raw.FPDFText_GetMatrix(text, index, ctypes.byref(matrix)):
                size *= math.hypot(matrix.c, matrix.d)
            letter.size = size if size > 0.5 else abs(box.top - box.bottom)
            letter.left, letter.right, letter.bottom = box.left, box.right, box.bottom
            if raw.FPDFText_GetFontInfo(text, index, self._name, len(self._name), None):
                letter.font = self._name.value.decode("latin-1")
        return letter

    def _close(self, lines: list[Line]) -> None:
        letters, self._letters = self._letters, []
        while letters and letters[-1].text.isspace():
            letters.pop()
        while letters and letters[0].text.isspace():
            letters.pop(0)
        placed = [letter for letter in letters if letter.size]
        if not placed:
            return
        sizes = Counter(round(letter.size, 1) for letter in placed)
        size = sizes.most_common(1)[0][0]
        bottom = sorted(letter.bottom for letter in placed)[len(placed) // 2]
        font = Counter(letter.font for letter in placed).most_common(1)[0][0]
        lines.append(
            Line(
                text=_composed("".join(letter.text for letter in letters)),
                size=size,
                left=min(letter.left for letter in placed),
                right=max(letter.right for letter in placed),
                bottom=bottom,
                font=font,
                lead=_lead(letters),
                marks=_marks(letters, size),
            )
        )


class _Letter:
    __slots__ = ("bottom", "font", "left", "right", "size", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.size = self.left = self.right = self.bottom = 0.0
        self.font = ""


def _lead(letters: list[_Letter]) -> int:
    """How many characters stand before the first change of the font, if that is between two words."""
    first = letters[0].font
    for place, letter in enumerate(letters):
        if letter.size and letter.font != first:
            return place if place and letters[place - 1].text.isspace() else 0
    return 0


def _marks(letters: list[_Letter], size: float) -> int:
    count = 0
    for letter in reversed(letters):
        if not letter.size or letter.size > _SMALL * size:
            break
        count += 1
    return count if count < len(letters) else 0


def _composed(text: str) -> str:
    """Text with the accents on their letters, which TeX draws before them: `Schr¨odinger`."""
    if text.isascii() and "`" not in text:
        return text
    pieces: list[str] = []
    place = 0
    while place < len(text):
        mark = _ACCENTS.get(text[place])
        if mark is not None:
            behind = (
                place + 1 + (text[place + 1 : place + 2] == " " and place > 0 and text[place - 1].isalpha())
            )
            letter = {"ı": "i", "ȷ": "j"}.get(text[behind : behind + 1], text[behind : behind + 1])
            both = normalized("NFC", letter + mark)
            if letter.isalpha() and len(both) == 1:
                pieces.append(both)
                place = behind + 1
                continue
            before = normalized("NFC", pieces[-1] + mark) if pieces else ""
            if len(before) == 1 and before.isalpha():
                pieces[-1] = before
                place += 1
                continue
        pieces.append(text[place])
        place += 1
    return normalized("NFC", "".join(pieces))
