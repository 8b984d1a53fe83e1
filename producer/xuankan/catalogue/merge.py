"""Putting a table's facts onto a catalogue: matched by id, then ISSN, then title."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from xuankan.catalogue.imports import ImportedRow, Table
from xuankan.catalogue.model import Catalogue, Journal, fold, journal_from_dict, slug
from xuankan.errors import CatalogueError

_SOURCES = {"own": "own table", "doaj": "DOAJ", "scimago": "SCImago"}
_UNITED = ("issns", "subjects", "sources")
"""Fields of which both values are kept, the catalogue's first; of others the table's value wins."""


@dataclass(frozen=True, slots=True)
class Merged:
    """A catalogue with a table's facts, and how many of its journals were updated, added and passed over.

    `passed_over` are rows of journals that the catalogue lacks, in a table that only brings metadata.
    """

    catalogue: Catalogue
    updated: int
    added: int
    passed_over: int


class _Finder:
    """Which journal a row speaks of."""

    def __init__(self, journals: Sequence[Journal]) -> None:
        self._by_id = {journal.id: position for position, journal in enumerate(journals)}
        self._by_issn = {
            issn: position for position, journal in enumerate(journals) for issn in journal.issns
        }
        by_title: defaultdict[str, list[int]] = defaultdict(list)
        for position, journal in enumerate(journals):
            by_title[fold(journal.title)].append(position)
        self._by_title = {title: positions[0] for title, positions in by_title.items() if len(positions) == 1}

    def find(self, row: ImportedRow) -> int | None:
        """The journal's position, or None.

        Raises:
            CatalogueError: the row's ISSNs belong to several journals.
        """
        if (given := row.facts.get("id")) is not None and given in self._by_id:
            return self._by_id[given]
        hits = {self._by_issn[issn] for issn in row.issns if issn in self._by_issn}
        if len(hits) > 1:
            raise CatalogueError(
                f"{row.where}: the ISSNs {', '.join(row.issns)} of {row.title!r} belong to {len(hits)} "
                "journals of the catalogue; correct the row or the catalogue"
            )
        return hits.pop() if hits else self._by_title.get(fold(row.title))


def merge(journals: Sequence[Journal], table: Table) -> Merged:
    """Bring a table's facts into a set of journals, which may be empty for a table of the deployment's own.

    The order of the journals is kept; new ones follow in the table's order. Where two rows speak of one
    journal, the first counts in a table of metadata; in a table of the deployment's own it is an error.

    Raises:
        CatalogueError: a row matches several journals, two rows are one journal, a new journal's id is taken,
        or no
            journal is left.
    """
    result = list(journals)
    finder = _Finder(journals)
    taken: dict[int, ImportedRow] = {}
    ids = {journal.id for journal in journals}
    new: list[ImportedRow] = []
    passed_over = 0
    for row in table.rows:
        position = finder.find(row)
        if position is None:
            if table.kind == "own":
                new.append(row)
            else:
                passed_over += 1
        elif (first := taken.setdefault(position, row)) is row:
            result[position] = _updated(result[position], row, _SOURCES[table.kind])
        elif table.kind == "own":
            raise CatalogueError(f"{row.where}: {row.title!r} is the journal of {first.where} again")
        else:
            table.doubt(f"{row.title!r} is in the table twice; the first row was used")
    issns: dict[str, ImportedRow] = {}
    for row in new:
        journal = _new(row)
        if journal.id in ids:
            raise CatalogueError(
                f"{row.where}: the id {journal.id!r} of {row.title!r} is taken; give it an 'id' of its own"
            )
        for issn in journal.issns:
            if issn in issns:
                raise CatalogueError(f"{row.where}: the ISSN {issn} is already that of {issns[issn].where}")
            issns[issn] = row
        ids.add(journal.id)
        result.append(journal)
    return Merged(Catalogue(tuple(result)), len(taken), len(new), passed_over)


def _updated(journal: Journal, row: ImportedRow, source: str) -> Journal:
    changes: dict[str, Any] = {k: v for k, v in row.facts.items() if k not in ("id", "title")}
    changes["sources"] = (source,)
    for name in _UNITED:
        if name in changes:
            changes[name] = tuple(dict.fromkeys((*getattr(journal, name), *changes[name])))
    return replace(journal, **changes)


def _new(row: ImportedRow) -> Journal:
    facts = {"id": slug(row.title), "profile": f"{row.title}.", **row.facts, "sources": (_SOURCES["own"],)}
    return journal_from_dict(facts, row.where)
