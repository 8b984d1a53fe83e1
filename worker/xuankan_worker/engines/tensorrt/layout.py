"""Which profile of a plan runs a batch, and where the batch and what is said of it lie in memory. Pure.

A batch travels to the device in one copy: `lengths`, then `tokens`, then `places` (`engines.sequence`). All
outputs come back in one copy too, one behind the other. Where they lie depends on the shape, so a context for
one shape keeps its addresses for ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xuankan.errors import EngineError
from xuankan_worker.engines.base import TokenBatch
from xuankan_worker.engines.sequence import write_sequence

_ALIGNMENT_BYTES = 256  # of every tensor on the device (TensorRT, `setTensorAddress`)
_ITEM_BYTES = 4  # int32 and float32
PlanKind = Literal["encoder", "cross_encoder"]
"""What an engine has a plan of, at most one each."""


class Output(NamedTuple):
    """An output of a plan.

    Attributes:
        name: in the graph.
        columns: values of each row.
        dtype: of them, four bytes each.
    """

    name: str
    columns: int
    dtype: type[np.float32 | np.int32]


SCORES = (Output("scores", 1, np.float32),)
"""Of a cross-encoder."""


def encoder_outputs(journals: int, dimensions: int, neighbours: int) -> tuple[Output, ...]:
    """Of an encoder, in the order of `engines.base.Encoded`."""
    return (
        Output("logits", journals, np.float32),
        Output("embedding", dimensions, np.float32),
        Output("neighbours", neighbours, np.int32),
        Output("nearness", neighbours, np.float32),
    )


class PlanProfile(NamedTuple):
    """An optimization profile of a plan.

    Attributes:
        number: its place in the plan.
        tokens, rows: of every batch that it runs; of the largest if it is not static.
        static: whether it runs this one shape only.
        kind: which plan of the engine it is of.
    """

    number: int
    tokens: int
    rows: int
    static: bool
    kind: PlanKind = "cross_encoder"

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
        output_bytes: of the largest batch's outputs.
        outputs: of each plan.
    """

    input_bytes: int
    output_bytes: int
    outputs: Mapping[PlanKind, Sequence[Output]]

    @classmethod
    def of(cls, profiles: Sequence[PlanProfile], outputs: Mapping[PlanKind, Sequence[Output]]) -> Layout:
        """The layout that holds a batch of any of these profiles."""
        return cls(
            max(offsets(profile.rows, profile.tokens).end for profile in profiles),
            max(_outputs_end(outputs[profile.kind], profile.rows) for profile in profiles),
            outputs,
        )

    def output_places(self, kind: PlanKind, rows: int) -> tuple[dict[str, int], int]:
        """Where each output of a batch of `rows` rows begins, and where they end: offsets in bytes."""
        outputs = self.outputs[kind]
        begins = {output.name: _outputs_begin(outputs, number, rows) for number, output in enumerate(outputs)}
        return begins, _outputs_end(outputs, rows)

    def read(
        self, block: NDArray[np.uint8], kind: PlanKind, rows: int, used: int
    ) -> tuple[NDArray[Any], ...]:
        """The outputs of a batch of `rows` rows, [used, columns] each, copied out of a block."""
        begins, _ = self.output_places(kind, rows)
        return tuple(
            block[begins[name] : begins[name] + used * columns * _ITEM_BYTES]
            .view(dtype)
            .reshape(used, columns)
            .copy()
            for name, columns, dtype in self.outputs[kind]
        )


def _outputs_begin(outputs: Sequence[Output], number: int, rows: int) -> int:
    return sum(_aligned(rows * output.columns * _ITEM_BYTES) for output in outputs[:number])


def _outputs_end(outputs: Sequence[Output], rows: int) -> int:
    last = len(outputs) - 1
    return _outputs_begin(outputs, last, rows) + rows * outputs[last].columns * _ITEM_BYTES


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
