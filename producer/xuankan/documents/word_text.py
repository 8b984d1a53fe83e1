"""The text of one paragraph of Word: insertions kept, deletions dropped, equations in one line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from xuankan.documents.archives import attribute, local
from xuankan.documents.formulas import fraction, script, wrapped

_DROPPED: Final = frozenset(
    (
        *("pPr", "del", "moveFrom", "instrText", "delText", "delInstrText", "rPrChange", "footnoteReference"),
        *(
            "endnoteReference",
            "commentReference",
            "annotationRef",
            "sdtPr",
            "sdtEndPr",
            "smartTagPr",
            "ctrlPr",
        ),
        *("fldData", "binData"),
    )
)
_CHARACTERS: Final = {"tab": " ", "ptab": " ", "noBreakHyphen": "-", "softHyphen": "", "cr": "\n", "br": "\n"}
_BOXES: Final = frozenset(("txbxContent",))
_SYMBOLS: Final = dict(
    zip(
        range(0x41, 0x5B),
        "ΑΒΧΔΕΦΓΗΙϑΚΛΜΝΟΠΘΡΣΤΥςΩΞΨΖ",
        strict=True,
    )
) | dict(zip(range(0x61, 0x7B), "αβχδεφγηιϕκλμνοπθρστυϖωξψζ", strict=True)) | {
    0xA3: "≤", 0xB3: "≥", 0xB1: "±", 0xB4: "×", 0xB0: "°", 0xB7: "•", 0xA5: "∞", 0xB9: "≠", 0xBB: "≈",
    0xAE: "→", 0xD7: "·", 0xB6: "∂", 0xD6: "√", 0xE5: "∑", 0x2D: "−",
}  # fmt: skip
"""Of the font Symbol, whose letters Word stores as numbers."""


@dataclass(frozen=True, slots=True)
class Text:
    """Attributes: `lines` as broken by hand; `size` of the largest letters in points; `boxes` inside it."""

    lines: tuple[str, ...]
    size: float
    boxes: tuple[Any, ...]


def paragraph_text(paragraph: Any) -> Text:
    """What a paragraph says. Recursion is bounded by the parser, which refuses more than 256 levels."""
    reader = _WordReader()
    reader.read(paragraph)
    lines = tuple(" ".join(line.split()) for line in "".join(reader.pieces).split("\n"))
    return Text(tuple(line for line in lines if line), reader.size, tuple(reader.boxes))


class _WordReader:
    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.size = 0.0
        self.boxes: list[Any] = []

    def read(self, parent: Any) -> None:
        for element in parent:
            kind = local(element)
            if kind == "t":
                self.pieces.append(element.text or "")
            elif kind == "r":
                self._run(element)
            elif kind in _CHARACTERS:
                is_page = kind == "br" and attribute(element, "type") in ("page", "column")
                self.pieces.append(" " if is_page else _CHARACTERS[kind])
            elif kind == "sym":
                self.pieces.append(_symbol(attribute(element, "char")))
            elif kind in ("oMath", "oMathPara"):
                around = " " if kind == "oMathPara" else ""
                self.pieces.append(f"{around}{equation(element)}{around}")
            elif kind == "AlternateContent":
                self.read(element[:1])
            elif kind in _BOXES:
                self.boxes.append(element)
            elif kind in ("drawing", "object", "pict"):
                self._boxes(element)
            elif kind == "ruby":
                self.read(child for child in element if local(child) == "rubyBase")
            elif kind not in _DROPPED:
                self.read(element)

    def _run(self, run: Any) -> None:
        properties = next((child for child in run if local(child) == "rPr"), ())
        before = len(self.pieces)
        for child in properties:
            kind, value = local(child), attribute(child, "val")
            if kind == "vanish" and value not in ("0", "false"):
                return
            if kind == "sz" and value.isdecimal() and len(value) < 5:
                size = int(value) / 2
                self.read(child for child in run if local(child) != "rPr")
                if any(piece.strip() for piece in self.pieces[before:]):
                    self.size = max(self.size, size)
                return
        self.read(child for child in run if local(child) != "rPr")

    def _boxes(self, element: Any) -> None:
        """Text boxes of a drawing; what an alternative repeats is left out."""
        for child in element:
            kind = local(child)
            if kind in _BOXES:
                self.boxes.append(child)
            elif kind == "AlternateContent":
                self._boxes(child[:1])
            else:
                self._boxes(child)


def equation(element: Any) -> str:
    """An equation of Word in one line."""
    kind = local(element)
    if kind in ("t", "delText"):
        return element.text or ""
    if kind.endswith("Pr") or kind in ("del", "moveFrom"):
        return ""
    parts = {local(child): child for child in element}
    if kind == "f":
        return fraction(_part(parts, "num"), _part(parts, "den"))
    if kind in ("sSup", "sSub", "sSubSup", "sPre"):
        base = _part(parts, "e")
        below = script("_", base[-1:], _part(parts, "sub")) if "sub" in parts else ""
        above = script("^", base[-1:], _part(parts, "sup")) if "sup" in parts else ""
        return f"{above}{below}{base}" if kind == "sPre" else f"{base}{below}{above}"
    if kind == "rad":
        return f"√{wrapped(_part(parts, 'e'))}"
    if kind == "d":
        inner = ", ".join(equation(child) for child in element if local(child) == "e")
        begin, end = _delimiters(parts.get("dPr"))
        return f"{begin}{inner}{end}"
    if kind == "nary":
        sign = _value(parts.get("naryPr"), "chr", "∫")
        below, above = (script(m, "", _part(parts, n)) for m, n in (("_", "sub"), ("^", "sup")))
        return f"{sign}{below}{above} {_part(parts, 'e')}"
    if kind == "func":
        return f"{_part(parts, 'fName')} {_part(parts, 'e')}"
    return _all(element)


def _part(parts: dict[str, Any], name: str) -> str:
    return _all(parts[name]) if name in parts else ""


def _all(children: Iterable[Any]) -> str:
    return "".join(equation(child) for child in children)


def _delimiters(properties: Any) -> tuple[str, str]:
    return _value(properties, "begChr", "("), _value(properties, "endChr", ")")


def _value(properties: Any, name: str, default: str) -> str:
    for child in properties if properties is not None else ():
        if local(child) == name:
            return attribute(child, "val")
    return default


def _symbol(code: str) -> str:
    try:
        number = int(code, 16)
    except ValueError:
        return ""
    if 0xF000 <= number <= 0xF0FF:
        number -= 0xF000
        return _SYMBOLS.get(number, chr(number) if 0x20 <= number < 0x7F else "")
    return chr(number) if 0x20 <= number < 0xD800 else ""
