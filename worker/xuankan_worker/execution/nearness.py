"""What a manuscript's nearest papers say of journals. Pure; training and serving share it.

The encoder gives the K papers of the corpus that are nearest to a manuscript, with their cosines. They say
two things of a journal:

- mean: of the cosines of its three nearest papers; a paper that is not among the K counts as the K-th does.
- density: log Σ exp(cosine/τ − age/T) over its papers among the K, less the same over all K. A journal
  without any gets what a paper of the K-th's cosine and the greatest age would give.

Its three nearest papers are the evidence for it.
"""

from __future__ import annotations

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
    """What the neighbours of B manuscripts say of C journals each.

    Attributes:
        mean, density: float32 [B, C].
        evidence: int32 [B, C, 3], papers of the corpus, nearest first; −1 where there is none.
        cosines: float32 [B, C, 3], theirs; NaN where there is none.
    """

    mean: NDArray[np.float32]
    density: NDArray[np.float32]
    evidence: NDArray[np.int32]
    cosines: NDArray[np.float32]


def nearness(
    cosines: NDArray[np.floating],
    papers: NDArray[np.integer],
    column: NDArray[np.integer],
    year: NDArray[np.integer],
    columns: int,
    kernel: Kernel,
    now: NDArray[np.integer] | None = None,
) -> Nearness:
    """Look at the neighbours of B manuscripts.

    Args:
        cosines: float [B, K], descending; −inf where a manuscript has fewer than K.
        papers: int [B, K], which papers of the corpus they are.
        column: int [B, K], which of the C journals looked at each is of; C if of none of them.
        year: int [N], when each paper of the corpus appeared.
        columns: C, how many journals are looked at for each manuscript.
        kernel: see there.
        now: int [B], in place of the kernel's.
    """
    rows = len(cosines)
    values, real = cosines.astype(np.float32, copy=False), np.isfinite(cosines)
    lowest = values[:, -1:]
    if not (complete := bool(real.all())):
        lowest = np.where(real, values, np.inf).min(axis=1, keepdims=True)
        lowest = np.where(np.isfinite(lowest), lowest, np.float32(0))
        values, column = np.where(real, values, lowest), np.where(real, column, columns)
    key = column.astype(np.min_scalar_type(columns), copy=False)

    # In 32 bits, and few steps: all of a batch's numbers stay in the processor's cache.
    current = kernel.now if now is None else now[:, None]
    age = np.maximum(current - year[papers], 0).astype(np.float32)
    age *= np.float32(1 / kernel.memory_years)
    top, per_cosine = values[:, :1], np.float32(1 / kernel.temperature)
    mass = values - top
    mass *= per_cosine
    mass -= age
    np.exp(mass, out=mass)
    if not complete:
        mass *= real
    floor = np.exp((lowest - top) * per_cosine - age.max(axis=1, keepdims=True))
    flat = key + (columns + 1) * np.arange(rows)[:, None]
    found = np.bincount(flat.ravel(), mass.ravel(), rows * (columns + 1)).reshape(rows, columns + 1)
    total = np.log(np.maximum(found.sum(axis=1, keepdims=True), 1e-30))
    density = np.log(np.maximum(found[:, :-1], floor)) - total

    evidence, near = _nearest(values, papers, key, columns)
    filled = np.where(np.isnan(near), lowest[:, :, None], near)
    return Nearness(filled.mean(axis=2), density.astype(np.float32), evidence, near)


def _nearest(
    values: NDArray[np.float32], papers: NDArray[np.integer], key: NDArray[np.integer], columns: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Of each column the three nearest papers and their cosines, [B, C, 3], as in `Nearness`."""
    # Integers of 8 and 16 bits are sorted by their digits, in a tenth of the time. Stable: within a column
    # the nearest stay first, and a paper is not among its first three if the one three places before it is of
    # the same column.
    order = np.argsort(key, axis=1, kind="stable")
    ordered = np.take_along_axis(key, order, axis=1)
    same = np.zeros((EVIDENCE, *key.shape), bool)
    for before in range(1, EVIDENCE + 1):
        np.equal(ordered[:, before:], ordered[:, :-before], out=same[before - 1, :, before:])
    kept = np.flatnonzero(~same[-1] & (ordered < columns))
    row, rank = kept // key.shape[1], same.reshape(EVIDENCE, -1)[:, kept].sum(axis=0)
    place = (row * columns + ordered.ravel()[kept]) * EVIDENCE + rank
    source = row * key.shape[1] + order.ravel()[kept]
    shape = (len(values), columns, EVIDENCE)
    evidence, near = np.full(shape, -1, np.int32), np.full(shape, np.nan, np.float32)
    evidence.ravel()[place] = papers.ravel()[source]
    near.ravel()[place] = values.ravel()[source]
    return evidence, near
