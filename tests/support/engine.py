"""An engine whose scores can be computed by hand, and that fails, waits or spoils a row on demand."""

from __future__ import annotations

import asyncio
import select
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from xuankan.errors import DeviceLost, EngineError
from xuankan.protocol.template import Template
from xuankan_worker.engines.base import Encoded, EngineInfo, TokenBatch

BUCKETS = tuple(range(32, 353, 32))
_WEIGHTS = np.random.default_rng(7).normal(size=352).astype(np.float32)


def score_tokens(tokens: Iterable[int]) -> float:
    """The scripted model: depends on every token and its place, on nothing else."""
    ids = np.fromiter(tokens, dtype=np.int64)
    values = (ids * 2654435761 % 1009).astype(np.float64) / 1009
    return float(np.float32((values * _WEIGHTS[: len(ids)]).sum()))


@dataclass
class ScriptedEngine:
    """Scores rows by `score_tokens`.

    Attributes:
        poison: a batch with this token raises.
        spoiled: a row with this token scores NaN.
        gate: batches wait until it is set.
        row_s: seconds that each row takes.
        faults: the next so many batches raise.
        lost: batches raise DeviceLost.
        batches: what was run: rows and padded length.
    """

    contexts: int = 2
    depth: int = 1
    shapes: tuple[tuple[int, int], ...] = ()
    max_batch: int = 16
    poison: int | None = None
    spoiled: int | None = None
    row_s: float = 0.0
    faults: int = 0
    lost: bool = False
    gate: threading.Event = field(default_factory=threading.Event)
    batches: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    started: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    opened: int = 0

    def __post_init__(self) -> None:
        self.gate.set()

    @property
    def info(self) -> EngineInfo:
        return EngineInfo(
            name="scripted",
            device="none",
            buckets=BUCKETS,
            max_batch=self.max_batch,
            contexts=self.contexts,
            vocabulary_size=Template.default().tokenizer.get_vocab_size(),
            fingerprint="scripted",
            depth=self.depth,
            shapes=self.shapes,
        )

    def open_slot(self, index: int) -> ScriptedSlot:
        assert index < self.info.slots
        self.opened += 1
        return ScriptedSlot(self)

    async def wait_started(self) -> None:
        """Wait until one more batch has begun."""
        assert await asyncio.to_thread(self.started.acquire, timeout=20)

    def close(self) -> None:
        assert self.opened == 0


class ScoresOnly:
    """A slot's part of an engine without encoder."""

    def encode(self, batch: TokenBatch) -> Encoded:
        raise EngineError(f"there is no encoder for {len(batch.lengths)} rows")


class ScriptedSlot(ScoresOnly):
    def __init__(self, engine: ScriptedEngine) -> None:
        self._engine = engine

    def score(self, batch: TokenBatch) -> NDArray[np.float32]:
        engine = self._engine
        engine.batches.append((batch.input_ids.shape[0], batch.input_ids.shape[1]))
        engine.started.release()
        engine.gate.wait()
        # Not `time.sleep`: libfaketime 0.9.10 adds to its monotonic time what was added to the wall clock.
        select.select((), (), (), engine.row_s * len(batch.lengths))
        if engine.lost:
            raise DeviceLost("scripted loss")
        if engine.faults:
            engine.faults -= 1
            raise EngineError("scripted fault")
        scores = np.empty(len(batch.lengths), dtype=np.float32)
        for row, (ids, length) in enumerate(zip(batch.input_ids, batch.lengths, strict=True)):
            if engine.poison is not None and engine.poison in ids[:length]:
                raise EngineError("poisoned row")
            spoiled = engine.spoiled is not None and engine.spoiled in ids[:length]
            scores[row] = np.nan if spoiled else score_tokens(ids[:length].tolist())
        return scores

    def close(self) -> None:
        self._engine.opened -= 1
