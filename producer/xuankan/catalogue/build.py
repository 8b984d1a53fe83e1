"""Builds the shipped catalogue from tables of journals and of papers. Needs the `train` extra.

Only facts whose terms allow it are read: no SCImago indicator, no third-party subject. Titles, ISSNs,
publisher and country are facts; price, access and homepage come from ourresearch/journalsdb (MIT), languages
and licence from DOAJ (CC BY-SA), subjects and profiles from the papers themselves.
"""

from __future__ import annotations

import html
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xuankan.catalogue.issn import is_valid_issn, normalise_issn
from xuankan.catalogue.languages import CODES
from xuankan.catalogue.model import Catalogue, Journal, OpenAccess, slug
from xuankan.catalogue.papers import Papers, Progress, TermMatrix
from xuankan.catalogue.parquet import read_columns
from xuankan.catalogue.profiles import PROFILE_SUBJECTS, TITLE_TOKENS, Paper, Profiler, compose, quotable
from xuankan.catalogue.subjects import categories, main_subjects
from xuankan.errors import CatalogueError

QUOTABLE_SOURCES = frozenset({"arxiv_archive", "synergy_openalex"})
"""Sources whose titles are CC0 and may stand in a profile."""

_COLUMNS = (
    "title",
    "issns",
    "publisher",
    "country",
    "apc_usd",
    "oa_type",
    "homepage",
    "in_doaj",
    "doaj_languages",
    "doaj_license",
    "doaj_apc",
)


def read_journals(path: Path) -> dict[str, dict[str, Any]]:
    """Rows of the journal table by title; of titles that stand for several journals, none.

    Raises:
        CatalogueError: the file cannot be read or lacks a column.
    """
    table = read_columns(path, _COLUMNS)
    rows: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for values in zip(*table.values(), strict=True):
        row = dict(zip(table, values, strict=True))
        rows[row["title"]].append(row)
    return {title: same[0] for title, same in rows.items() if len(same) == 1}


def _open_access(row: Mapping[str, Any]) -> OpenAccess | None:
    kind = (row["oa_type"] or "").lower()
    if row["in_doaj"] or kind.startswith(("full", "open")):
        return "diamond" if row["doaj_apc"] == "No" else "gold"
    return "hybrid" if kind.startswith("hybrid") else None


def _facts(row: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a journal that the table knows. DOAJ, being curated, wins where two sources disagree."""
    issns = [issn for issn in map(normalise_issn, row["issns"]) if issn and is_valid_issn(issn)]
    languages = [name.strip() for name in (row["doaj_languages"] or "").split(",") if name.strip()]
    if unknown := [name for name in languages if name.casefold() not in CODES]:
        raise CatalogueError(
            f"journal {row['title']!r}: no ISO 639-1 code is known for language {unknown[0]!r}"
        )
    sources = ["title list"]
    if row["apc_usd"] is not None or row["oa_type"] or row["homepage"]:
        sources.append("journalsdb")
    if row["in_doaj"]:
        sources.append("DOAJ")
    return {
        "publisher": html.unescape(row["publisher"]) if row["publisher"] else None,
        "issns": tuple(sorted(dict.fromkeys(issns))),
        "country": row["country"],
        "homepage": row["homepage"],
        "open_access": _open_access(row),
        "apc_usd": 0.0 if row["doaj_apc"] == "No" else row["apc_usd"],
        "languages": tuple(CODES[name.casefold()] for name in languages),
        "licence": row["doaj_license"],
        "sources": (*sources, "papers"),
    }


def build_catalogue(
    papers: Papers,
    journals: Mapping[str, Mapping[str, Any]],
    count_tokens: Callable[[str], int],
    profile_tokens: int,
    progress: Progress,
) -> Catalogue:
    """The catalogue of every journal that `papers` (the training split) name, in the order of their ids.

    Args:
        papers: training papers.
        journals: rows of the journal table by title. Of a journal that has none, only the title is known and
            what its papers tell.
        count_tokens: length of a text in tokens of the model's tokenizer.
        profile_tokens: length of a profile at most.
        progress: told how far the work is.

    Raises:
        CatalogueError: two titles have one id.
    """
    titles = sorted(set(papers.journal), key=slug)
    positions = {title: i for i, title in enumerate(titles)}
    labels = np.array([positions[title] for title in papers.journal])
    matrix = TermMatrix(papers, 5, progress)
    profiler = Profiler(matrix.rows, labels, matrix.terms, len(titles))
    writer = _Writer(papers, profiler, count_tokens, profile_tokens)
    built: list[Journal] = []
    for journal, title in enumerate(titles):
        built.append(
            writer.journal(journal, title, journals.get(title), np.flatnonzero(labels == journal).tolist())
        )
        progress("writing profiles", journal / len(titles))
    return Catalogue(tuple(built))


@dataclass(frozen=True, slots=True)
class _Writer:
    """Writes journals' entries from their papers."""

    papers: Papers
    profiler: Profiler
    count_tokens: Callable[[str], int]
    profile_tokens: int

    def journal(
        self, number: int, title: str, row: Mapping[str, Any] | None, members: Sequence[int]
    ) -> Journal:
        listed = [categories(self.papers.arxiv_categories[i]) for i in members]
        listed = [names for names in listed if names]
        telling = self.profiler.terms(number, title)
        if len(listed) >= len(members) / 2:
            subjects = main_subjects(listed)
        else:
            subjects, telling = tuple(telling[:PROFILE_SUBJECTS]), telling[PROFILE_SUBJECTS:]
        examples = self.profiler.examples(number, self._quotable(members))
        shown = subjects[:PROFILE_SUBJECTS]
        profile, fitted = compose(title, shown, telling, examples, self.count_tokens, self.profile_tokens)
        facts: dict[str, Any] = {"sources": ("papers",)} if row is None else _facts(row)
        return Journal(
            id=slug(title), title=title, subjects=subjects, profile=profile, examples=fitted, **facts
        )

    def _quotable(self, members: Sequence[int]) -> list[Paper]:
        papers: list[Paper] = []
        for i in members:
            title = self.papers.title[i]
            if self.papers.source[i] in QUOTABLE_SOURCES and quotable(title):
                shortest, longest = TITLE_TOKENS
                if shortest <= self.count_tokens(title) <= longest:
                    papers.append(Paper(title, int(self.papers.year[i]), i))
        return papers
