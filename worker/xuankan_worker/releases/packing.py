"""Ragged token arrays, packed pairs, and the draw of negatives. NumPy only.

Packed means that the sequences of a batch stand one behind the other in one long row, without any padding:
attention is told where each begins. Nothing is spent on padding tokens, and no sorting by length is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xuankan.protocol.template import Template


@dataclass(frozen=True, slots=True)
class Ragged:
    """Token sequences of different lengths.

    Attributes:
        ids: uint16 or int32 [T], all sequences one behind the other.
        offsets: int64 [N + 1]; sequence i is `ids[offsets[i]:offsets[i + 1]]`.
    """

    ids: NDArray[Any]
    offsets: NDArray[np.int64]

    @classmethod
    def of(cls, sequences: Sequence[NDArray[np.int32]]) -> Ragged:
        """Join sequences; ids below 65,536 are kept in two bytes."""
        offsets = np.zeros(len(sequences) + 1, dtype=np.int64)
        np.cumsum([len(sequence) for sequence in sequences], out=offsets[1:])
        ids = np.concatenate([*sequences, np.empty(0, dtype=np.int32)])
        return cls(ids.astype(np.uint16) if ids.max(initial=0) < 1 << 16 else ids, offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> NDArray[np.int32]:
        return self.ids[self.offsets[index] : self.offsets[index + 1]].astype(np.int32)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each sequence, int64 [N]."""
        return np.diff(self.offsets)


@dataclass(frozen=True, slots=True)
class Packed:
    """Sequences packed into one row of T tokens.

    Attributes:
        ids: int32 [T], tokens.
        types: int32 [T], segment of each: 0 manuscript, 1 profile.
        positions: int32 [T], place of each in its sequence.
        starts: int32 [B + 1], where each of the B sequences begins; the last entry is T.
    """

    ids: NDArray[np.int32]
    types: NDArray[np.int32]
    positions: NDArray[np.int32]
    starts: NDArray[np.int32]


class Packer:
    """Packs pairs of given manuscripts and profiles, `[CLS] manuscript [SEP] profile [SEP]`."""

    def __init__(self, manuscripts: Ragged, profiles: Ragged, template: Template) -> None:
        self._pool = np.concatenate(
            [np.array([template.cls_id, template.sep_id]), manuscripts.ids, profiles.ids]
        ).astype(np.int32)
        self._manuscripts, self._profiles = manuscripts, profiles
        self._profile_base = 2 + len(manuscripts.ids)

    def pack(self, manuscripts: NDArray[np.integer], profiles: NDArray[np.integer]) -> Packed:
        """Pack a sequence for each of B (manuscript, profile) pairs; profile -1: the manuscript alone."""
        alone = profiles < 0
        chosen = np.where(alone, 0, profiles)
        ones = np.ones(len(profiles), dtype=np.int64)
        # Five pieces a sequence, each a run of the pool: [CLS], manuscript, [SEP], profile, [SEP].
        begins = np.stack(
            [
                ones * 0,
                self._manuscripts.offsets[manuscripts] + 2,
                ones,
                self._profiles.offsets[chosen] + self._profile_base,
                ones,
            ],
            axis=1,
        )
        lengths = np.stack(
            [
                ones,
                self._manuscripts.lengths[manuscripts],
                ones,
                np.where(alone, 0, self._profiles.lengths[chosen]),
                ~alone,
            ],
            axis=1,
        ).astype(np.int64)
        return pack_pieces(self._pool, begins, lengths, np.array([0, 0, 0, 1, 1], dtype=np.int32))


def pack_pieces(
    pool: NDArray[np.int32],
    begins: NDArray[np.int64],
    lengths: NDArray[np.int64],
    segments: NDArray[np.int32],
) -> Packed:
    """Pack sequences of pieces, each a run of a pool.

    Args:
        pool: int32 [P], tokens.
        begins: int64 [B, N], where the N pieces of each sequence begin in the pool.
        lengths: int64 [B, N], their tokens; 0 leaves a piece out.
        segments: int32 [N], of each piece.
    """
    starts = np.zeros(len(begins) + 1, dtype=np.int32)
    np.cumsum(lengths.sum(axis=1), out=starts[1:])
    flat = lengths.ravel()
    ends = np.cumsum(flat)
    places = np.arange(starts[-1], dtype=np.int64)
    return Packed(
        ids=pool[places + np.repeat(begins.ravel() - (ends - flat), flat)],
        types=np.repeat(np.tile(segments, len(begins)), flat),
        positions=(places - np.repeat(starts[:-1], np.diff(starts))).astype(np.int32),
        starts=starts,
    )


def inclusion_probabilities(weights: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Probabilities proportional to `weights`, none above 1, that sum to `count` in every row.

    Args:
        weights: float64 [N, C], >= 0; at least `count` of each row are positive.
        count: how many a draw takes, from 1 to C.
    """
    sure = np.zeros(weights.shape, dtype=bool)
    while True:
        rest = np.where(sure, 0.0, weights)
        left = count - sure.sum(axis=1, keepdims=True)
        probabilities = np.where(
            sure, 1.0, rest * (left / np.maximum(rest.sum(axis=1, keepdims=True), 1e-300))
        )
        over = (probabilities >= 1.0) & ~sure
        if not over.any():
            return probabilities
        sure |= over


def draw(probabilities: NDArray[np.float64], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw `count` different columns of each row, column c with probability `probabilities[:, c]` exactly.

    Systematic sampling in random order (Madow, "On the theory of systematic sampling, II", 1949).

    Returns:
        int64 [N, count], columns in ascending order.
    """
    rows, columns = probabilities.shape
    ascending: NDArray[np.int64] = np.tile(np.arange(columns), (rows, 1))  # pyright: ignore[reportUnknownArgumentType]
    order = rng.permuted(ascending, axis=1)
    ends = np.cumsum(np.take_along_axis(probabilities, order, axis=1), axis=1)
    ends[:, -1] = count  # the sum, without its rounding error
    steps = np.ceil(ends - rng.random((rows, 1)))
    taken = np.diff(steps, axis=1, prepend=0.0) > 0
    # Rounding can still leave a row short or long by one near a boundary: the likeliest columns fill up.
    preference = np.take_along_axis(probabilities, order, axis=1) + 2.0 * taken
    best = np.argpartition(-preference, count - 1, axis=1)[:, :count]
    return np.sort(np.take_along_axis(order, best, axis=1), axis=1)
