"""Which papers of each journal are kept: its newest, without holding more than those."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xuankan.catalogue.openalex.parts import Keys

_SLACK = 2_000_000
"""Papers that may be held beyond what is kept, before the others are dropped."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What was chosen.

    Attributes:
        sources: OpenAlex ids of the journals.
        small: journals left out for having too few papers.
        part, number: int32 and int64 [N], which part each paper is of, and its number; ascending by part.
    """

    sources: frozenset[str]
    small: int
    part: NDArray[np.int32]
    number: NDArray[np.int64]

    def of_part(self, part: int) -> NDArray[np.int64]:
        """The numbers of a part's papers, ascending."""
        return self.number[slice(*np.searchsorted(self.part, [part, part + 1]))]


class Newest:
    """Takes the keys of parts, those of the latest changes first, and keeps `most` papers of each journal."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._sources: dict[str, int] = {}
        self._columns = (
            np.empty(0, np.int32),
            np.empty(0, np.int64),
            np.empty(0, np.int16),
            np.empty(0, np.int32),
        )
        self._settled = 0

    def add(self, part: int, keys: Keys) -> None:
        """Take a part's papers."""
        ids = [self._sources.setdefault(name, len(self._sources)) for name in keys.source]
        added = (np.array(ids, np.int32), keys.number, keys.year, np.full(len(ids), part, np.int32))
        self._columns = tuple(np.concatenate(both) for both in zip(self._columns, added, strict=True))
        if len(self._columns[0]) > self._settled + _SLACK:
            self._settle()

    def _settle(self) -> None:
        journal, number, year, part = self._columns
        # A work that was changed is in two parts if the older was not removed: the newer part counts.
        order = np.lexsort((part, number))
        first = np.concatenate([[True], np.diff(number[order]) != 0]) if len(order) else np.empty(0, bool)
        once = order[first]
        order = once[np.lexsort((_mixed(number[once]), -year[once].astype(np.int32), journal[once]))]
        sorted_journal = journal[order]
        starts = np.flatnonzero(np.diff(sorted_journal, prepend=-1))
        place = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
        kept = order[place < self._most]
        self._columns = (journal[kept], number[kept], year[kept], part[kept])
        self._settled = len(kept)

    def chosen(self, minimum: int) -> Kept:
        """The papers of journals with at least `minimum` of them."""
        self._settle()
        journal, number, _, part = self._columns
        count = np.bincount(journal, minlength=len(self._sources))
        enough = count >= minimum
        kept = np.flatnonzero(enough[journal])
        kept = kept[np.lexsort((number[kept], part[kept]))]
        names: Sequence[str] = list(self._sources)
        return Kept(
            frozenset(names[i] for i in np.flatnonzero(enough)),
            int(np.count_nonzero(~enough)),
            part[kept],
            number[kept],
        )


def _mixed(number: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Numbers in an order that has nothing to do with when they were given (Steele et al. 2014, SplitMix)."""
    x = number.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
