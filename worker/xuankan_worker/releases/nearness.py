"""What a manuscript's nearest papers say of journals. NumPy only: a worker computes the same.

The encoder gives the K papers of the corpus that are nearest to a manuscript, with their cosines. Of journal
j they say two things:

- mean: of the cosines of its three nearest papers; a paper that is not among the K counts as the K-th does.
- density: log Σ exp(cosine/τ − age/T) over its papers among the K, less the same over all K. A journal
without
  any gets what a paper of the K-th's cosine and the greatest age would give.

Its three nearest papers are the evidence for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

EVIDENCE = 3
"""Papers of a journal that speak for it."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """How cosines and ages become a density.

    Attributes:
        temperature: τ.
        memory_years: T.
        now: the year that ages are counted from; later papers have age 0.
    """

    temperature: float
    memory_years: float
    now: int


class Nearness(NamedTuple):
    """What the neighbours of B manuscripts say of J journals.

    Attributes:
        mean, density: float32 [B, J].
        evidence: int32 [B, J, 3], papers of the corpus, nearest first; −1 where there is none.
        cosines: float32 [B, J, 3], theirs; NaN where there is none.
    """

    mean: NDArray[np.float32]
    density: NDArray[np.float32]
    evidence: NDArray[np.int32]
    cosines: NDArray[np.float32]


def nearness(
    cosines: NDArray[np.floating],
    papers: NDArray[np.integer],
    journal: NDArray[np.integer],
    year: NDArray[np.integer],
    journals: int,
    kernel: Kernel,
    now: NDArray[np.integer] | None = None,
) -> Nearness:
    """Look at the neighbours of B manuscripts.

    Args:
        cosines: float [B, K], descending; −inf where a manuscript has fewer than K.
        papers: int [B, K], which papers of the corpus they are.
        journal: int [N], catalogue position of each paper of the corpus.
        year: int [N], when it appeared.
        journals: J.
        kernel: see there.
        now: int [B], in place of the kernel's.
    """
    rows = len(cosines)
    values = cosines.astype(np.float32)
    real = np.isfinite(values)
    lowest = np.where(real, values, np.inf).min(axis=1, keepdims=True)
    lowest = np.where(np.isfinite(lowest), lowest, 0.0)
    values = np.where(real, values, lowest)
    place = np.where(real, np.arange(rows)[:, None] * journals + journal[papers], rows * journals).ravel()
    size = rows * journals + 1

    current = np.full((rows, 1), kernel.now) if now is None else now[:, None]
    age = np.clip(current - year[papers], 0, None) / kernel.memory_years
    top = values[:, :1] / kernel.temperature
    mass = np.where(real, np.exp(values / kernel.temperature - age - top), 0.0)
    floor = np.exp(lowest / kernel.temperature - age.max(axis=1, keepdims=True) - top)
    by_journal = np.bincount(place, mass.ravel(), size)[:-1].reshape(rows, journals)
    density = np.log(np.maximum(by_journal, floor)) - np.log(
        np.maximum(mass.sum(axis=1, keepdims=True), 1e-30)
    )

    order = np.argsort(place, kind="stable")  # stable: within a journal the nearest stay first
    sorted_place = place[order]
    starts = np.flatnonzero(np.diff(sorted_place, prepend=-1))
    rank = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    kept = (rank < EVIDENCE) & (sorted_place < size - 1)
    flat, best, rank = order[kept], sorted_place[kept], rank[kept]
    evidence = np.full((size - 1, EVIDENCE), -1, np.int32)
    near = np.full((size - 1, EVIDENCE), np.nan, np.float32)
    evidence[best, rank] = papers.ravel()[flat]
    near[best, rank] = values.ravel()[flat]
    filled = np.where(np.isnan(near), np.repeat(lowest, journals, axis=0), near)
    shape = (rows, journals, EVIDENCE)
    return Nearness(
        mean=filled.mean(axis=1).reshape(rows, journals).astype(np.float32),
        density=density.astype(np.float32),
        evidence=evidence.reshape(shape),
        cosines=near.reshape(shape),
    )


def nearest(
    queries: NDArray[np.float32], corpus: NDArray[np.float32], count: int, at_once: int = 256
) -> Iterator[tuple[slice, NDArray[np.float32], NDArray[np.int64]]]:
    """The `count` nearest papers of each query by cosine, some queries at a time; rows of length one."""
    for start in range(0, len(queries), at_once):
        part = slice(start, min(start + at_once, len(queries)))
        cosines = queries[part] @ corpus.T
        few = min(count, cosines.shape[1])
        chosen = np.argpartition(-cosines, few - 1, axis=1)[:, :few]
        values = np.take_along_axis(cosines, chosen, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        yield part, np.take_along_axis(values, order, axis=1), np.take_along_axis(chosen, order, axis=1)
