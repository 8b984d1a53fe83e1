"""Formulas as text in one line: of LaTeX, of Word's equations and of MathML alike."""

from __future__ import annotations

import re
from typing import Final

_SIMPLE: Final = re.compile(r"[\w.°′∞]*")
_SIGNED: Final = re.compile(r"[+\-−±]?[\w.°′*†∞]*[+\-−]?")
_WHOLE: Final = frozenset(("°", "*", "†", "‡", "⊙"))


def wrapped(text: str) -> str:
    """A part of a formula that an operator stands at: in brackets if it has operators of its own."""
    text = text.strip()
    return text if _SIMPLE.fullmatch(text) else f"({text})"


def fraction(over: str, under: str) -> str:
    """`a/b`, `(a+b)/2`."""
    return f"{wrapped(over)}/{wrapped(under)}"


def script(mark: str, before: str, text: str, *, alone: bool = False) -> str:
    """A subscript or superscript: CO2 and H2O, but x_i, 10^-3 and e^(-x/2).

    Args:
        mark: `_` or `^`.
        before: the character that it stands at.
        text: what is set lower or higher.
        alone: whether nothing else is in its formula, so that it belongs to the word in front of that.
    """
    text = text.strip()
    if not text or text in _WHOLE or not text.strip("′"):
        return text
    if (
        mark == "_"
        and text.isalnum()
        and (alone or (text.isdecimal() and (before.isupper() or before == ")")))
    ):
        return text
    if mark == "^" and (
        text in ("th", "st", "nd", "rd") or (alone and not before.isalnum() and text.isalnum())
    ):
        return text
    return mark + (text if _SIGNED.fullmatch(text) else f"({text})")
