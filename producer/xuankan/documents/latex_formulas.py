r"""LaTeX's symbols, accents and formulas as text in one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from xuankan.documents.formulas import script, wrapped
from xuankan.documents.latex_inputs import Group
from xuankan.documents.latex_machine import SOFT, Machine
from xuankan.documents.latex_symbols import ACCENTS, symbols
from xuankan.unicode import normalized

_FRACTIONS: Final = ("frac", "dfrac", "tfrac", "nicefrac", "sfrac", "cfrac", "textfrac", "flatfrac")


class Formulas(Machine):
    """A machine that knows symbols and formulas.

    Attributes:
        handlers: what macros do that do more than stand for a text.
        symbols: what macros stand for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.symbols = symbols()
        self.handlers: dict[str, Callable[[str], None]] = {
            **dict.fromkeys(_FRACTIONS, self._fraction),
            "sqrt": self._root,
            "not": self._not,
            "left": self._delimiter,
            "right": self._delimiter,
            "(": lambda _: self.open(Group("\\(", math=True)),
            ")": lambda _: self._leave("\\("),
            "[": lambda _: self.open(Group("\\[", math=True)),
            "]": lambda _: self._leave("\\["),
        }

    def mark(self, mark: str) -> None:
        """Write a mark, or what it makes of the argument behind it."""
        if mark in "^_" and (self.math or self.units):
            self._script(mark)
        else:
            super().mark(mark)

    def symbol(self, name: str, text: str) -> None:
        """Write what a macro stands for, with the spaces that readers expect."""
        is_word = len(text) > 1 and text.isalnum()
        if not self.math:
            spaced = name.isalpha() and self.spaces()
            self.emit(text + (SOFT if spaced and is_word else ""))
            return
        before = self.out[-1][-1:] if self.out else ""
        if not text.isalpha():  # `n\geq 5` and `n \geq 5` keep what they have on both sides
            self.emit(text)
            if name.isalpha() and self.spaces() and before.isspace():
                self.emit(" ")
            return
        self.emit((" " if is_word and before.isalnum() else "") + text)
        if self.spaces():
            self.emit(" ")
        elif is_word:
            self.emit(SOFT)

    def accent(self, name: str) -> None:
        """Put an accent on what comes next."""
        if self.is_empty_group():
            self.group()
            self.emit(name if name in "^~" else "")
        elif (span := self.argument()) is not None:
            mark = ACCENTS[name]
            self.push(span, Group(object(), lambda text: _accented(text, mark)))

    def _leave(self, name: str) -> None:
        self.close(name)
        if name == "\\[":
            self.emit(" ")

    def _not(self, _: str) -> None:
        if (span := self.argument()) is not None:
            self.push(span, Group(object(), lambda text: _accented(text, "\u0338")))

    def _script(self, mark: str) -> None:
        before = "" if not self.out else self.out[-1][-1:]
        alone = self.is_first()
        if alone:  # of a formula: what it stands at is text, `CO$_2$`
            before = next((piece for piece in reversed(self.out[-3:]) if piece), "")[-1:]
        if (span := self.argument()) is not None:
            self.push(span, Group(object(), lambda text: script(mark, before, text, alone=alone)))

    def _delimiter(self, _: str) -> None:
        if self.peek() == "word" and self.peek_text().startswith("."):
            self.use(1)

    def _fraction(self, _: str) -> None:
        self.skip("[")
        over, under = self.argument(), self.argument()
        if under is not None:
            self.push(under, Group(object(), wrapped))
            self.push_text("/")
        if over is not None:
            self.push(over, Group(object(), wrapped))

    def _root(self, _: str) -> None:
        self.option()
        if (span := self.argument()) is not None:
            self.push(span, Group(object(), lambda text: f"√{wrapped(text)}"))


def _accented(text: str, mark: str) -> str:
    place = next((at for at, letter in enumerate(text) if not letter.isspace()), None)
    if place is None:
        return text
    letter = {"ı": "i", "ȷ": "j"}.get(text[place], text[place])
    return text[:place] + normalized("NFC", letter + mark) + text[place + 1 :]
