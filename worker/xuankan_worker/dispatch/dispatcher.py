"""The dispatcher has custody of what a worker holds, from the stream entry to the committed outcome."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable

from xuankan.errors import DeviceLost, EngineError, MemoryExhausted
from xuankan.logs import fields
from xuankan.protocol.keys import LANES, Lane
from xuankan.protocol.wire import Failure, Status
from xuankan_worker.config import WorkerConfig
from xuankan_worker.dispatch.admission import Admission, too_late
from xuankan_worker.dispatch.outcomes import Outcomes
from xuankan_worker.engines import EncoderInfo, EngineInfo
from xuankan_worker.execution.pool import ContextPool, Run
from xuankan_worker.execution.ranking import rank
from xuankan_worker.execution.served_model import ServedModel
from xuankan_worker.in_flight import Entry, EntryKey, EntryOutcome, InFlight
from xuankan_worker.queue.commit import Committer
from xuankan_worker.queue.connection import QueueConnection
from xuankan_worker.scheduling.batcher import BatchLimits
from xuankan_worker.scheduling.scheduler import Scheduler
from xuankan_worker.telemetry import tracing
from xuankan_worker.telemetry.metrics import WorkerMetrics

_log = logging.getLogger(__name__)

MAX_BACKLOG = 1024
"""Outcomes that may wait for their commit before no more requests are read."""
PREFETCH_BATCHES = 8
"""Whole batches for each slot that wait here unless told otherwise: with more, padding gains nothing
(tests/benchmarks/padding.py), and of 16 rows at 20,000 pairs a second they last 25 ms, ten reads."""
_READ_ROUND_TRIPS = 3
"""Two, and one to spare."""
MAX_FAILED_IN_A_ROW = 5
"""Requests that an engine may fail with no batch succeeding between them; then it is the engine."""


class Dispatcher:
    """Ties scheduler, contexts and committer together. All of it runs in the event loop's thread.

    Attributes:
        held: the entries that this worker must finish, whose leases it renews.
        empty: set while nothing is held.
        has_room: by lane, set while more may be read.
        broken: gets an EngineError if the engine fails everything, a DeviceLost if its device is gone, a
            MemoryExhausted if no memory is left.
        requests_done, rows_done: counted since the start.
    """

    def __init__(
        self, config: WorkerConfig, served: ServedModel, server: QueueConnection, metrics: WorkerMetrics
    ) -> None:
        info = served.engine.info
        self._config = config
        self._served = served
        self._server = server
        self._metrics = metrics
        self._outcomes = Outcomes(config.name, served.release, served.catalogue.version)
        self._admission = Admission(config, served, self._outcomes)
        limits = _limits(info, config) if info.buckets else None
        encoder = None if info.encoder is None else _limits(info.encoder, config)
        self._scheduler = Scheduler(limits, encoder)
        rows = max(each.max_rows for each in (limits, encoder) if each is not None)
        self._prefetch_rows = config.prefetch_rows or PREFETCH_BATCHES * info.slots * rows
        self.pool = ContextPool(served, self._on_run)
        self.committer = Committer(server, config, self._on_committed)
        self.held: dict[EntryKey, InFlight | None] = {}
        self.empty = asyncio.Event()
        self.empty.set()
        self.has_room: dict[Lane, asyncio.Event] = {lane: asyncio.Event() for lane in LANES}
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.requests_done = 0
        self.rows_done = 0
        self._failed_in_a_row = 0
        self._one_suspect = asyncio.Lock()
        self._suspect: EntryKey | None = None
        self._calm = asyncio.Event()
        self._suspect_ended = asyncio.Event()
        self._look()
        self._show()

    @property
    def waiting_rows(self) -> int:
        """Rows that have been read and wait to run."""
        return sum(self._scheduler.waiting_rows(lane) for lane in LANES)

    def room(self, lane: Lane) -> int:
        """Rows of a lane that may still be read; 0 until it is worth a read."""
        if self.committer.backlog >= MAX_BACKLOG:
            return 0
        most = self._prefetch_rows + self.rows_on_their_way
        room = most - self._scheduler.waiting_rows(lane) - self._scheduler.expected_rows(lane)
        return room if 4 * room >= most else 0

    @property
    def rows_on_their_way(self) -> int:
        """Rows that are run while a read brings more, and so wait here besides: few unless the server is far.

        By Little's law: delay times rate. A read takes two round trips, as it is looked for results.
        """
        if self._config.prefetch_rows is not None:
            return 0
        return int(_READ_ROUND_TRIPS * self._server.clock.round_trip_s * self.pool.rows_per_s)

    def accept(self, entries: Iterable[Entry], settled: set[EntryKey]) -> None:
        """Take entries in; the requests of those in `settled` have a result already."""
        now_s, now_ms = time.monotonic(), self._server.clock.now_ms()
        for entry in entries:
            if entry.key in self.held:
                continue  # reached us twice, by reading and by claiming
            self.held[entry.key] = None
            if entry.key in settled:
                self.committer.put(self._outcomes.settled(entry, now_ms))
                continue
            found = self._admission.admit(entry, now_ms, now_s)
            if isinstance(found, EntryOutcome):
                self._end(found)
                continue
            self.held[entry.key] = found
            self._metrics.queue_seconds[entry.key.lane].observe(found.queue_ms / 1000)
            self._scheduler.add(found)
        self.pump()

    @contextlib.asynccontextmanager
    async def quarantine(self) -> AsyncGenerator[Callable[[EntryKey], Awaitable[None]]]:
        """Run nothing but one suspect while the block lasts, which begins when no batch runs any more.

        The block gets a function that waits until an entry has left the dispatcher.
        """
        async with self._one_suspect:
            self._scheduler.quarantine = True
            try:
                await self._calm.wait()
                yield self._ended
            finally:
                self._scheduler.quarantine = False
                self.pump()

    async def _ended(self, key: EntryKey) -> None:
        self._suspect = key
        self._look()
        await self._suspect_ended.wait()
        self._suspect = None

    def cancel(self, request_id: str) -> None:
        """Drop what waits of a request that got its result from elsewhere."""
        for job in [job for job in self._scheduler.jobs if job.request.id == request_id]:
            self._scheduler.drop(job)
            self.committer.put(self._outcomes.settled(job.entry, self._server.clock.now_ms()))
        self.pump()

    def lose(self, keys: Iterable[EntryKey]) -> None:
        """Forget entries that another worker has taken over."""
        for key in keys:
            job = self.held.pop(key, None)
            if job is not None and not job.over:
                self._scheduler.drop(job)
            _log.warning("lease lost", extra=fields(entry=key.entry, lane=key.lane))
        self.pump()

    def pump(self) -> None:
        """Give the contexts their next batches."""
        now_s = time.monotonic()
        for job in self._scheduler.expired(now_s):
            self._give_up(job, "expired", too_late(now_s - (job.deadline_s or now_s)))
        while self.pool.free and (taken := self._scheduler.next(self.pool.loads(now_s))) is not None:
            self._metrics.batches.dispatched(taken[1].reason)
            self.pool.submit(*taken)
        self._look()

    def _on_run(self, run: Run, seconds: float) -> None:
        try:
            self._take_run(run, seconds)
        except Exception as error:  # else the event loop would log it, and the batch's requests never end
            if not self.broken.done():
                self.broken.set_exception(error)

    def _take_run(self, run: Run, seconds: float) -> None:
        if self.broken.done():
            return
        metrics = self._metrics
        done: list[InFlight] = []
        broken: list[tuple[InFlight, str]] = []
        metrics.batches.spent(run.engine_cpu_s)
        metrics.batches.assembled(run.assembly_s)
        if run.error is None:
            done, broken = self._advance(run)
            self._failed_in_a_row = 0
            self.rows_done += run.batch.rows
            metrics.batches.ran(run.batch, run.real_tokens, seconds)
        else:
            metrics.batch_failures.inc()
            facts = fields(rows=run.batch.rows, bucket=run.batch.bucket, reason=str(run.error))
            _log.warning("a batch failed", extra=facts)
            if isinstance(run.error, DeviceLost):
                _log.error("the device is lost; other workers will take over its requests", extra=facts)
                self.broken.set_exception(run.error)
                return
            if isinstance(run.error, MemoryExhausted):
                _log.error("no memory is left; this worker ends and hands back its requests", extra=facts)
                self.broken.set_exception(run.error)
                return
            given_up = self._scheduler.failed(run.batch, run.context, self._served.engine.info.contexts)
            broken = [(job, str(run.error)) for job in given_up]
            self._failed_in_a_row += len(broken)
            if self._failed_in_a_row >= MAX_FAILED_IN_A_ROW:
                # Stopping leaves the requests to other workers; going on would fail them all.
                message = f"{self._failed_in_a_row} requests in a row failed, the last with: {run.error}"
                self.broken.set_exception(EngineError(message))
                return
        self.pump()  # first of all, so that the context works while rankings are made
        for job in done:
            self._finish(job)
        for job, reason in broken:
            self._give_up(job, "failed", Failure("engine_error", reason[:500]))

    def _advance(self, run: Run) -> tuple[list[InFlight], list[tuple[InFlight, str]]]:
        """Take what a batch found: the jobs that are done, and those whose scores are of no use."""
        if run.considered is not None:
            return self._scheduler.encoded(run.batch, run.considered, run.started_s, run.ended_s), []
        assert run.scores is not None
        done, unscored = self._scheduler.scored(run.batch, run.scores, run.started_s, run.ended_s)
        return done, [(job, "the model gave a score that is not a finite number") for job in unscored]

    def _finish(self, job: InFlight) -> None:
        ranking = rank(job.request, job.scores, self._served, job.considered)
        rank_ms = (time.monotonic() - job.ended_s) * 1000
        outcome = self._outcomes.ranked(job, ranking, self._server.clock.now_ms(), rank_ms)
        assert outcome.result is not None
        self._metrics.ranked(job.entry, job.request, outcome.result)
        self._end(outcome)

    def _give_up(self, job: InFlight, status: Status, failure: Failure) -> None:
        now_ms = self._server.clock.now_ms()
        self._end(self._outcomes.without_ranking(job.entry, job.request, status, failure, now_ms))

    def _end(self, outcome: EntryOutcome) -> None:
        result, burial, key = outcome.result, outcome.burial, outcome.entry.key
        if key not in self.held:
            return  # lost to another worker meanwhile
        if result is not None and result.failure is not None:
            facts = fields(request=result.id, status=result.status, code=result.failure.code, entry=key.entry)
            _log.warning("a request ended without a ranking", extra=facts)
        elif burial is not None:
            facts = fields(code=burial.code, entry=key.entry, bytes=len(outcome.entry.body))
            _log.warning("an entry names no request; moved to the dead stream", extra=facts)
        self.committer.put(outcome)

    def _on_committed(self, outcome: EntryOutcome, written: bool | None, seconds: float) -> None:
        self.held.pop(outcome.entry.key, None)
        self._metrics.committed(outcome, written, seconds)
        if written:
            self.requests_done += 1
            tracing.record(outcome, seconds)
        self._look()

    def _look(self) -> None:
        """Bring the events up to date."""
        self.empty.set() if not self.held else self.empty.clear()
        self._calm.clear() if self.pool.running else self._calm.set()
        self._suspect_ended.clear() if self._suspect in self.held else self._suspect_ended.set()
        for lane, event in self.has_room.items():
            event.set() if self.room(lane) else event.clear()

    def _show(self) -> None:
        """Let the gauges look at what they show."""
        metrics = self._metrics
        metrics.in_flight.set_function(lambda: len(self.held))
        metrics.busy_contexts.set_function(lambda: self.pool.busy)
        metrics.batches_in_flight.set_function(lambda: self.pool.running)
        for lane in LANES:
            metrics.waiting_rows[lane].set_function(lambda lane=lane: self._scheduler.waiting_rows(lane))


def _limits(info: EngineInfo | EncoderInfo, config: WorkerConfig) -> BatchLimits:
    max_tokens = max((bucket * rows for bucket, rows in info.shapes), default=config.max_batch_tokens)
    return BatchLimits(info.buckets, min(config.max_batch, info.max_batch), max_tokens, info.shapes)
