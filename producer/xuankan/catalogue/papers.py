"""Tables of papers, as building a catalogue and fitting a first stage read them. Needs the `train` extra."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xuankan.catalogue.parquet import read_columns
from xuankan.catalogue.sparse import Matrix, from_places, unit_rows
from xuankan.catalogue.terms import term_counts
from xuankan.errors import CatalogueError

COLUMNS = ("title", "abstract", "journal", "year", "source", "split", "arxiv_categories")
Progress = Callable[[str, float], None]
"""Told what is being done and which part of it is done, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Papers:
    """Columns of one split, all of one length."""

    title: Sequence[str]
    abstract: Sequence[str]
    journal: Sequence[str]
    year: NDArray[np.int64]
    source: Sequence[str]
    arxiv_categories: Sequence[str | None]

    def __len__(self) -> int:
        return len(self.title)

    def take(self, indices: Sequence[int] | NDArray[np.int64]) -> Papers:
        """The papers at these positions, in this order."""
        return Papers(
            [self.title[i] for i in indices],
            [self.abstract[i] for i in indices],
            [self.journal[i] for i in indices],
            self.year[indices],
            [self.source[i] for i in indices],
            [self.arxiv_categories[i] for i in indices],
        )


def read_papers(path: Path, split: str) -> Papers:
    """The papers of one split.

    Raises:
        CatalogueError: the file cannot be read, lacks a column, or holds no paper of this split.
    """
    rows = read_columns(path, COLUMNS)
    keep = [i for i, name in enumerate(rows["split"]) if name == split]
    if not keep:
        found = ", ".join(sorted(set(rows["split"])))
        raise CatalogueError(f"{path} has no papers of split {split!r}; it has {found}")
    chosen = {name: [values[i] for i in keep] for name, values in rows.items()}
    return Papers(
        chosen["title"],
        chosen["abstract"],
        chosen["journal"],
        np.array(chosen["year"], dtype=np.int64),
        chosen["source"],
        chosen["arxiv_categories"],
    )


def splits(path: Path) -> list[str]:
    """The names of a table's splits.

    Raises:
        CatalogueError: the file cannot be read or has no column `split`.
    """
    return sorted(set(read_columns(path, ["split"])["split"]))


class TermMatrix:
    """The vocabulary of a set of papers, commonest term first, and these papers as rows over it.

    A term's weight in a paper is (1 + ln count) · idf with idf = 1 + ln((N + 1) / (df + 1)), each row scaled
    to length one: the usual sublinear TF-IDF.

    Attributes:
        terms: the vocabulary, V terms.
        idf: float32 [V].
        rows: unit rows, float32 [papers, V].
    """

    def __init__(self, papers: Papers, minimum: int, progress: Progress) -> None:
        """Count the terms of `papers`, keeping those that at least `minimum` of them use."""
        ids: dict[str, int] = {}
        columns, counts, lengths = array("i"), array("i"), array("i")
        for i in range(len(papers)):
            found = term_counts(papers.title[i], papers.abstract[i])
            columns.extend(ids.setdefault(term, len(ids)) for term in found)
            counts.extend(found.values())
            lengths.append(len(found))
            if i % 500 == 0:
                progress("counting terms", i / len(papers))
        column = np.frombuffer(columns, np.int32)
        frequency = np.bincount(column, minlength=len(ids))
        names = np.array(list(ids), dtype=object)
        kept = np.flatnonzero(frequency >= minimum)
        kept = kept[np.lexsort((names[kept].astype(str), -frequency[kept]))]
        self.terms: list[str] = names[kept].tolist()
        self.idf = (1 + np.log((len(papers) + 1) / (frequency[kept] + 1))).astype(np.float32)
        number = np.full(len(ids), -1)
        number[kept] = np.arange(len(kept))
        row = np.repeat(np.arange(len(papers)), np.frombuffer(lengths, np.int32))
        known = number[column] >= 0
        row, column = row[known], number[column[known]]
        values = (1 + np.log(np.frombuffer(counts, np.int32)[known].astype(np.float32))) * self.idf[column]
        shape = (len(papers), len(kept))
        self.rows: Matrix = unit_rows(from_places(values, row, column, shape))

    def take(self, indices: NDArray[np.int64]) -> TermMatrix:
        """Some of the papers, with the same terms and idf."""
        taken = copy(self)
        taken.rows = self.rows[indices]
        return taken
