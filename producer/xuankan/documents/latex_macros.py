r"""What LaTeX's macros do to the text: formulas, accents, units, links, acronyms, the author's own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from xuankan.documents.latex_definitions import (
    DEFINING,
    Acronym,
    Definition,
    Span,
    all_definitions,
    branches,
    read_definition,
)
from xuankan.documents.latex_inputs import Action, Group
from xuankan.documents.latex_machine import CITED, SOFT
from xuankan.documents.latex_quantities import Quantities
from xuankan.documents.latex_symbols import (
    ACCENTS,
    DIMENSION,
    DIMENSIONED,
    SILENT,
    SKIPPED,
    TEXT_FONTS,
    is_citation,
)
from xuankan.documents.latex_tokens import Tokens

_LIGATURES: Final = (
    ("---", "—"),
    ("--", "–"),
    ("``", "“"),
    ("''", "”"),
    (",,", "„"),
    ("!`", "¡"),
    ("?`", "¿"),
    ("`", "‘"),
)
_HAS_LIGATURE: Final = re.compile(r"--|`|''|,,")
_ACRONYMS: Final = re.compile(
    r"(?:[gG]ls|GLS|[aA]c)(?:pl|xtr)?(?:short|long|full|s|l|f|p|lp|fp|sp|desc|text)?(?:pl)?|acr(?:short|long|full)(?:pl)?"
)
_CASES: Final[Mapping[str, Action]] = {
    "uppercase": str.upper,
    "MakeUppercase": str.upper,
    "MakeTextUppercase": str.upper,
    "lowercase": str.lower,
    "MakeLowercase": str.lower,
    "MakeTextLowercase": str.lower,
}
_FIXED: Final = frozenset(
    (
        *("begin", "end", "section", "title", "author", "thanks", "footnote", "label", "href", "url", "\\"),
        *("cite", "citep", "citet", "ref", "eqref", "autoref", "cref"),
    )
)


class Converter(Quantities):
    """Text of LaTeX.

    Attributes:
        fixed: macros that mean what they mean here, whatever a class or an author says.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fixed: set[str] = set(_FIXED)
        self._jumps: dict[int, int] = {}
        self._tokens: Tokens | None = None
        self._used: set[str] = set()
        self.handlers |= {
            **dict.fromkeys(DEFINING, self._define),
            **dict.fromkeys(_CASES, self._case),
            "begin": self._begin,
            "end": self._end_environment,
            "\\": self._line_end,
            "xspace": lambda _: self.emit(SOFT),
            "ensuremath": lambda _: self._next(math=True),
            "replaced": self._first_of_two,
            "char": self._character,
            "symbol": self._character,
            "uat": self._first_of_two,
            "input": self._skip_file,
            "include": self._skip_file,
            "newif": lambda _: self.skip_macro(),
        }

    def run(self, tokens: Tokens) -> None:
        """Read all tokens, with what is defined anywhere in them."""
        self._tokens = tokens
        if "macro" in tokens.kinds:
            self.meanings = all_definitions(tokens)
            self._jumps = branches(tokens)
        super().run(tokens)

    def macro(self, name: str, place: int, source: Span) -> None:
        """Do what a macro says."""
        if source.tokens is self._tokens and place in self._jumps:
            self.jump(self._jumps[place])
        elif self.units and self.unit_macro(name):
            pass
        elif name not in self.fixed and isinstance(meaning := self.meanings.get(name), Definition):
            self._expand(name, meaning)
        elif name in self.handlers:
            self.handlers[name](name)
        elif name in ACCENTS:
            self.accent(name)
        elif name in SKIPPED:
            self.skip(SKIPPED[name])
        elif name in TEXT_FONTS:
            self._next(math=False)
        elif name in SILENT:
            if not self.math:
                self.spaces()
        elif name in DIMENSIONED:
            self._dimension()
        elif name in self.symbols:
            self.symbol(name, self.symbols[name])
        elif is_citation(name):
            self.skip("*[[")
            self.skip("{" if name != "crefrange" else "{{")
            self.emit(CITED)
        elif _ACRONYMS.fullmatch(name):
            self._acronym(name)
        else:
            self._unknown(name)

    def begin(self, name: str) -> bool:
        """An author's own environment: its beginning is read as the macro that it is."""
        meaning = self.meanings.get(f"begin {name}")
        if not isinstance(meaning, Definition):
            return False
        self.open(Group(f"env {name}"))
        self._expand("", meaning)
        return True

    def end_body(self, name: str) -> Span | None:
        """What the end of an author's environment stands for."""
        meaning = self.meanings.get(f"begin {name}")
        return meaning.end if isinstance(meaning, Definition) and not self.is_deep() else None

    def word(self, text: str) -> None:
        """Write a word; outside formulas, hyphens and quotation marks are joined."""
        if not self.math and _HAS_LIGATURE.search(text):
            for written, printed in _LIGATURES:
                text = text.replace(written, printed)
        if self.units and self.after_prefix:
            self.after_prefix = False
        self.out.append(text)

    def _define(self, name: str) -> None:
        source = self.source()
        if source is None:
            return
        defined, meaning, after = read_definition(source.tokens, source.at, name)
        if meaning is not None:
            self.meanings[defined] = meaning
            if isinstance(meaning, Acronym) and name == "acro":
                self.emit(" ")
        self.jump(after)

    def _expand(self, name: str, meaning: Definition) -> None:
        arguments: list[Span] = []
        for number_, parameter in enumerate(meaning.parameters):
            if parameter == "s":
                self.star()
                continue
            default = (meaning.defaults or {}).get(number_)
            given = self.option() if parameter == "o" else self.argument()
            arguments.append(given or default or meaning.body._replace(end=meaning.body.start))
        if self.exhausted or self.is_deep():
            self.emit(name)
            self.exhausted = True
            return
        spaced = not meaning.parameters and name.isalpha() and self.spaces()
        # TeX takes the space behind a macro away; a forgotten `{}` should not join two words here.
        on_end = (lambda: self.emit(SOFT)) if spaced else None
        self.push(meaning.body._replace(arguments=tuple(arguments)), on_end=on_end, again=True)

    def _acronym(self, name: str) -> None:
        self.skip("*[")
        key = self.literal(self.group())
        meaning = self.meanings.get(f"acronym {key}")
        if not isinstance(meaning, Acronym):
            self.emit(key)
            return
        wanted = (
            name.removeprefix("acr")
            .removeprefix("gls")
            .removeprefix("Gls")
            .removeprefix("ac")
            .removesuffix("pl")
        )
        plural = "s" if name.endswith(("pl", "acp", "acsp", "aclp", "acfp", "Acp")) else ""
        first = key not in self._used and meaning.long != meaning.short
        self._used.add(key)
        if wanted in ("long", "l", "lp"):
            text = meaning.long + plural
        elif wanted in ("full", "f", "fp") or (first and wanted in ("", "p")):
            text = f"{meaning.long}{plural} ({meaning.short}{plural})"
        else:
            text = meaning.short + plural
        self.emit(latex_words(text))

    def _unknown(self, name: str) -> None:
        if not name[:1].isalpha():
            self.emit(name if name.isprintable() and name != "@" else "")
            return
        spaced = self.spaces()
        if self.peek() == "{" and not self.is_empty_group():
            self.emit(" " if spaced else "")
            return  # its argument is text, as far as anyone can tell
        self.keep_name(name, name.replace("@", "") + (SOFT if spaced else ""))

    def keep_name(self, name: str, text: str) -> None:
        """Write the name of a macro that nobody defines; for subclasses to know of."""
        del name
        self.emit(text)

    def _begin(self, _: str) -> None:
        self.begin_environment(self.literal(self.group(), 20))

    def _end_environment(self, _: str) -> None:
        self.end_environment(self.literal(self.group(), 20))

    def _line_end(self, _: str) -> None:
        self.star()
        if self.peek() == "[":
            self.option()
        self.emit(" ")

    def _first_of_two(self, _: str) -> None:
        self.skip("[")
        shown = self.group()
        self.group()
        if shown is not None:
            self.push(shown)

    def _skip_file(self, _: str) -> None:
        if self.group() is None and self.peek() == "word":
            self.use(len(self.peek_text()))

    def _case(self, name: str) -> None:
        if (span := self.group()) is not None:
            self.push(span, Group(object(), _CASES[name]))

    def _next(self, *, math: bool) -> None:
        self.spaces()
        if self.peek() == "[":
            self.option()
        if self.peek() == "{":
            self.next_math = math

    def _character(self, _: str) -> None:
        span = self.group()
        text = self.peek_text() if span is None and self.peek() == "word" else self.literal(span)
        if found := re.match(r"(?:\"([0-9A-F]{1,5})|'([0-7]{1,7})|(\d{1,7}))", text):
            code = int(found[1] or found[2] or found[3], 16 if found[1] else 8 if found[2] else 10)
            if 0x20 <= code < 0xD800 or 0xE100 < code < 0x110000:
                self.emit(chr(code))
            if span is None:
                self.use(found.end())

    def _dimension(self) -> None:
        self.spaces()
        while self.peek() == "word" and (found := DIMENSION.match(self.peek_text())) and found.end():
            self.use(found.end())
            self.spaces()
            if self.peek_text() not in ("plus", "minus"):
                return
            self.use(5)
            self.spaces()
        if self.peek() == "macro" and self.peek_text() in DIMENSIONED:
            self.use(len(self.peek_text()))


def latex_words(text: str) -> str:
    """A name that is written elsewhere, without its braces."""
    return text.translate(_NO_BRACES)


_NO_BRACES: Final = str.maketrans("~", " ", "{}\\")
