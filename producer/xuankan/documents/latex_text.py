r"""Fragments of LaTeX, as bibliographies and papers hold them, as plain text.

What is not known is kept, never dropped: the argument of an unknown macro is text, and of one without an
argument its name is. Formulas stay readable: `$\alpha_i \leq 10^{-3}$` is α_i ≤ 10^-3.
"""

from __future__ import annotations

import re
from typing import Final

from xuankan.documents.latex_machine import CITED, SOFT
from xuankan.documents.latex_macros import Converter
from xuankan.documents.latex_tokens import tokenize
from xuankan.documents.latex_units import SEPARATOR
from xuankan.unicode import normalized

_SPECIAL: Final = re.compile(r"[\\$^_#]|%|--|``|''|`")
_LENIENT: Final = re.compile(r"[\\$`]|--|''")
_PLAIN: Final = str.maketrans("~", " ", "{}")
_OWN: Final = str.maketrans("", "", CITED + SOFT + SEPARATOR)
_ESCAPED: Final = re.compile(r"\\([&%_#$])")
_CITED_IN_BRACKETS: Final = re.compile(
    rf"[ \t]*+[(\[](?:see|e\.g\.|i\.e\.|cf\.|and|also|[\s,;{CITED}])*+[)\]]", re.IGNORECASE
)
_CITED: Final = re.compile(rf"[ \t]*+{CITED}(?:[,;]?[ \t]*+{CITED})*+")
_SOFT: Final = re.compile(rf"(?<=[\w)\]])[{SOFT}]+(?=[\w(\[])")
_ANY_SOFT: Final = re.compile(rf"[{SOFT}{SEPARATOR}]")
_MARKS: Final = re.compile(
    "([\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff]{4})[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff]+"
)


def latex_to_text(fragment: str, *, lenient: bool = False) -> str:
    r"""The text of a fragment of LaTeX, in one line. Never raises; takes time in proportion to its length.

    Args:
        fragment: the source; what it defines itself is expanded.
        lenient: it comes from a program that escapes nothing, as fields of bibliographies do: `%`, `&` and
            `#` are characters, and `$` is one unless two of them enclose what looks like a formula.
    """
    if not (_LENIENT if lenient else _SPECIAL).search(fragment.replace("\\&", "").replace("\\%", "")):
        return " ".join(compose(_ESCAPED.sub(r"\1", fragment).translate(_PLAIN)).split())
    converter = Converter()
    converter.run(tokenize(clean_source(fragment), lenient=lenient))
    return " ".join(finish("".join(converter.out)).split())


def clean_source(source: str) -> str:
    """A source without the characters that mean something here."""
    return source.translate(_OWN)


def finish(text: str) -> str:
    """What a converter wrote, without what it left to be decided: citations, spaces between words."""
    if CITED in text:
        text = _CITED_IN_BRACKETS.sub(_without_citations, text)
        text = _CITED.sub("", text)
    return compose(_ANY_SOFT.sub("", _SOFT.sub(" ", text)))


def compose(text: str) -> str:
    """Letters with their accents as one character; of a run of accents, quadratic to compose, four."""
    return text if text.isascii() else normalized("NFC", _MARKS.sub(r"\1", text))


def _without_citations(bracket: re.Match[str]) -> str:
    return "" if CITED in bracket[0] else bracket[0]
