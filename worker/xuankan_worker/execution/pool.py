"""Runs batches: one thread for each slot of the engine, so that the event loop never waits for an engine."""

from __future__ import annotations

import asyncio
import logging
import math
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from xuankan.errors import EngineError, MemoryExhausted
from xuankan_worker.engines.base import Encoded, Slot
from xuankan_worker.execution.served_model import ServedModel
from xuankan_worker.execution.steps import assemble, consider
from xuankan_worker.in_flight import Considered, InFlight
from xuankan_worker.scheduling.batcher import Batch, Kind
from xuankan_worker.scheduling.scheduler import LaneLoad

_log = logging.getLogger(__name__)
_LOOK_S: Final = 0.005


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """A batch that was run.

    Attributes:
        batch: what was run.
        context: where.
        scores: float32 [rows] of a cross-encoder's batch, None if it failed.
        considered: by slice of an encoder's batch, what it found; None if it failed.
        error: why it failed.
        real_tokens: tokens of the batch without padding.
        assembly_s: time of putting its rows together.
        engine_cpu_s: processor time of the slot's thread in the engine; threads of the engine's own, if it
            has any, are not in it.
        started_s, ended_s: monotonic times around the slot's work, assembling the batch included.
    """

    batch: Batch[InFlight]
    context: int
    scores: NDArray[np.float32] | None
    considered: list[Considered] | None
    error: Exception | None
    real_tokens: int
    assembly_s: float
    engine_cpu_s: float
    started_s: float
    ended_s: float


@dataclass(slots=True)
class _Context:
    """What one execution context is doing.

    Attributes:
        free: its slots that have no batch.
        batches: by slot, oldest first; they run one after the other.
        tokens: of all its batches.
        since_s: when the oldest began, or the last one ended.
    """

    free: list[int] = field(default_factory=list[int])
    batches: dict[int, Batch[InFlight]] = field(default_factory=dict[int, "Batch[InFlight]"])
    tokens: int = 0
    since_s: float = 0.0


class ContextPool:
    """The execution contexts of an engine. All methods belong to the event loop's thread.

    `on_run(run, seconds)` is called in the event loop for every batch, after its slot became free again;
    `seconds` is how long it had the context to itself.
    """

    def __init__(self, served: ServedModel, on_run: Callable[[Run, float], None]) -> None:
        self._served = served
        self._engine = engine = served.engine
        self._on_run = on_run
        self._contexts = [_Context() for _ in range(engine.info.contexts)]
        self._inboxes: list[queue.SimpleQueue[Batch[InFlight] | None]] = []
        self._threads: list[threading.Thread] = []
        self._tokens_per_s = 0.0  # of one context, smoothed; 0 until the first batch
        self._rows_per_s: dict[Kind, float] = {}  # the same, of each kind that was run

    @property
    def free(self) -> bool:
        """Whether some context can take a batch."""
        return any(context.free for context in self._contexts)

    @property
    def running(self) -> int:
        """Batches that are being run or are at hand."""
        return sum(len(context.batches) for context in self._contexts)

    @property
    def busy(self) -> int:
        """Contexts that have a batch."""
        return sum(bool(context.batches) for context in self._contexts)

    @property
    def rows_per_s(self) -> float:
        """Rows that all contexts together run while they have enough; 0 until that is known.

        Of the cross-encoder, if there is one: an encoder's rows are few beside.
        """
        rates = self._rows_per_s
        return rates.get("cross_encoder", rates.get("encoder", 0.0)) * len(self._contexts)

    def loads(self, now_s: float) -> list[LaneLoad]:
        """What each context has to do."""
        loads: list[LaneLoad] = []
        for context in self._contexts:
            tokens = 0.0
            for batch in context.batches.values():
                done = (now_s - context.since_s) * self._tokens_per_s
                tokens = context.tokens - min(done, batch.tokens)
                break  # only the oldest is being worked on
            loads.append(LaneLoad(len(context.batches), tokens, len(context.free)))
        return loads

    async def start(self) -> None:
        """Open and warm every slot.

        Raises:
            EngineError: a slot cannot be opened.
        """
        loop = asyncio.get_running_loop()
        opened: list[asyncio.Future[None]] = []
        for index in range(self._engine.info.slots):
            ready: asyncio.Future[None] = loop.create_future()
            inbox: queue.SimpleQueue[Batch[InFlight] | None] = queue.SimpleQueue()
            thread = threading.Thread(
                target=self._drive, args=(index, inbox, loop, ready), name=f"slot-{index}", daemon=True
            )
            self._inboxes.append(inbox)
            self._threads.append(thread)
            opened.append(ready)
            thread.start()
        try:
            await asyncio.gather(*opened)
        except BaseException:
            await asyncio.gather(*opened, return_exceptions=True)
            await self.stop()
            raise
        for index in reversed(range(len(opened))):
            self._contexts[index % len(self._contexts)].free.append(index)

    def submit(self, context: int, batch: Batch[InFlight]) -> None:
        """Run a batch in a context that has a free slot."""
        doing = self._contexts[context]
        slot = doing.free.pop()
        if not doing.batches:
            doing.since_s = time.monotonic()
        doing.batches[slot] = batch
        doing.tokens += batch.tokens
        self._inboxes[slot].put(batch)

    async def stop(self, wait_s: float | None = None) -> None:
        """Close every slot after the batch that it runs; after `wait_s`, leave those that still run alone."""
        for context in self._contexts:
            context.free.clear()
        for inbox in self._inboxes:
            inbox.put(None)
        until_s = math.inf if wait_s is None else time.monotonic() + wait_s
        for thread in self._threads:
            # Not `join` in another thread: a process without memory cannot start one.
            while thread.is_alive() and time.monotonic() < until_s:  # noqa: ASYNC110
                await asyncio.sleep(_LOOK_S)
        self._threads.clear()
        self._inboxes.clear()

    def _finished(self, slot: int, run: Run) -> None:
        context = self._contexts[run.context]
        del context.batches[slot]
        context.tokens -= run.batch.tokens
        context.free.append(slot)
        seconds = max(run.ended_s - max(run.started_s, context.since_s), 1e-6)
        context.since_s = run.ended_s
        if run.error is None:
            self._tokens_per_s = _smoothed(self._tokens_per_s, run.batch.tokens / seconds)
            kind = run.batch.kind
            self._rows_per_s[kind] = _smoothed(self._rows_per_s.get(kind, 0.0), run.batch.rows / seconds)
        self._on_run(run, seconds)

    def _drive(
        self,
        index: int,
        inbox: queue.SimpleQueue[Batch[InFlight] | None],
        loop: asyncio.AbstractEventLoop,
        ready: asyncio.Future[None],
    ) -> None:
        """The life of a slot's thread."""
        try:
            slot = self._engine.open_slot(index)
        except Exception as error:
            wrapped = error if isinstance(error, EngineError) else EngineError(f"slot {index}: {error}")
            _call(loop, _settle, ready, wrapped)
            return
        _call(loop, _settle, ready, None)
        try:
            while (batch := inbox.get()) is not None:
                run = self._run(slot, batch, index % len(self._contexts))
                _call(loop, self._finished, index, run)
        finally:
            slot.close()

    def _run(self, slot: Slot, batch: Batch[InFlight], context: int) -> Run:
        started_s, before_cpu_s, real_tokens, assembly_s = time.monotonic(), time.thread_time(), 0, 0.0
        scores: NDArray[np.float32] | None = None
        encoded: Encoded | None = None
        considered: list[Considered] | None = None
        failure: Exception | None = None
        try:
            tokens = assemble(self._served, batch)
            real_tokens = int(tokens.lengths.sum())
            assembly_s, before_cpu_s = time.monotonic() - started_s, time.thread_time()
            if batch.kind == "encoder":
                encoded = slot.encode(tokens)
            else:
                scores = slot.score(tokens)
        except Exception as error:  # whatever an engine raises fails this batch, never the thread
            failure = error
        engine_cpu_s = time.thread_time() - before_cpu_s
        if scores is not None and scores.shape != (batch.rows,):
            failure = EngineError(f"{batch.rows} rows gave scores of shape {scores.shape}")
            scores = None
        if encoded is not None:
            try:
                considered = consider(self._served, batch, encoded)
            except Exception as error:  # numbers that an engine should not have given
                failure = error
        if isinstance(failure, MemoryError):
            failure = MemoryExhausted("the worker's process has no memory left")
        return Run(
            *(batch, context, scores, considered, failure),
            *(real_tokens, assembly_s, engine_cpu_s, started_s, time.monotonic()),
        )


def _smoothed(known: float, fresh: float) -> float:
    return known + (fresh - known) * 0.2 if known else fresh


def _call(loop: asyncio.AbstractEventLoop, callback: Callable[..., object], *args: object) -> None:
    try:
        loop.call_soon_threadsafe(callback, *args)
    except RuntimeError:  # the loop was closed under us: nobody is left to tell
        _log.debug("a batch ended after the worker had stopped")


def _settle(ready: asyncio.Future[None], error: Exception | None) -> None:
    if ready.done():  # whoever waited was cancelled
        return
    if error is None:
        ready.set_result(None)
    else:
        ready.set_exception(error)
