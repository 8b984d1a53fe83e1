"""What LaTeX is read from: a stack of spans of tokens, and what a macro may take from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from xuankan.documents.latex_definitions import Span
from xuankan.documents.latex_tokens import UNPAIRED, Kind, Tokens

MAX_INPUTS: Final = 200
"""Macros within macros; more are a loop."""
Action = Callable[[str], str]


class Group:
    """What is open: a brace, a formula, an environment, an argument whose text will be changed.

    Attributes:
        name: of an environment its name, of a brace which one it is, of others an object of their own.
        action: what becomes of its text at its end.
        math: whether inside is a formula; None: as outside.
    """

    __slots__ = ("action", "math", "name", "start", "units")

    def __init__(
        self, name: object, action: Action | None = None, math: bool | None = None, units: bool = False
    ) -> None:
        self.name, self.action, self.math, self.units = name, action, math, units
        self.start = 0


class Input:
    """Tokens that are being read; `at` is the next one, of which `offset` characters were used."""

    __slots__ = ("arguments", "at", "closes", "end", "expanded", "offset", "on_end", "opens", "tokens")

    def __init__(
        self, span: Span, expanded: bool, opens: Group | None, on_end: Callable[[], object] | None
    ) -> None:
        self.tokens, self.at, self.end, self.arguments = span
        self.offset = 0
        self.expanded = expanded
        self.opens = opens
        self.closes: object = None
        self.on_end = on_end


class Inputs:
    """The file, the macro that it calls, that macro's argument, and so on; the last one is read first.

    Attributes:
        inputs: the stack.
    """

    def __init__(self) -> None:
        self.inputs: list[Input] = []

    def push(
        self,
        span: Span,
        opens: Group | None = None,
        on_end: Callable[[], object] | None = None,
        *,
        again: bool = False,
    ) -> None:
        """Read a span next.

        Args:
            span: the tokens.
            opens: a group around them.
            on_end: called behind them.
            again: they may be read more than once, so that reading them counts against the limit.
        """
        expanded = again or (bool(self.inputs) and self.inputs[-1].expanded)
        self.inputs.append(Input(span, expanded, opens, on_end))

    def push_text(self, text: str, on_end: Callable[[], object] | None = None) -> None:
        """Write text when what is pushed behind this was read."""
        tokens = Tokens()
        tokens.add("raw", text)
        self.push(Span(tokens, 0, 1), on_end=on_end)

    def groups_ahead(self, limit: int) -> int:
        """How many groups in braces follow each other from here, up to a limit."""
        source = self.source()
        found, at = 0, 0 if source is None else source.at
        while source is not None and found < limit and at < source.end:
            if source.tokens.kinds[at] == "{" and source.tokens.pairs[at] != UNPAIRED:
                found, at = found + 1, source.tokens.pairs[at] + 1
            elif source.tokens.kinds[at] == "space":
                at += 1
            else:
                break
        return found

    def is_deep(self) -> bool:
        """Whether too many macros are being read within each other."""
        return len(self.inputs) > MAX_INPUTS

    def jump(self, place: int) -> None:
        """Go on elsewhere in the tokens that are being read."""
        source = self.inputs[-1]
        source.at, source.offset = max(source.at, min(place, source.end)), 0

    def use(self, characters: int) -> None:
        """Pass over the beginning of the next word."""
        source = self.source()
        if source is None:
            return
        if source.offset + characters < len(source.tokens.texts[source.at]):
            source.offset += characters
        else:
            source.at, source.offset = source.at + 1, 0

    def peek(self) -> Kind | None:
        """The kind of the next token; None at the end of what is being read."""
        source = self.source()
        return None if source is None else source.tokens.kinds[source.at]

    def peek_text(self) -> str:
        """The text of the next token."""
        source = self.source()
        return "" if source is None else source.tokens.texts[source.at][source.offset :]

    def is_empty_group(self) -> bool:
        """Whether `{}` is next."""
        source = self.source()
        return source is not None and source.tokens.pairs[source.at] == source.at + 1 and self.peek() == "{"

    def spaces(self) -> bool:
        """Pass over spaces, not over empty lines; returns whether there were any."""
        found = False
        while self.peek() == "space":
            self.inputs[-1].at += 1
            found = True
        return found

    def star(self) -> bool:
        """Pass over a star."""
        if self.peek() == "*":
            self.inputs[-1].at += 1
            return True
        return False

    def option(self) -> Span | None:
        """What stands in brackets next, passed over; None if nothing does."""
        source = self.source()
        ahead = 0 if source is None else source.at
        while source is not None and ahead < source.end and source.tokens.kinds[ahead] == "space":
            ahead += 1
        if source is None or ahead >= source.end or source.tokens.kinds[ahead] != "[":
            return None
        closed = source.tokens.pairs[ahead]
        if closed == UNPAIRED or closed >= source.end:
            return None
        source.at = closed + 1
        return Span(source.tokens, ahead + 1, closed, source.arguments)

    def group(self) -> Span | None:
        """What stands in braces next, passed over; None if nothing does."""
        self.spaces()
        return self.argument() if self.peek() == "{" else None

    def argument(self) -> Span | None:
        """What stands in braces next, or the next letter or macro; passed over. None if there is nothing."""
        self.spaces()
        source = self.source()
        if source is None:
            return None
        tokens, place = source.tokens, source.at
        kind = tokens.kinds[place]
        if kind in ("paragraph", "}", "$"):
            return None
        source.at = place + 1
        if kind == "{":
            closed = tokens.pairs[place]
            if closed == UNPAIRED:
                closed = source.at = min(tokens.end_of_open(place), source.end)
                return Span(tokens, place + 1, closed, source.arguments)
            source.at = closed + 1
            return Span(tokens, place + 1, closed, source.arguments)
        if kind == "word":
            text = tokens.texts[place]
            letter = Tokens()
            letter.add("word", text[source.offset])
            if source.offset + 1 < len(text):
                source.at, source.offset = place, source.offset + 1
            else:
                source.offset = 0
            return Span(letter, 0, 1)
        return Span(tokens, place, place + 1, source.arguments)

    def skip_macro(self) -> None:
        """Pass over a macro that is named, not called."""
        self.spaces()
        if self.peek() == "macro":
            self.inputs[-1].at += 1

    def skip(self, arguments: str) -> None:
        """Pass over arguments: `*` and `[` if they are there, `{` too; what stands without braces stays."""
        for kind in arguments:
            if kind == "*":
                self.star()
            elif kind == "[":
                self.option()
            else:
                self.group()

    def literal(self, span: Span | None, limit: int = 200) -> str:
        """A span as it is written: of names and keys."""
        return (
            "" if span is None else span.tokens.source(span.start, min(span.end, span.start + limit)).strip()
        )

    def source(self) -> Input | None:
        """What the next token comes from: an input that is used up gives way to the one below it."""
        while self.inputs:
            source = self.inputs[-1]
            if source.at < source.end:
                return source
            if source.on_end or source.opens or source.closes or len(self.inputs) == 1:
                return None
            self.inputs.pop()
        return None
