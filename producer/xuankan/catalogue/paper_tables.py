"""Tables of papers of a deployment's journals: Parquet, CSV or JSON Lines. Parquet needs the `data` extra."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xuankan.catalogue.issn import normalise_issn
from xuankan.catalogue.model import Catalogue, fold
from xuankan.catalogue.tables import read_csv, read_jsonl
from xuankan.errors import CatalogueError

NEEDED = ("title", "journal")
KNOWN = (*NEEDED, "abstract", "year", "doi", "arxiv_id", "link")


@dataclass(frozen=True, slots=True)
class JournalPaper:
    """A paper of a catalogue's journal.

    Attributes:
        journal: position of its journal in the catalogue.
        title, abstract: its text; the abstract may be empty.
        year: when it appeared; 0 if the table does not say.
        link: where it can be read; empty where that is not certain.
    """

    journal: int
    title: str
    abstract: str
    year: int
    link: str


@dataclass(slots=True)
class PaperTable:
    """Reads a table row by row, as often as it is iterated.

    Attributes:
        path: the table: .parquet, .csv or .jsonl with the columns title and journal (a journal's id, one of
            its ISSNs, or its title) and any of abstract, year, doi, arxiv_id, link; others are ignored.
        catalogue: of the journals.
        unknown: after an iteration, rows whose journal the catalogue lacks.
        untitled: after an iteration, rows without a title.
    """

    path: Path
    catalogue: Catalogue
    unknown: int = field(default=0, init=False)
    untitled: int = field(default=0, init=False)

    def __iter__(self) -> Iterator[JournalPaper]:
        """Go through the papers of known journals.

        Raises:
            CatalogueError: the table cannot be read, lacks a column, or a value cannot be what it says.
        """
        finder, self.unknown, self.untitled = JournalFinder(self.catalogue), 0, 0
        for where, row in _rows(self.path):
            title = _text(row, "title", where)
            if not fold(title):
                self.untitled += 1
            elif (journal := finder.find(_text(row, "journal", where))) is None:
                self.unknown += 1
            else:
                yield JournalPaper(
                    journal,
                    title,
                    _text(row, "abstract", where),
                    _year(row, where),
                    _text(row, "link", where)
                    or link_of(_text(row, "doi", where), _text(row, "arxiv_id", where)),
                )


class JournalFinder:
    """Which journal a word means: by id, ISSN or title."""

    def __init__(self, catalogue: Catalogue) -> None:
        titles: dict[str, int | None] = {}
        for place, journal in enumerate(catalogue):
            key = fold(journal.title)
            titles[key] = None if key in titles else place  # of two journals, a title tells neither
        self._titles = titles
        self._issns = {issn: place for place, journal in enumerate(catalogue) for issn in journal.issns}
        self._ids = {journal.id: place for place, journal in enumerate(catalogue)}

    def find(self, word: str) -> int | None:
        """The journal's position, None if there is none or the title is that of several."""
        if (place := self._ids.get(word)) is not None:
            return place
        if (issn := normalise_issn(word)) is not None:
            return self._issns.get(issn)
        return self._titles.get(fold(word))


def link_of(doi: str | None, arxiv_id: str | None) -> str:
    """Where a paper can be read; empty where that is not certain."""
    if doi and (bare := doi.strip().removeprefix("https://doi.org/")).startswith("10."):
        return f"https://doi.org/{bare}"
    return f"https://arxiv.org/abs/{arxiv_id.strip()}" if arxiv_id else ""


def _rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if path.suffix.lower() == ".parquet":
        from xuankan.catalogue.parquet import iterate_columns

        for number, row in enumerate(iterate_columns(path, NEEDED, KNOWN), start=1):
            yield f"{path}, row {number}", row
        return
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        numbered: Iterator[tuple[int, Mapping[str, Any]]] = read_jsonl(path)
    else:
        header, numbered = read_csv(path)
        if missing := [name for name in NEEDED if name not in header]:
            raise CatalogueError(f"{path} is no table of papers: it has no column {missing[0]!r}")
    for number, row in numbered:
        yield f"{path}, line {number}", row


def _text(row: Mapping[str, Any], name: str, where: str) -> str:
    value = row.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise CatalogueError(f"{where}: {name} is {value!r}, not a text")
    return value.strip()


def _year(row: Mapping[str, Any], where: str) -> int:
    value: Any = row.get("year")
    if value in (None, ""):
        return 0
    try:
        year = int(value)
    except (TypeError, ValueError):
        year = -1
    if not 1000 <= year <= 9999:  # four digits
        raise CatalogueError(f"{where}: year is {value!r}, not a year such as 2018")
    return year
