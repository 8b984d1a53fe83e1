r"""What LaTeX's macros mean as text: symbols by pylatexenc's tables, and which arguments are no text.

pylatexenc's tables are complete and kept; its parser is not used. It takes twice the time for each
environment that a definition opens, ends at a nesting of some hundreds, fails on `\href`, and expands no
macros.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Final, cast

ACCENTS: Final[Mapping[str, str]] = {
    "'": "\u0301", "`": "\u0300", "^": "\u0302", '"': "\u0308", "~": "\u0303", "=": "\u0304", ".": "\u0307",
    "u": "\u0306", "v": "\u030c", "H": "\u030b", "r": "\u030a", "c": "\u0327", "k": "\u0328", "d": "\u0323",
    "b": "\u0331", "h": "\u0309", "G": "\u030f", "U": "\u030e", "vec": "\u20d7", "dot": "\u0307",
    "ddot": "\u0308",
    "hat": "\u0302", "widehat": "\u0302", "check": "\u030c", "breve": "\u0306", "acute": "\u0301",
    "grave": "\u0300", "tilde": "\u0303", "widetilde": "\u0303", "bar": "\u0304", "mathring": "\u030a",
    "textcommabelow": "\u0326",
}  # fmt: skip
"""Macro -> the combining character that it puts on the letter behind it."""

_FILE: Final = tomllib.loads((files("xuankan.documents") / "latex_tables.toml").read_text("utf-8"))


def _by_name(table: str) -> dict[str, str]:
    """Signature -> names in the file; here the other way."""
    return {name: signature for signature, names in _FILE[table].items() for name in names.split()}


def _names(name: str) -> frozenset[str]:
    return frozenset(_FILE["names"][name].split())


def _starred(names: frozenset[str]) -> frozenset[str]:
    return names | {f"{name}*" for name in names}


SKIPPED: Final[Mapping[str, str]] = _by_name("skipped")
"""Macro -> its arguments that are no text, in their order: `*` and `[` may be there, `{` is. What comes
behind them is read as it stands."""
ENVIRONMENT_ARGUMENTS: Final[Mapping[str, str]] = _by_name("environment_arguments")
MATH_ENVIRONMENTS: Final = _starred(_names("math_environments"))
TABLES: Final = _names("tables")
UNREAD_ENVIRONMENTS: Final = _starred(_names("unread_environments"))
SILENT: Final = _names("silent")
TEXT_FONTS: Final = _names("text_fonts")
DIMENSIONED: Final = _names("dimensioned")
PREFIXES: Final[Mapping[str, str]] = _FILE["prefixes"]
UNITS: Final[Mapping[str, str]] = {
    **{name: name for name in _FILE["abbreviations"]["same"].split()},
    **_FILE["units"],
}
DIMENSION: Final = re.compile(
    r"=?-?\d*\.?\d*(?:true)?(?:pt|em|ex|cm|mm|in|bp|pc|dd|cc|sp|mu|fil+|px)?(?![A-Za-z])", re.IGNORECASE
)

_GREEK: Final = dict(zip(_FILE["names"]["greek"].split(), map(chr, range(0x3B1, 0x3CA)), strict=True))
_GREEK_PREFIXES: Final = ("", "text", "up", "Up", "var")
_CITES: Final = re.compile(
    r"(?!(?:citeauthor|citetitle|citename|textcitename)$)(?:[A-Za-z]{0,9}cite[a-z]{0,9}|Cite[a-z]{0,9}|nocite|citenum|"
    r"(?:eq|page|name|auto|sub|full|v|c|C|labelc|title|f|F|s|S|V|prettyr)?ref|crefrange|Crefrange|supercite|cites)"
)


def is_citation(name: str) -> bool:
    """Whether a macro cites a work or a place of the text: what it prints is not in the file."""
    return _CITES.fullmatch(name) is not None


@cache
def symbols() -> Mapping[str, str]:
    """Macro -> its text, for macros that stand for characters and take no arguments."""
    from pylatexenc import (  # pyright: ignore[reportMissingTypeStubs]  # it has none
        latex2text,
        latexencode,
    )

    found: dict[str, str] = {}
    # From characters to macros, read backwards: it has the most.
    for rule in cast(Any, latexencode).get_builtin_conversion_rules("unicode-xml"):
        for code, macro in rule.rule.items():
            bare = re.fullmatch(r"(?:\\ensuremath\{)?\\([A-Za-z]+)\}?", macro)
            if bare is not None and code > 0x7F:
                found.setdefault(bare[1], chr(code))
    context = cast(Any, latex2text).get_default_latex_context_db()
    for category in reversed(context.category_list):
        for name, spec in context.d[category]["macros"].items():
            text = spec.simplify_repl
            if isinstance(text, str) and "%" not in text and "<" not in text and not text.isspace():
                found[name] = text
    for prefix in _GREEK_PREFIXES:
        found.update({prefix + name: letter for name, letter in _GREEK.items()})
        found.update({prefix + name.capitalize(): letter.upper() for name, letter in _GREEK.items()})
    found.update({name: name for name in _names("operators")})
    found.update(_FILE["journals"])
    found.update(_FILE["symbols"])
    return {name: text for name, text in found.items() if name not in ACCENTS}
