"""Which columns of a table, or fields of an object, hold what: by the names that exports give them.

The names are of Scopus, Web of Science, PubMed, Embase, Springer, Dimensions, IEEE Xplore, EBSCO, ProQuest,
Ovid, Lens, Cochrane, Zotero, JabRef, Citavi, Mendeley, OJS, Editorial Manager, ScholarOne, HotCRP, CMT, CNKI,
Wanfang, SciELO, J-STAGE, KCI, eLIBRARY.RU and DergiPark, in the languages that they come in.
"""

from __future__ import annotations

import csv
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Final

from xuankan.documents.columns import Columns
from xuankan.errors import Unreadable

_FOLD: Final = re.compile(r"[\W_]+")
_CAMEL: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")


def fold(name: str) -> str:
    """A name without its case, punctuation and wide spaces: `abstractNote` is `abstract note`."""
    return _FOLD.sub(" ", _CAMEL.sub(" ", name).casefold()).strip()


_CHOICES: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = {
    field: tuple(tuple(choice.split("+")) for choice in choices)
    for field, choices in tomllib.loads(
        resources.files("xuankan.data").joinpath("columns.toml").read_text("utf-8")
    ).items()
}
"""Field -> choices of names; see the file."""
_KNOWN: Final = frozenset(name for choices in _CHOICES.values() for choice in choices for name in choice)
# Web of Science's tags: ID is Keywords Plus there, not an identifier.
_TAGGED: Final[Mapping[str, str]] = {
    "id": "ut",
    "title": "ti",
    "abstract": "ab",
    "keywords": "de | id",
    "journal": "so",
    "issn": "sn+ei",
    "doi": "di",
    "year": "py",
    "references": "cr",
}


@dataclass(frozen=True, slots=True)
class TableLayout:
    """Where a table's fields stand.

    Attributes:
        places: field -> choices of columns, each column by its place. See `data/columns.toml`.
    """

    places: Mapping[str, tuple[tuple[int, ...], ...]]


def is_header(cells: Sequence[str]) -> bool:
    """Whether cells are the header of a table of papers: a title, and more names that exports give."""
    folded = [fold(cell) for cell in cells]
    known = sum(name in _KNOWN for name in folded)
    return known >= 2 and _has_papers(folded) and (known >= 0.2 * len([n for n in folded if n]) or known >= 4)


def looks_like_header(line: str) -> bool:
    """Whether a line is the header of a table of papers, whatever stands between its cells."""
    return any(is_header(split_line(line, mark)) for mark in "\t,;|")


def split_line(line: str, delimiter: str) -> list[str]:
    """The cells of one line."""
    try:
        return next(csv.reader([line], delimiter=delimiter), list[str]())
    except csv.Error:
        return line.split(delimiter)


def find_columns(columns: Columns, names: Sequence[str], source: str) -> TableLayout:
    """Where the fields stand among the columns of a table; of columns of one name the first counts.

    Raises:
        Unreadable: neither title nor abstract is among them, or a column that was named by hand is not.
    """
    for field, name in columns.given:
        if name not in names:
            raise Unreadable(source, f"no column {name!r} for the {field}; it has {_listed(names)}")
    layout = layout_of(columns, tuple(names))
    if not layout.places.keys() & {"title", "abstract"}:
        raise Unreadable(
            source,
            f"no column of titles or abstracts; it has {_listed(names)}. Name it: --column title=NAME",
        )
    return layout


@lru_cache(maxsize=256)
def layout_of(columns: Columns, names: tuple[str, ...]) -> TableLayout:
    """Where the fields stand among names, which may be the keys of an object."""
    folded: dict[str, int] = {}
    for place, name in enumerate(names):
        folded.setdefault(fold(name), place)
    exact: dict[str, int] = {}
    for place, name in enumerate(names):
        exact.setdefault(name, place)
    tagged = {"ti", "ut"} <= folded.keys() or {"pt", "ti", "so"} <= folded.keys()
    given = dict(columns.given)
    places: dict[str, tuple[tuple[int, ...], ...]] = {}
    for field, choices in _CHOICES.items():
        if field in given:
            if given[field] in exact:
                places[field] = ((exact[given[field]],),)
            continue
        if tagged:
            choices = tuple(tuple(choice.split("+")) for choice in _TAGGED[field].split(" | "))
        found = (tuple(folded[name] for name in choice if name in folded) for choice in choices)
        if there := tuple(dict.fromkeys(choice for choice in found if choice)):
            places[field] = there
    return TableLayout(places)


def _has_papers(folded: Sequence[str]) -> bool:
    names = set(folded)
    titles, abstracts = (
        {name for choice in _CHOICES[field] for name in choice} for field in ("title", "abstract")
    )
    return bool(names & titles) or bool(names & abstracts)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:20]) or "none"
    return f"{shown} and {len(names) - 20} more" if len(names) > 20 else shown
