"""The engine interface: token rows of one bucket in, one score a row out.

ONNX Runtime and TensorRT stand behind it, and so can a test's own engine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """A padded batch of B rows and S tokens.

    Attributes:
        input_ids: int32 [B, S]; `[CLS] manuscript [SEP] profile [SEP]`, then padding.
        lengths: int32 [B]; real tokens of each row, 1 <= length <= S.
        first_lengths: int32 [B]; tokens of `[CLS] manuscript [SEP]`: what follows is segment 1.
    """

    input_ids: NDArray[np.int32]
    lengths: NDArray[np.int32]
    first_lengths: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What the scheduler needs to know of an engine.

    Attributes:
        name: `onnx`, `tensorrt`, ...
        device: the hardware in words, for status pages.
        buckets: ascending padded lengths that the engine runs; the last is its longest row.
        max_batch: rows a batch at most.
        contexts: execution contexts that run at the same time.
        vocabulary_size: token ids are below it.
        fingerprint: hash of the model and its execution settings; equal fingerprints give equal scores.
    """

    name: str
    device: str
    buckets: tuple[int, ...]
    max_batch: int
    contexts: int
    vocabulary_size: int
    fingerprint: str


class Context(Protocol):
    """One execution context. Not thread-safe: each is driven by one thread of its own."""

    def score(self, batch: TokenBatch) -> NDArray[np.float32]:
        """Score a batch, blocking the calling thread without holding the GIL for long.

        Returns:
            float32 [B], one raw score (logit) a row, in row order; a row's score does not depend on the
            other rows or on the padding.

        Raises:
            EngineError: the batch does not fit the engine, or running it failed.
        """
        ...

    def close(self) -> None:
        """Free what the context holds; idempotent."""
        ...


class Engine(Protocol):
    """A loaded model for one kind of hardware."""

    @property
    def info(self) -> EngineInfo:
        """Constant after loading."""
        ...

    def open_context(self, index: int) -> Context:
        """Open execution context `index` of `info.contexts`, warmed and ready for traffic.

        Raises:
            EngineError: the context cannot be made.
        """
        ...

    def close(self) -> None:
        """Free the model; every context is closed before. Idempotent."""
        ...
