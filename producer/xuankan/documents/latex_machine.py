r"""Runs over tokens of LaTeX and writes their text: expands macros, drops what is no text, keeps the rest.

As TeX does it: a stack of inputs (the file, the macro it calls, that macro's argument) and a stack of
groups, so that nothing here is recursive. Each token of the file is read once; what macros add is counted,
and when it is too much they are no longer expanded.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from xuankan.documents.latex_definitions import Span
from xuankan.documents.latex_inputs import Group, Input, Inputs
from xuankan.documents.latex_symbols import (
    ENVIRONMENT_ARGUMENTS,
    MATH_ENVIRONMENTS,
    TABLES,
    UNREAD_ENVIRONMENTS,
)
from xuankan.documents.latex_tokens import UNPAIRED, Kind, Tokens

CITED: Final = "\ue000"
"""Stands where a work is cited; `latex_text.finish` takes it away with the brackets around it."""
SOFT: Final = "\ue001"
"""Between two words a space, else nothing."""
_MAX_ACTIONS: Final = 100
"""Nested arguments whose text is changed when they end; deeper ones are left as they are."""
_FREE_WORK: Final = 50_000
_WORK_PER_TOKEN: Final = 1


class Machine(Inputs):
    """Reads tokens and writes text.

    Attributes:
        out: the text so far, in pieces.
        math: whether a formula is being read.
        units: whether a unit of siunitx is being read.
        exhausted: whether macros called so many others that they are no longer expanded.
        steps: tokens read, those of macros and arguments counted each time: the work done.
    """

    def __init__(self) -> None:
        super().__init__()
        self.out: list[str] = []
        self.math = False
        self.units = False
        self.exhausted = False
        self.steps = 0
        self.next_math: bool | None = None
        """What the next brace begins, if not what is around it: a formula or text."""
        self._groups: list[Group] = []
        self._open = Counter[object]()
        self._actions = 0
        self._tables = 0
        self._added = 0
        self._limit = _FREE_WORK

    def run(self, tokens: Tokens) -> None:
        """Read them all; every group is closed at the end."""
        self._limit = _FREE_WORK + _WORK_PER_TOKEN * len(tokens)
        self.push(Span(tokens, 0, len(tokens)))
        inputs = self.inputs
        while inputs:
            source = inputs[-1]
            if source.opens is not None:
                self.open(source.opens)
                source.closes, source.opens = source.opens.name, None
            if source.at >= source.end:
                inputs.pop()
                if source.closes is not None:
                    self.close(source.closes)
                if source.on_end is not None:
                    source.on_end()
                continue
            place = source.at
            source.at = place + 1
            self.steps += 1
            text = source.tokens.texts[place]
            if source.offset:
                text, source.offset = text[source.offset :], 0
            if source.expanded:
                self._added += 1 + (len(text) >> 5)
                if self._added > self._limit:
                    self.exhausted = True
                    inputs[-1].at = source.end
                    continue
            self._token(source, place, source.tokens.kinds[place], text)
        while self._groups:
            self._close()

    def macro(self, name: str, place: int, source: Span) -> None:
        """Do what a macro says; of subclasses.

        Args:
            name: without the backslash.
            place: where it stands in its tokens.
            source: the rest of what is being read.
        """
        raise NotImplementedError

    def begin(self, name: str) -> bool:
        """Begin an environment that is not one of those known here; returns whether it is. Of subclasses."""
        raise NotImplementedError

    def end_body(self, name: str) -> Span | None:
        """What the end of an author's environment stands for; of subclasses."""
        raise NotImplementedError

    def emit(self, text: str) -> None:
        """Write text."""
        if text:
            self.out.append(text)

    def is_first(self) -> bool:
        """Whether nothing was written yet in the innermost group."""
        return bool(self._groups) and self._groups[-1].start == len(self.out)

    def open(self, group: Group) -> None:
        """Begin a group; a formula's or a unit's state is put back at its end."""
        group.start = len(self.out)
        if group.action is not None:
            self._actions += 1
            if self._actions > _MAX_ACTIONS:
                group.action = None
                self._actions -= 1
        group.math, self.math = self.math, self.math if group.math is None else group.math
        group.units, self.units = self.units, group.units
        self._groups.append(group)
        self._open[group.name] += 1

    def close(self, name: object) -> bool:
        """End the innermost group of a name and all inside it; returns whether there was one."""
        if not self._open[name]:
            return False
        while self._groups:
            if self._close() == name:
                return True
        return False

    def begin_environment(self, name: str) -> None:
        r"""`\begin{name}`."""
        if self.begin(name):
            return
        if name in MATH_ENVIRONMENTS:
            self.emit(" ")
            self.open(Group(f"env {name}", math=True))
            self.skip(ENVIRONMENT_ARGUMENTS.get(name, ""))
        elif name in UNREAD_ENVIRONMENTS:
            self.open(Group(f"env {name}", action=lambda _: " "))
        else:
            self._tables += name in TABLES
            self.emit("\n\n")
            self.open(Group(f"env {name}"))
            self.skip(ENVIRONMENT_ARGUMENTS.get(name, "["))

    def end_environment(self, name: str) -> None:
        r"""`\end{name}`."""
        if (body := self.end_body(name)) is not None and self._open[f"env {name}"]:
            self.push(body, on_end=lambda: self._end(name), again=True)
        else:
            self._end(name)

    def _token(self, source: Input, place: int, kind: Kind, text: str) -> None:
        if kind == "word":
            self.word(text)
        elif kind == "space":
            self.out.append(" ")
        elif kind == "macro":
            self.macro(text, place, Span(source.tokens, source.at, source.end, source.arguments))
        elif kind == "raw":
            self.out.append(text)
        elif kind == "{":
            if source.tokens.pairs[place] != UNPAIRED:
                math, self.next_math = self.next_math, None
                self.open(Group((id(source.tokens), place), math=math, units=self.units))
        elif kind == "}":
            self.close((id(source.tokens), source.tokens.pairs[place]))
        elif kind == "paragraph":
            self.close("$")
            self.out.append("\n\n")
        elif kind == "$":
            if self.math:
                self.close("$")
            else:
                self.open(Group("$", math=True))
        elif kind == "#":
            number = int(text) if text.isdecimal() else 0
            if 0 < number <= len(source.arguments):
                self.push(source.arguments[number - 1], again=True)
            elif not source.expanded:
                self.out.append(f"#{text}")
        else:
            self.mark(kind)

    def word(self, text: str) -> None:
        """Write a word; of subclasses."""
        self.out.append(text)

    def mark(self, mark: str) -> None:
        """Write one of `& ~ ^ _ * [ ]`; of subclasses."""
        self.out.append(" " if mark == "~" or (mark == "&" and (self.math or self._tables > 0)) else mark)

    def _end(self, name: str) -> None:
        if self.close(f"env {name}"):
            self._tables -= name in TABLES
            self.emit(" " if name in MATH_ENVIRONMENTS else "\n\n")

    def _close(self) -> object:
        group = self._groups.pop()
        self._open[group.name] -= 1
        if not self._open[group.name]:
            del self._open[group.name]
        self.math, self.units = bool(group.math), group.units
        if group.action is not None:
            self._actions -= 1
            text = "".join(self.out[group.start :])
            del self.out[group.start :]
            self.emit(group.action(text))
        return group.name
