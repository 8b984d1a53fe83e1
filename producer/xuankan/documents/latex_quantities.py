r"""The macros of siunitx: numbers, units, lists and ranges of quantities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from xuankan.documents.latex_definitions import Acronym, Definition, Span
from xuankan.documents.latex_formulas import Formulas
from xuankan.documents.latex_inputs import Action, Group
from xuankan.documents.latex_symbols import PREFIXES, UNITS
from xuankan.documents.latex_units import AFTER, BEFORE, SEPARATOR, angle, number, numbers, unit

_NUMBERS: Final[Mapping[str, Action]] = {
    "num": number,
    "numproduct": number,
    "tablenum": number,
    "numlist": numbers,
    "ang": angle,
}


class Quantities(Formulas):
    """A machine that knows siunitx, and the units that an author defines.

    Attributes:
        meanings: what the author defines.
        after_prefix: whether the prefix of a unit was just written, so that the unit follows without a space.
    """

    def __init__(self) -> None:
        super().__init__()
        self.meanings: dict[str, Definition | Acronym] = {}
        self.after_prefix = False
        self._power = ""
        self.handlers.update(dict.fromkeys(("SI", "qty", "qtyproduct"), self._quantity))
        self.handlers.update(dict.fromkeys(("SIrange", "qtyrange", "SIlist", "qtylist"), self._quantities))
        self.handlers.update(dict.fromkeys(_NUMBERS, self._number))
        self.handlers.update({"si": self._unit, "unit": self._unit, "numrange": self._quantities})

    def unit_macro(self, name: str) -> bool:
        """Write a macro of siunitx; returns whether it is one."""
        self.spaces()
        if name in PREFIXES:
            self.emit(SEPARATOR + PREFIXES[name])
            self.after_prefix = True
        elif name == "per":
            self.emit("/")
        elif name in AFTER:
            self.emit(AFTER[name])
        elif name in BEFORE:
            self._power = BEFORE[name]
        elif name == "tothe":
            self._power_of(self.argument(), "")
        elif name in ("of", "cancel", "highlight"):
            self.skip("{" if name == "highlight" else "")
        elif name in UNITS and not isinstance(self.meanings.get(name), Definition):
            self.emit(("" if self.after_prefix else SEPARATOR) + UNITS[name] + self._power)
            self.after_prefix, self._power = False, ""
        elif name in self.meanings:
            self.emit("" if self.after_prefix else SEPARATOR)
            self.after_prefix = False
            return False
        else:
            return False
        return True

    def _quantity(self, _: str) -> None:
        self.option()
        amount, measure = self.group(), None
        self.option()
        measure = self.group()
        self._push_unit(measure)
        if amount is not None:
            self.push(amount, Group(object(), lambda text: f"{number(text)} "))

    def _quantities(self, name: str) -> None:
        self.option()
        first = self.group()
        last = self.group() if name.endswith("range") else None
        if name != "numrange":
            self._push_unit(self.group())
            self.push_text(" ")
        if last is not None:
            self.push(last, Group(object(), number))
            self.push_text(" to ")
        if first is not None:
            self.push(first, Group(object(), number if last is not None else numbers))

    def _number(self, name: str) -> None:
        self.option()
        if (span := self.group()) is not None:
            self.push(span, Group(object(), _NUMBERS[name]))

    def _unit(self, _: str) -> None:
        option = self.option()
        self._push_unit(self.group())
        # The package units puts the number into the brackets.
        if option is not None and "=" not in (amount := self.literal(option)):
            self.push_text(f"{amount} ")

    def _push_unit(self, span: Span | None) -> None:
        if span is not None:
            self.after_prefix, self._power = False, ""
            self.push(span, Group(object(), self._united, units=True))

    def _united(self, text: str) -> str:
        text = unit(text)
        if (
            text[:1] in ("°", "′", "″")
            and not text[1:2].isalpha()
            and self.out
            and self.out[-1].endswith(" ")
        ):
            self.out[-1] = self.out[-1][:-1]
        return text

    def _power_of(self, span: Span | None, before: str) -> None:
        if span is not None:
            self.push(span, Group(object(), lambda text: f"{before}^{text}"))
