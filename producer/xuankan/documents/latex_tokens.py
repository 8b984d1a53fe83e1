r"""LaTeX source cut into tokens once, with every brace and bracket paired.

One pass over the text: comments, `comment` environments and listings are left out here, because their
content need not be LaTeX at all. Pairing is done here too, so that an argument is found or skipped in one
step, however long it is; a reader that looked for each closing brace anew would take quadratic time.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from typing import Final, Literal

Kind = Literal[
    "word", "space", "paragraph", "macro", "{", "}", "[", "]", "$", "&", "~", "^", "_", "#", "*", "raw"
]

UNPAIRED: Final = -1
VERBATIM: Final[frozenset[str]] = frozenset(
    (
        "comment",
        "verbatim",
        "verbatim*",
        "Verbatim",
        "lstlisting",
        "minted",
        "alltt",
        "filecontents",
        "filecontents*",
        "CCSXML",
        "tikzpicture",
        "luacode",
        "luacode*",
        "pycode",
        "asy",
    )
)
"""Environments whose content is no text of the paper, or no LaTeX."""

_TOKEN: Final = re.compile(
    r"(?P<word>[^\\{}\[\]$&~^_#%*\s]+)|(?P<space>\s+)|\\(?P<macro>[A-Za-z@]+|[\s\S]|$)|(?P<mark>[{}\[\]&~^_*])"
    r"|(?P<dollar>\$\$?)|\#(?P<parameter>\#*\d?)|(?P<comment>%[^\n]*\n?[ \t]*)"
)
_BLANK_LINE: Final = re.compile(r"\n[ \t\r\f\v]*\n")
_NAME: Final = re.compile(r"[ \t]*\n?[ \t]*\{\s*([^{}\\%]{1,60}?)\s*\}")
_DELIMITED: Final = frozenset(("verb", "lstinline", "mintinline"))
_ADDRESS: Final = frozenset(("url", "path", "nolinkurl", "href", "doi", "burl"))
_OPTION: Final = re.compile(r"(?:\[[^\]\n]{0,300}\])?(?:\{[a-z+]{1,20}\}(?=\S))?")
_BRACE: Final = re.compile("[{}]")
_MAX_ADDRESS: Final = 4_000
_MAX_OPEN: Final = 500
"""Tokens of an argument whose brace is never closed."""
_MAX_DEPTH: Final = 4
"""Of braces in an address; so one that is never closed is not looked for long."""


class Tokens:
    """A list of tokens.

    Attributes:
        kinds: of each; `raw` is text in which nothing is special (an address, a listing in the line).
        texts: of a macro its name without the backslash, of a parameter its number.
        pairs: the place of the bracket or brace that belongs to this one, or `UNPAIRED`.
        characters: of the source, as far as it was read.
    """

    __slots__ = ("_ends", "characters", "kinds", "pairs", "paragraphs", "texts")

    def __init__(self) -> None:
        self.kinds: list[Kind] = []
        self.texts: list[str] = []
        self.pairs: list[int] = []
        self.paragraphs: list[int] = []
        self.characters = 0
        self._ends: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self.kinds)

    def add(self, kind: Kind, text: str) -> int:
        """Append one; returns its place."""
        self.kinds.append(kind)
        self.texts.append(text)
        self.pairs.append(UNPAIRED)
        return len(self.kinds) - 1

    def end_of_open(self, place: int) -> int:
        """How far an argument goes whose brace is never closed.

        To the end of its paragraph at most, or to a line in it that begins with a macro.
        """
        if place not in self._ends:
            found = bisect_left(self.paragraphs, place)
            end = self.paragraphs[found] if found < len(self.paragraphs) else len(self)
            end = min(end, place + _MAX_OPEN)
            lines = (
                at for at in range(place, end - 1) if self.texts[at] == "\n" and self.kinds[at + 1] == "macro"
            )
            self._ends[place] = next(lines, end)
        return self._ends[place]

    def source(self, start: int, end: int) -> str:
        """The tokens of a span as they were written, but for comments."""
        return "".join(
            f"\\{text}" if kind == "macro" else text
            for kind, text in zip(self.kinds[start:end], self.texts[start:end], strict=True)
        )


def tokenize(source: str, *, lenient: bool = False) -> Tokens:
    r"""Cut LaTeX into tokens; any text has some. Ends at `\end{document}` and `\endinput`.

    Args:
        source: the text.
        lenient: it was written by programs that escape nothing: `%`, `&` and `#` are characters, and `$` is
            one unless two of them enclose what looks like a formula.
    """
    tokens = _Tokenizer(source, lenient).run()
    _pair_dollars(tokens, lenient)
    return tokens


class _Tokenizer:
    def __init__(self, source: str, lenient: bool) -> None:
        self._source = source
        self._lenient = lenient
        self._tokens = Tokens()
        self._braces: list[int] = []
        self._brackets: list[list[int]] = [[]]
        # Environments of which no end was found from some place on: looking again would be quadratic.
        self._endless: set[str] = set()
        self._verbatim: set[str] = set(VERBATIM)

    def run(self) -> Tokens:
        source, tokens, at = self._source, self._tokens, 0
        match = _TOKEN.match
        while at < len(source):
            found = match(source, at)
            if found is None:  # cannot be: each character begins a token
                break
            at, kind = found.end(), found.lastgroup
            text = found[kind or 0]
            if kind == "word":
                tokens.add("word", text)
            elif kind == "space":
                self._space(text)
            elif kind == "macro":
                at = self._macro(text, at)
            elif kind == "mark":
                self._mark(text)
            elif kind == "dollar":
                tokens.add("$", text)
            elif self._lenient:
                tokens.add("word", source[found.start()])
                at = found.start() + 1
            elif kind == "parameter":
                tokens.add("#", text.lstrip("#"))
            elif source[at : at + 1] == "\n" and text[-1:] in "\n \t":
                self._space("\n\n")
        tokens.characters = at
        return tokens

    def _space(self, text: str) -> None:
        if "\n" in text and _BLANK_LINE.search(text):
            self._tokens.paragraphs.append(self._tokens.add("paragraph", "\n\n"))
        else:
            self._tokens.add("space", "\n" if "\n" in text else " ")

    def _mark(self, mark: str) -> None:
        tokens = self._tokens
        if mark == "&" and self._lenient:
            tokens.add("word", mark)
            return
        place = tokens.add(mark, mark)  # pyright: ignore[reportArgumentType]  # the marks are kinds
        if mark == "{":
            self._braces.append(place)
            self._brackets.append([])
        elif mark == "}" and self._braces:
            self._join(self._braces.pop(), place)
            self._brackets.pop()
        elif mark == "[":
            self._brackets[-1].append(place)
        elif mark == "]" and self._brackets[-1]:
            self._join(self._brackets[-1].pop(), place)

    def _join(self, opened: int, closed: int) -> None:
        self._tokens.pairs[opened] = closed
        self._tokens.pairs[closed] = opened

    def _macro(self, name: str, at: int) -> int:
        """Add a macro; returns where the next token begins."""
        tokens = self._tokens
        if name in _DELIMITED:
            return self._listing(at)
        if name in _ADDRESS:
            return self._address(name, at)
        if name == "begin":
            return self._begin(at)
        if name == "excludecomment":
            self._verbatim.add(self._named(at))
        if name == "endinput" or (name == "end" and self._named(at) == "document"):
            return len(self._source)
        tokens.add("macro", " " if name.isspace() else name)
        return at

    def _begin(self, at: int) -> int:
        name = self._named(at)
        if name == "document":
            # No argument spans this place: a brace that is open here was forgotten.
            self._braces.clear()
            self._brackets = [[]]
        if name in self._verbatim and name not in self._endless:
            end = f"\\end{{{name}}}"
            if (closed := self._source.find(end, at)) >= 0:
                return closed + len(end)
            self._endless.add(name)
        self._tokens.add("macro", "begin")
        return at

    def _named(self, at: int) -> str:
        found = _NAME.match(self._source, at)
        return found[1] if found else ""

    def _listing(self, at: int) -> int:
        r"""`\verb|text|`, `\lstinline[options]{text}`, `\mintinline{language}{text}`."""
        source = self._source
        at += source[at : at + 1] == "*"
        found = _OPTION.match(source, at)
        at = found.end() if found else at
        mark = source[at : at + 1]
        line = source.find("\n", at)
        limit = min(len(source) if line < 0 else line, at + _MAX_ADDRESS)
        closed = source.find("}" if mark == "{" else mark, at + 1, limit) if mark else -1
        if closed < 0:
            return at
        self._tokens.add("raw", source[at + 1 : closed])
        return closed + 1

    def _address(self, name: str, at: int) -> int:
        """Of a link the text, of an address itself: both may hold `%`, `#`, `_` and `&`."""
        source, start = self._source, at
        while source[at : at + 1].isspace():
            at += 1
        if source[at : at + 1] == "[":  # options of hyperref
            closed = source.find("]", at, at + 300)
            at = closed + 1 if closed > 0 else at
        if source[at : at + 1] != "{":
            self._tokens.add("macro", name)
            return start
        depth = 0
        for brace in _BRACE.finditer(source, at, at + _MAX_ADDRESS):
            depth += 1 if brace[0] == "{" else -1
            if depth == 0:
                if name != "href":
                    self._tokens.add("raw", source[at + 1 : brace.start()].replace("\\", ""))
                return brace.end()
            if depth > _MAX_DEPTH:
                break
        self._tokens.add("macro", name)
        return start


def _pair_dollars(tokens: Tokens, lenient: bool) -> None:
    """Make words of the dollars that enclose no formula: of those without a partner in their paragraph."""
    for places in _paragraph_dollars(tokens):
        at = 0
        while at < len(places):
            opened = places[at]
            closed = places[at + 1] if at + 1 < len(places) else UNPAIRED
            if closed == UNPAIRED or (lenient and not _is_formula(tokens, opened, closed)):
                tokens.kinds[opened] = "word"
                at += 1
            else:
                at += 2


def _paragraph_dollars(tokens: Tokens) -> Iterator[list[int]]:
    places: list[int] = []
    for place, kind in enumerate(tokens.kinds):
        if kind == "$":
            places.append(place)
        elif kind == "paragraph" and places:
            yield places
            places = []
    yield places


_MAX_FORMULA: Final = 400
"""Tokens between two dollars that are looked at."""


def _is_formula(tokens: Tokens, opened: int, closed: int) -> bool:
    """Between dollars of a field that escapes nothing: a formula, not two prices."""
    kinds, texts = tokens.kinds, tokens.texts
    if closed - opened > _MAX_FORMULA:
        return False
    inside = range(opened + 1, closed)
    if any(kinds[place] in ("macro", "^", "_") for place in inside):
        return True
    words = [texts[place] for place in inside if kinds[place] == "word"]
    if not words or any(len(word) > 3 and word.isalpha() for word in words):
        return False
    follows = texts[closed + 1][:1] if closed + 1 < len(tokens) else ""
    return kinds[closed - 1] != "space" and not follows.isdigit()
