"""Which profile of a plan runs a batch, and where the batch lies in memory. Pure.

A batch travels to the device in one copy: `lengths`, then `tokens`, then `places` (`engines.sequence`). Where
`places` lie depends on the shape, so a context for one shape keeps its addresses for ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xuankan.errors import EngineError
from xuankan_worker.engines.base import TokenBatch
from xuankan_worker.engines.sequence import write_sequence

_ALIGNMENT_BYTES = 256  # of every tensor on the device (TensorRT, `setTensorAddress`)
_ITEM_BYTES = 4  # int32 and float32


class PlanProfile(NamedTuple):
    """An optimization profile of a plan.

    Attributes:
        number: its place in the plan.
        tokens, rows: of every batch that it runs; of the largest if it is not static.
        static: whether it runs this one shape only.
    """

    number: int
    tokens: int
    rows: int
    static: bool

    @property
    def cells(self) -> int:
        """Tokens of its largest batch, padding included."""
        return self.tokens * self.rows


class PlanProfiles:
    """The profiles of a plan, to choose from.

    Args:
        profiles: at least one, and one at most that is not static.
    """

    def __init__(self, profiles: Iterable[PlanProfile]) -> None:
        every = tuple(profiles)
        # Where two are of like size the shorter is faster: attention grows with the square of the length.
        self._static = sorted((p for p in every if p.static), key=lambda p: (p.cells, p.tokens))
        self._dynamic = next((p for p in every if not p.static), None)
        self.every = every

    def choose(self, rows: int, tokens: int) -> PlanProfile:
        """The cheapest profile for a batch whose longest row has `tokens` tokens.

        Raises:
            EngineError: no profile takes it.
        """
        for profile in self._static:
            if profile.rows >= rows and profile.tokens >= tokens:
                return profile
        dynamic = self._dynamic
        if dynamic is None or dynamic.rows < rows or dynamic.tokens < tokens:
            raise EngineError(
                f"no shape of the TensorRT engine takes {rows} rows of {tokens} tokens: rebuild it with a "
                "larger one (xuankan model build --help)"
            )
        return dynamic

    def within(self, max_batch: int) -> PlanProfiles:
        """What is left if no batch has more than `max_batch` rows: the others need no warming."""
        needed: set[PlanProfile] = set()
        for tokens in {profile.tokens for profile in self.every}:
            for rows in range(1, max_batch + 1):
                try:
                    needed.add(self.choose(rows, tokens))
                except EngineError:
                    break
        if self._dynamic is not None:
            needed.add(self._dynamic)
        return PlanProfiles(sorted(needed))

    def shapes(self) -> tuple[tuple[int, int], ...]:
        """Ascending (tokens, rows) that batches are padded up to.

        The profile that is not static counts if it alone runs the longest rows.
        """
        shapes = {(profile.tokens, profile.rows) for profile in self._static}
        dynamic = self._dynamic
        if dynamic is not None and dynamic.tokens > max((tokens for tokens, _ in shapes), default=0):
            shapes.add((dynamic.tokens, dynamic.rows))
        return tuple(sorted(shapes))


class Offsets(NamedTuple):
    """Where the inputs of one batch lie in a block, and where it ends: offsets in bytes."""

    lengths: int
    tokens: int
    places: int
    end: int


@dataclass(frozen=True, slots=True)
class Layout:
    """Blocks of bytes that hold any batch of some profiles.

    Attributes:
        input_bytes: of the largest batch's inputs.
        score_bytes: of the scores of the largest batch.
    """

    input_bytes: int
    score_bytes: int

    @classmethod
    def of(cls, profiles: Sequence[PlanProfile]) -> Layout:
        """The layout that holds a batch of any of these profiles."""
        return cls(
            max(offsets(profile.rows, profile.tokens).end for profile in profiles),
            max(profile.rows for profile in profiles) * _ITEM_BYTES,
        )


def offsets(rows: int, tokens: int) -> Offsets:
    """Where the inputs of a batch of this shape lie."""
    first = _aligned(rows * _ITEM_BYTES)
    second = first + _aligned(rows * tokens * _ITEM_BYTES)
    return Offsets(0, first, second, second + rows * tokens * _ITEM_BYTES)


def fill(block: NDArray[np.uint8], batch: TokenBatch, rows: int, tokens: int) -> None:
    """Write a batch into the block, padded to `rows` rows of `tokens` tokens; no row of it is longer."""
    at = offsets(rows, tokens)
    cells = rows * tokens * _ITEM_BYTES

    def view(start: int, size_bytes: int) -> NDArray[np.int32]:
        return block[start : start + size_bytes].view(np.int32)

    write_sequence(
        batch,
        view(at.tokens, cells).reshape(tokens, rows),
        view(at.places, cells).reshape(tokens, rows),
        view(at.lengths, rows * _ITEM_BYTES),
    )


def _aligned(size_bytes: int) -> int:
    return -(-size_bytes // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
