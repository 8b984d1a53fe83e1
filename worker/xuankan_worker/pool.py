"""Runs batches: one thread for each execution context, so that the event loop never waits for an engine."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xuankan.errors import EngineError
from xuankan_worker.batcher import Batch
from xuankan_worker.engines.base import Context, Engine
from xuankan_worker.jobs import Job
from xuankan_worker.rows import Profiles, Segment

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """A batch that was run.

    Attributes:
        batch: what was run.
        scores: float32 [rows], None if it failed.
        error: why it failed.
        real_tokens: tokens of the batch without padding.
        engine_cpu_s: processor time of the context's thread in the engine; threads of the engine's own, if it
            has any, are not in it.
        started_s, ended_s: monotonic times around the engine's work, assembling the batch included.
    """

    batch: Batch[Job]
    scores: NDArray[np.float32] | None
    error: Exception | None
    real_tokens: int
    engine_cpu_s: float
    started_s: float
    ended_s: float


class Pool:
    """The execution contexts of an engine. All methods belong to the event loop's thread.

    `on_run` is called in the event loop for every batch, after its context became idle again.
    """

    def __init__(self, engine: Engine, profiles: Profiles, on_run: Callable[[Run], None]) -> None:
        self._engine = engine
        self._profiles = profiles
        self._on_run = on_run
        self._idle: list[int] = []
        self._running: dict[int, tuple[Batch[Job], float]] = {}
        self._inboxes: list[queue.SimpleQueue[Batch[Job] | None]] = []
        self._threads: list[threading.Thread] = []
        self._tokens_per_s = 0.0  # of one context, smoothed; 0 until the first batch

    @property
    def idle(self) -> int:
        """Contexts with nothing to do."""
        return len(self._idle)

    @property
    def running(self) -> int:
        """Batches that are being run."""
        return len(self._running)

    def busy_tokens(self, now_s: float) -> list[float]:
        """For each busy context, an estimate of the tokens it still has to work through."""
        return [
            max(0.0, batch.tokens - (now_s - started_s) * self._tokens_per_s)
            for batch, started_s in self._running.values()
        ]

    async def start(self) -> None:
        """Open and warm every context.

        Raises:
            EngineError: a context cannot be opened.
        """
        loop = asyncio.get_running_loop()
        opened: list[asyncio.Future[None]] = []
        for index in range(self._engine.info.contexts):
            ready: asyncio.Future[None] = loop.create_future()
            inbox: queue.SimpleQueue[Batch[Job] | None] = queue.SimpleQueue()
            thread = threading.Thread(
                target=self._drive, args=(index, inbox, loop, ready), name=f"context-{index}", daemon=True
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
        self._idle = list(reversed(range(len(opened))))

    def submit(self, batch: Batch[Job]) -> None:
        """Run a batch in an idle context."""
        index = self._idle.pop()
        self._running[index] = (batch, time.monotonic())
        self._inboxes[index].put(batch)

    async def stop(self) -> None:
        """Close every context after the batch that it runs."""
        self._idle.clear()
        for inbox in self._inboxes:
            inbox.put(None)
        for thread in self._threads:
            await asyncio.to_thread(thread.join)
        self._threads.clear()
        self._inboxes.clear()

    def _finished(self, index: int, run: Run) -> None:
        del self._running[index]
        self._idle.append(index)
        if run.error is None:
            rate = run.batch.tokens / max(run.ended_s - run.started_s, 1e-6)
            self._tokens_per_s += (rate - self._tokens_per_s) * (0.2 if self._tokens_per_s else 1.0)
        self._on_run(run)

    def _drive(
        self,
        index: int,
        inbox: queue.SimpleQueue[Batch[Job] | None],
        loop: asyncio.AbstractEventLoop,
        ready: asyncio.Future[None],
    ) -> None:
        """The life of a context's thread."""
        try:
            context = self._engine.open_context(index)
        except Exception as error:
            wrapped = error if isinstance(error, EngineError) else EngineError(f"context {index}: {error}")
            _call(loop, _settle, ready, wrapped)
            return
        _call(loop, _settle, ready, None)
        try:
            while (batch := inbox.get()) is not None:
                run = self._run(context, batch)
                _call(loop, self._finished, index, run)
        finally:
            context.close()

    def _run(self, context: Context, batch: Batch[Job]) -> Run:
        started_s, before_cpu_s, real_tokens = time.monotonic(), time.thread_time(), 0
        try:
            segments = [
                Segment(part.request.request.tokens, part.request.request.candidates[part.rows])
                for part in batch.slices
            ]
            tokens = self._profiles.assemble(batch.bucket, segments)
            real_tokens = int(tokens.lengths.sum())
            before_cpu_s = time.thread_time()
            scores = context.score(tokens)
            engine_cpu_s = time.thread_time() - before_cpu_s
            if scores.shape != (batch.rows,):
                raise EngineError(f"{batch.rows} rows gave scores of shape {scores.shape}")
            return Run(batch, scores, None, real_tokens, engine_cpu_s, started_s, time.monotonic())
        except Exception as error:  # whatever an engine raises fails this batch, never the thread
            engine_cpu_s = time.thread_time() - before_cpu_s
            return Run(batch, None, error, real_tokens, engine_cpu_s, started_s, time.monotonic())


def _call(loop: asyncio.AbstractEventLoop, callback: Callable[..., object], *args: object) -> None:
    try:
        loop.call_soon_threadsafe(callback, *args)
    except RuntimeError:  # the loop was closed under us: nobody is left to tell
        _log.debug("a context finished after the worker was gone")


def _settle(ready: asyncio.Future[None], error: Exception | None) -> None:
    if ready.done():  # whoever waited was cancelled
        return
    if error is None:
        ready.set_result(None)
    else:
        ready.set_exception(error)
