"""The engine interface: token rows of one bucket in; one score a row out, or what an encoder says of it.

ONNX Runtime and TensorRT stand behind it, and so can a test's own engine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """A padded batch of B rows and S tokens.

    Attributes:
        input_ids: int32 [B, S]; `[CLS] manuscript [SEP] profile [SEP]`, then padding. An encoder's rows end
            with the first `[SEP]`.
        lengths: int32 [B]; real tokens of each row, 1 <= length <= S.
        first_lengths: int32 [B]; tokens of `[CLS] manuscript [SEP]`: what follows is segment 1.
    """

    input_ids: NDArray[np.int32]
    lengths: NDArray[np.int32]
    first_lengths: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Encoded:
    """What an encoder says of B manuscripts.

    Attributes:
        logits: float32 [B, J], over the journals that it was trained on, in the release's order.
        embedding: float32 [B, D], of length one.
        neighbours: int32 [B, K], the nearest papers: positions in the release's corpus, nearest first.
        nearness: float32 [B, K], their cosines.
    """

    logits: NDArray[np.float32]
    embedding: NDArray[np.float32]
    neighbours: NDArray[np.int32]
    nearness: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class EncoderInfo:
    """What the scheduler needs to know of an engine's encoder; see `EngineInfo` for what is alike.

    Attributes:
        buckets: ascending padded lengths.
        max_batch: rows of a batch at most.
        journals: J, logits of a row.
        dimensions: D, of an embedding.
        neighbours: K, nearest papers of a row.
        shapes: (bucket, rows) that a batch is padded up to.
    """

    buckets: tuple[int, ...]
    max_batch: int
    journals: int
    dimensions: int
    neighbours: int
    shapes: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What the scheduler needs to know of an engine.

    A slot is a place for one batch. The slots of one context run one after the other: with more than one, the
    next batch is already handed over when one ends, so that the hardware never waits for the host.

    Attributes:
        name: `onnx`, `tensorrt`, ...
        device: the hardware in words, for status pages.
        buckets: ascending padded lengths that the engine runs; the last is its longest row. Empty if the
            release has no cross-encoder.
        max_batch: rows a batch at most.
        contexts: execution contexts that run at the same time.
        vocabulary_size: token ids are below it.
        fingerprint: hash of the model and its execution settings; equal fingerprints give equal scores.
        depth: slots of each context.
        shapes: ascending (bucket, rows) that a batch is padded up to, at least one for each bucket; empty if
            rows are never padded.
        encoder: None if the release has none; buckets, rows and shapes here are of the cross-encoder.
    """

    name: str
    device: str
    buckets: tuple[int, ...]
    max_batch: int
    contexts: int
    vocabulary_size: int
    fingerprint: str
    depth: int = 1
    shapes: tuple[tuple[int, int], ...] = ()
    encoder: EncoderInfo | None = None

    @property
    def slots(self) -> int:
        """Batches that the engine holds at the same time; slot i belongs to context `i % contexts`."""
        return self.contexts * self.depth

    def max_rows(self, bucket: int) -> int:
        """Rows of a batch of this bucket at most."""
        return min(self.max_batch, max((r for b, r in self.shapes if b == bucket), default=self.max_batch))

    def padded_rows(self, bucket: int, rows: int) -> int:
        """Rows that the engine really runs for a batch of `rows` rows; never fewer than `rows`."""
        return min((r for b, r in self.shapes if b == bucket and r >= rows), default=rows)


class Slot(Protocol):
    """A place for one batch. Not thread-safe: driven by one thread at a time."""

    def score(self, batch: TokenBatch) -> NDArray[np.float32]:
        """Score a batch, blocking the calling thread without holding the GIL for long.

        Returns:
            float32 [B], one raw score (logit) a row, in row order; a row's score does not depend on the
            other rows or on the padding.

        Raises:
            DeviceLost: nothing can run until the process is restarted.
            EngineError: there is no cross-encoder, the batch does not fit it, or running it failed.
        """
        ...

    def encode(self, batch: TokenBatch) -> Encoded:
        """Read manuscripts, `[CLS] manuscript [SEP]` a row; otherwise as `score`.

        Raises:
            DeviceLost: nothing can be run any more until the process is started anew.
            EngineError: there is no encoder, the batch does not fit it, or running it failed.
        """
        ...

    def close(self) -> None:
        """Free what the slot holds; idempotent."""
        ...


class Engine(Protocol):
    """A loaded model for one kind of hardware."""

    @property
    def info(self) -> EngineInfo:
        """Constant after loading."""
        ...

    def open_slot(self, index: int) -> Slot:
        """Open slot `index` of `info.slots`, every shape of it warmed: ready for traffic.

        Raises:
            EngineError: the slot cannot be made.
        """
        ...

    def close(self) -> None:
        """Free the model; every slot is closed before. Idempotent."""
        ...


@runtime_checkable
class Copies(Protocol):
    """An engine whose batches are copied to a device and back, and that measures it."""

    @property
    def copy_s(self) -> float:
        """What the copies of all slots have taken on the device since the engine was loaded."""
        ...
