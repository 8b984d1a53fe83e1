"""The first stage of journals that it was not fitted to, from papers of theirs. NumPy only.

A journal's centroid is the mean of its papers' term vectors. Its w and b are told twice: by a ridge
regression from the known journals' centroids to theirs, and by the mean of those of the known journals where
its papers would be placed, weighted by their probabilities. How many of its papers are of its newest year
tells how much it publishes. The weights of these parts were chosen by holding journals out (docs/ranking.md,
"Journals it never saw").
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from xuankan.candidates.first_stage import FirstStage, Newcomer
from xuankan.catalogue.model import Catalogue
from xuankan.catalogue.paper_tables import JournalPaper, PaperTable
from xuankan.catalogue.papers import Progress
from xuankan.errors import CatalogueError

SCALE, LOW_RANK, ALIKE, RATE, CONSTANT = 35.4, 1.25, 0.62, 1.13, -1.18
LIKENESS = 0.06
"""Mean cosine of the term vectors of a journal's papers."""
RIDGE = 0.01
"""Of the mean square of a centroid's embedding."""
PAPERS = 20
"""Of a journal that are read for this, its newest: as many as the weights were chosen with."""
_KNOWN_JOURNALS = 10
"""Fewer say nothing of how centroids and the low-rank part hang together."""

Vector = tuple[NDArray[np.int64], NDArray[np.float32]]
"""Terms, and their weights."""


@dataclass(frozen=True, slots=True)
class FromPapers:
    """A first stage, and what was read for it.

    `papers` were used, of `journals` that the first stage was not fitted to; `unknown` are of journals that
    the catalogue lacks, `untitled` have no title.
    """

    first_stage: FirstStage
    papers: int
    journals: int
    unknown: int
    untitled: int


def with_papers(
    base: FirstStage, catalogue: Catalogue, tables: Sequence[PaperTable], progress: Progress
) -> FromPapers:
    """A first stage for another catalogue, whose new journals are told by papers where there are any.

    Args:
        base: knows some of its journals.
        catalogue: the new one.
        tables: papers. Those of journals that `base` was fitted to are passed over.
        progress: told as papers are read.

    Raises:
        CatalogueError: a table cannot be read.
    """
    fitted = set(base.journals) - base.imported
    new = [place for place, journal in enumerate(catalogue) if journal.id not in fitted]
    chosen = _newest(tables, np.array(new, np.int64), progress)
    gathered: dict[int, _Gathered] = {}
    for row, paper in enumerate(_papers(tables)):
        if row % 1000 == 0:
            progress("reading what papers are about", row / len(chosen))
        if chosen[row]:
            vector = base.vector(paper.title, paper.abstract)
            likely = np.exp(base.log_shares(*vector))
            gathered.setdefault(paper.journal, _Gathered()).add(vector, likely, paper.year)
    progress("making the first stage", 0.5)
    newcomers: Mapping[str, Newcomer] = {}
    if gathered:
        low_rank = _low_rank(base)
        newcomers = {catalogue[place].id: one.newcomer(base, low_rank) for place, one in gathered.items()}
    return FromPapers(
        base.for_catalogue(catalogue, newcomers),
        papers=int(np.count_nonzero(chosen)),
        journals=len(gathered),
        unknown=sum(table.unknown for table in tables),
        untitled=sum(table.untitled for table in tables),
    )


def _papers(tables: Sequence[PaperTable]) -> Iterator[JournalPaper]:
    for table in tables:
        yield from table


def _newest(tables: Sequence[PaperTable], new: NDArray[np.int64], progress: Progress) -> NDArray[np.bool_]:
    """Which papers, in their order, are among the `PAPERS` newest of a new journal; bool [N]."""
    progress("reading papers", 0.0)
    numbers = (number for paper in _papers(tables) for number in (paper.journal, paper.year))
    flat = np.fromiter(numbers, np.int64)
    journal, year = flat[::2], flat[1::2]
    order = np.lexsort((-year, journal))
    starts = np.flatnonzero(np.diff(journal[order], prepend=-1))
    place = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    chosen = np.zeros(len(journal), bool)
    chosen[order[place < PAPERS]] = True
    return chosen & np.isin(journal, new)


def _length(papers: int) -> float:
    """Of the mean of so many unit vectors with a mean cosine of `LIKENESS`.

    The fewer papers, the nearer is each to their mean, and the farther is the mean from a paper that is not
    among them: by this, a mean of few is made as long as one of `PAPERS`.
    """
    return float(np.sqrt(LIKENESS + (1 - LIKENESS) / papers))


def _low_rank(base: FirstStage) -> NDArray[np.float64]:
    """From the embedding of a centroid, and 1, to w and b: float64 [R + 1, R + 1]."""
    fitted = np.array([name not in base.imported for name in base.journals])
    if np.count_nonzero(fitted) < _KNOWN_JOURNALS:
        raise CatalogueError(
            f"the first stage was fitted to {np.count_nonzero(fitted)} journals: too few to tell others by "
            "their papers; build a catalogue (xuankan catalogue build)"
        )
    journals, rank = base.output.shape
    embedded = int(base.starts[len(base.embedding)])
    term = np.repeat(np.arange(len(base.embedding)), np.diff(base.starts[: len(base.embedding) + 1]))
    posted, weights = base.posted[:embedded], base.weights[:embedded]
    inputs = np.ones((journals, rank + 1))
    for column in range(rank):
        inputs[:, column] = np.bincount(posted, weights * base.embedding[term, column], journals)
    lengths = np.sqrt(np.bincount(base.posted, base.weights.astype(np.float64) ** 2, journals))
    inputs[:, :-1] /= np.maximum(lengths, 1e-9)[:, None]
    inputs = inputs[fitted]
    parts = np.concatenate([base.output, (base.bias + base.prior)[:, None]], axis=1)
    outputs: NDArray[np.float64] = parts[fitted].astype(np.float64)
    penalty: NDArray[np.floating] = RIDGE * len(inputs) * inputs[:, :-1].var() * np.eye(rank + 1)
    penalty[-1, -1] = 0
    found: NDArray[np.float64] = np.linalg.solve(inputs.T @ inputs + penalty, inputs.T @ outputs).astype(
        np.float64
    )
    return found


@dataclass(slots=True)
class _Gathered:
    """What is known of a journal so far: its papers' vectors and years, and where they would be placed."""

    vectors: list[Vector] = field(default_factory=list[Vector])
    years: list[int] = field(default_factory=list[int])
    likely: NDArray[np.float32] | None = None

    def add(self, vector: Vector, likely: NDArray[np.float32], year: int) -> None:
        self.vectors.append(vector)
        self.likely = likely if self.likely is None else self.likely + likely
        self.years.append(year)

    def newcomer(self, base: FirstStage, low_rank: NDArray[np.float64]) -> Newcomer:
        assert self.likely is not None
        alike = self.likely / np.float32(len(self.years))
        terms, place = np.unique(np.concatenate([terms for terms, _ in self.vectors]), return_inverse=True)
        sums = np.bincount(place, np.concatenate([weights for _, weights in self.vectors]), len(terms))
        size = len(self.years)
        stretch = _length(size) / _length(PAPERS) / max(float(np.linalg.norm(sums)), 1e-9)
        centroid = (sums * stretch).astype(np.float32)
        parts = np.append(base.embed(terms, centroid), 1.0) @ low_rank
        year = np.array(self.years)
        rate = float(np.log(np.count_nonzero(year == year.max()) * PAPERS / size + 1))
        known = float(LOW_RANK * parts[-1] + ALIKE * (alike @ (base.bias + base.prior)))
        return Newcomer(
            terms=terms,
            weights=np.float32(SCALE) * centroid,
            output=(LOW_RANK * parts[:-1] + ALIKE * (alike @ base.output)).astype(np.float32),
            bias=known + RATE * rate + CONSTANT,
        )
