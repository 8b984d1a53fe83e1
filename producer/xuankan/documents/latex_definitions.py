r"""What an author defines: macros, environments, acronyms, and the branches of conditionals.

Bodies are spans of the tokens that are there already; nothing is copied.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from xuankan.documents.latex_tokens import UNPAIRED, Tokens

_COMMANDS: Final = frozenset(
    (
        *("newcommand", "renewcommand", "providecommand", "DeclareRobustCommand", "newrobustcmd"),
        *("renewrobustcmd", "DeclareMathOperator", "DeclareSIUnit"),
    )
)
_PRIMITIVES: Final = frozenset(("def", "gdef", "edef", "xdef"))
_DOCUMENT_COMMANDS: Final = frozenset(
    ("NewDocumentCommand", "RenewDocumentCommand", "ProvideDocumentCommand", "DeclareDocumentCommand")
)
_ENVIRONMENTS: Final = frozenset(("newenvironment", "renewenvironment"))
_DOCUMENT_ENVIRONMENTS: Final = frozenset(
    ("NewDocumentEnvironment", "RenewDocumentEnvironment", "DeclareDocumentEnvironment")
)
_ACRONYMS: Final = frozenset(
    ("newacronym", "newacro", "acro", "acrodef", "DeclareAcronym", "newglossaryentry")
)
DEFINING: Final = (
    _COMMANDS
    | _PRIMITIVES
    | _DOCUMENT_COMMANDS
    | _ENVIRONMENTS
    | _DOCUMENT_ENVIRONMENTS
    | _ACRONYMS
    | {"let"}
)
"""Macros that define others."""

_CONDITIONALS: Final = re.compile(
    r"if(?:x|num|dim|cat|odd|case|defined|csname|true|false|[mvh]mode|eof|void|inner|pdf|xetex|luatex|PDFTeX|"
    r"XeTeX|LuaTeX|@\w+)?"
)
_MAX_PARAMETERS: Final = 9
_ENTRY: Final = re.compile(r"(?:^|,)\s*(short|long|name|description|text)\s*=\s*\{?([^{},]*)")


class Span(NamedTuple):
    """Tokens from `start` to before `end`, and what `#1` and so on mean in them."""

    tokens: Tokens
    start: int
    end: int
    arguments: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True)
class Definition:
    """A macro, or one half of an environment.

    Attributes:
        body: what it stands for.
        parameters: one character each: `m` in braces, `o` in brackets, `s` a star.
        defaults: what an optional one is if it is not there.
        end: of an environment, what its end stands for.
    """

    body: Span
    parameters: str = ""
    defaults: Mapping[int, Span] | None = None
    end: Span | None = None


@dataclass(frozen=True, slots=True)
class Acronym:
    r"""What `\gls` and the like print."""

    short: str
    long: str


class Found(NamedTuple):
    """What a macro of `DEFINING` defines, if anything, and the place behind it."""

    name: str
    meaning: Definition | Acronym | None
    place: int


def read_definition(tokens: Tokens, place: int, definer: str) -> Found:
    """The definition whose defining macro ends before `place`."""
    reader = _Reader(tokens, place)
    if definer in _COMMANDS:
        reader.star()
        name = reader.name()
        parameters, defaults = reader.parameters() if definer not in ("DeclareSIUnit",) else ("", {})
        return reader.found(name, parameters, defaults)
    if definer in _PRIMITIVES:
        name = reader.name()
        return reader.found(name, reader.primitive_parameters(), {})
    if definer in _DOCUMENT_COMMANDS:
        name = reader.name()
        parameters, defaults = reader.document_parameters()
        return reader.found(name, parameters, defaults)
    if definer in _ENVIRONMENTS | _DOCUMENT_ENVIRONMENTS:
        reader.star()
        name = reader.text()
        parameters, defaults = (
            reader.parameters() if definer in _ENVIRONMENTS else reader.document_parameters()
        )
        begin, end = reader.argument(), reader.argument()
        if not name or begin is None or end is None:
            return Found("", None, reader.place)
        return Found(f"begin {name}", Definition(begin, parameters, defaults, end), reader.place)
    if definer == "let":
        return reader.alias()
    return reader.acronym(definer)


def all_definitions(tokens: Tokens) -> dict[str, Definition | Acronym]:
    """Every definition of a file, the first of each name: what a title uses may be defined behind it."""
    found: dict[str, Definition | Acronym] = {}
    place = 0
    kinds, texts = tokens.kinds, tokens.texts
    while place < len(tokens):
        if kinds[place] == "macro" and texts[place] in DEFINING:
            name, meaning, after = read_definition(tokens, place + 1, texts[place])
            if meaning is not None:
                found.setdefault(name, meaning)
            place = max(after, place + 1)
        else:
            place += 1
    return found


class _Reader:
    def __init__(self, tokens: Tokens, place: int) -> None:
        self.tokens, self.place = tokens, place

    def found(self, name: str, parameters: str, defaults: Mapping[int, Span]) -> Found:
        body = self.argument()
        if not name or body is None:
            return Found("", None, self.place)
        return Found(name, Definition(body, parameters, defaults), self.place)

    def star(self) -> None:
        self._spaces()
        if self._kind() == "*":
            self.place += 1

    def name(self) -> str:
        r"""`\name` or `{\name}`."""
        self._spaces()
        if self._kind() == "macro":
            self.place += 1
            return self.tokens.texts[self.place - 1]
        span = self.argument() if self._kind() == "{" else None
        if span is None:
            return ""
        inside = [
            at for at in range(span.start, min(span.end, span.start + 4)) if span.tokens.kinds[at] == "macro"
        ]
        return span.tokens.texts[inside[0]] if inside else ""

    def text(self) -> str:
        """The words of an argument."""
        span = self.argument()
        return "" if span is None else self.tokens.source(span.start, min(span.end, span.start + 50)).strip()

    def argument(self) -> Span | None:
        """What stands in braces here, or one token; of an open brace, the rest of its paragraph."""
        self._spaces()
        kind = self._kind()
        if kind in ("", "}", "paragraph"):
            return None
        start = self.place
        if kind != "{":
            self.place += 1
            return Span(self.tokens, start, start + 1)
        closed = self.tokens.pairs[start]
        if closed == UNPAIRED:
            self.place = self.tokens.end_of_open(start)
            return Span(self.tokens, start + 1, self.place)
        self.place = closed + 1
        return Span(self.tokens, start + 1, closed)

    def option(self) -> Span | None:
        """What stands in brackets here."""
        self._spaces()
        closed = self.tokens.pairs[self.place] if self._kind() == "[" else UNPAIRED
        if closed == UNPAIRED:
            return None
        span = Span(self.tokens, self.place + 1, closed)
        self.place = closed + 1
        return span

    def parameters(self) -> tuple[str, dict[int, Span]]:
        """`[2][default]`."""
        count = self.option()
        written = "" if count is None else self.tokens.source(count.start, count.end).strip()
        number = min(int(written), _MAX_PARAMETERS) if written.isdecimal() and len(written) < 3 else 0
        default = self.option()
        if default is None or not number:
            return "m" * number, {}
        return "o" + "m" * (number - 1), {0: default}

    def primitive_parameters(self) -> str:
        """`#1#2`; what else stands between them is not asked for."""
        number = 0
        limit = min(len(self.tokens), self.place + 60)
        while self.place < limit and self._kind() not in ("{", "paragraph"):
            number += self._kind() == "#"
            self.place += 1
        return "m" * min(number, _MAX_PARAMETERS)

    def document_parameters(self) -> tuple[str, dict[int, Span]]:
        """`{m O{default} s}`."""
        specification = self.argument()
        if specification is None:
            return "", {}
        parameters, defaults = "", dict[int, Span]()
        inner = _Reader(self.tokens, specification.start)
        while inner.place < specification.end and len(parameters) < _MAX_PARAMETERS:
            if inner._kind() == "{":
                default = inner.argument()
                if default is not None and parameters.endswith("o"):
                    defaults[len(parameters) - 1] = default
                continue
            for letter in self.tokens.texts[inner.place]:
                if letter in "mrvosO":
                    parameters += {"O": "o", "r": "m", "v": "m"}.get(letter, letter)
            inner.place += 1
        return parameters[:_MAX_PARAMETERS], defaults

    def alias(self) -> Found:
        r"""`\let\a=\b`."""
        name = self.name()
        self._spaces()
        if self._kind() == "word" and self.tokens.texts[self.place] == "=":
            self.place += 1
            self._spaces()
        start = self.place
        if not name or self._kind() in ("", "paragraph"):
            return Found("", None, self.place)
        self.place += 1
        same = self._kind(start) == "macro" and self.tokens.texts[start] == name
        return Found(name, None if same else Definition(Span(self.tokens, start, start + 1)), self.place)

    def acronym(self, definer: str) -> Found:
        if definer == "newacronym":
            self.option()
        key = self.text()
        if definer in ("DeclareAcronym", "newglossaryentry"):
            span = self.argument()
            entry = "" if span is None else self.tokens.source(span.start, min(span.end, span.start + 200))
            fields = dict(_ENTRY.findall(entry))
            short = fields.get("short") or fields.get("text") or fields.get("name") or key
            long = fields.get("long") or short
        elif definer == "newacronym":
            short, long = self.text(), self.text()
        else:
            option = self.option()
            short = (
                key
                if option is None
                else self.tokens.source(option.start, min(option.end, option.start + 50))
            )
            long = self.text()
        if not key or not short:
            return Found("", None, self.place)
        return Found(f"acronym {key}", Acronym(short.strip("{} "), long.strip("{} ")), self.place)

    def _spaces(self) -> None:
        while self._kind() == "space":
            self.place += 1

    def _kind(self, place: int | None = None) -> str:
        place = self.place if place is None else place
        return self.tokens.kinds[place] if place < len(self.tokens) else ""


def branches(tokens: Tokens) -> dict[int, int]:
    r"""Where conditionals lead: place of `\if...`, `\else` or `\fi` -> the place to go on at.

    Of one whose value is not known the first branch is taken. One that is never closed counts for nothing.
    """
    jumps: dict[int, int] = {}
    flags: dict[str, bool] = {}
    opened: list[tuple[int, int, bool, int]] = []
    kinds, texts = tokens.kinds, tokens.texts
    place = -1
    while (place := place + 1) < len(tokens):
        if kinds[place] != "macro":
            continue
        name = texts[place]
        following = texts[place + 1] if place + 1 < len(tokens) and kinds[place + 1] == "macro" else ""
        if name == "newif" and following:
            flags.setdefault(following, False)
            place += 1
        elif name == "let" and following.startswith("if"):
            target = texts[place + 2] if place + 2 < len(tokens) else ""
            flags[following] = target != "iffalse"
            place += 2
        elif (
            name.endswith(("true", "false"))
            and f"if{name.removesuffix('true').removesuffix('false')}" in flags
        ):
            flags[f"if{name.removesuffix('true').removesuffix('false')}"] = name.endswith("true")
            jumps[place] = place + 1
        elif name in flags or _CONDITIONALS.fullmatch(name):
            value, after = _condition(tokens, place, flags)
            opened.append((place, after, value, UNPAIRED))
        elif name in ("else", "or") and opened and opened[-1][3] == UNPAIRED:
            opened[-1] = (*opened[-1][:3], place)
        elif name == "fi" and opened:
            start, after, value, otherwise = opened.pop()
            jumps[place] = place + 1
            if otherwise == UNPAIRED:
                jumps[start] = after if value else place + 1
            else:
                jumps[start] = after if value else otherwise + 1
                jumps[otherwise] = place + 1
    return jumps


def _condition(tokens: Tokens, place: int, flags: Mapping[str, bool]) -> tuple[bool, int]:
    """The value of a conditional, and where its first branch begins."""
    name = tokens.texts[place]
    if name in flags:
        return flags[name], place + 1
    if name in ("iftrue", "iffalse"):
        return name == "iftrue", place + 1
    after = place + 1
    while after < len(tokens) and tokens.kinds[after] == "space":
        after += 1
    if name == "if" and after < len(tokens) and tokens.kinds[after] == "word":
        word = tokens.texts[after]
        return word[:1] == word[1:2], after + 1
    if name == "ifx":
        return True, min(after + 2, len(tokens))
    while after < min(len(tokens), place + 8) and tokens.kinds[after] in ("word", "macro"):
        after += 1
    return True, after
