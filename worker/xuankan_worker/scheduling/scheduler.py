"""What to run next, and what a finished batch means for its requests. Pure: times come in as arguments."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xuankan.protocol.keys import LANES, Lane
from xuankan_worker.in_flight import Considered, InFlight
from xuankan_worker.scheduling.batcher import Batch, Batcher, BatchLimits, Kind, Slice
from xuankan_worker.scheduling.turns import Turns


class LaneLoad(NamedTuple):
    """What a context has to do.

    Attributes:
        batches: that it runs or has at hand.
        tokens: that it still has to work through, about.
        free: batches that it can take.
    """

    batches: int
    tokens: float
    free: int


class _Queues:
    """What waits of the requests that may run together: encoder rows, and rows of the cross-encoder.

    The lane whose turn it is leads with encoder rows as long as it has some: each costs one row, and lets all
    the rows of its request go on.
    """

    def __init__(self, limits: Mapping[Kind, BatchLimits]) -> None:
        self._by_kind = {kind: Batcher[InFlight](each, kind) for kind, each in limits.items()}
        self._turns = Turns(min(each.bulk_every for each in limits.values()))

    def waiting_rows(self, lane: Lane) -> int:
        return sum(batcher.waiting_rows(lane) for batcher in self._by_kind.values())

    def add(self, job: InFlight, kind: Kind) -> None:
        self._by_kind[kind].add(job, job.entry.key.lane, job.lengths)

    def drop(self, job: InFlight) -> None:
        for batcher in self._by_kind.values():
            batcher.drop(job)

    def take(self, busy_tokens: Sequence[float], idle: int) -> Batch[InFlight] | None:
        waiting: dict[Lane, int] = {lane: self.waiting_rows(lane) for lane in LANES}
        if (lane := self._turns.lane(waiting)) is None:
            return None
        batcher = next(batcher for batcher in self._by_kind.values() if batcher.waiting_rows(lane))
        if (batch := batcher.take(busy_tokens, idle, lane)) is not None:
            self._turns.led(lane, waiting)
        return batch


class Scheduler:
    """Owns the jobs from admission until their last row is run or they are given up.

    Args:
        limits: of the cross-encoder's batches; None if the release has none. Then no job has rows of it.
        encoder: of the encoder's; None if the release has none. Then no job begins with an encoder row.

    Attributes:
        quarantine: while set, only rows of suspects run (see `Entry.suspect`); while not, only other rows.
    """

    def __init__(self, limits: BatchLimits | None, encoder: BatchLimits | None = None) -> None:
        self.quarantine = False
        self._limits: dict[Kind, BatchLimits] = {}
        if encoder is not None:
            self._limits["encoder"] = encoder
        if limits is not None:
            self._limits["cross_encoder"] = limits
        self._first: Kind = "cross_encoder" if encoder is None else "encoder"
        self._queues = _Queues(self._limits)
        self._suspects = _Queues(self._limits)
        self._again: deque[Batch[InFlight]] = deque()  # what failed and is tried again
        self._deadlines: list[tuple[float, int, InFlight]] = []
        self._jobs: set[InFlight] = set()
        self._expected: dict[Lane, int] = dict.fromkeys(LANES, 0)
        self._sequence = 0

    @property
    def jobs(self) -> frozenset[InFlight]:
        """Jobs that are neither scored nor given up."""
        return frozenset(self._jobs)

    def waiting_rows(self, lane: Lane) -> int:
        """Rows of a lane that wait to be run, those that failed and are tried again included."""
        rows = self._queues.waiting_rows(lane) + self._suspects.waiting_rows(lane)
        for batch in self._again:
            rows += sum(len(part.rows) for part in batch.slices if part.request.entry.key.lane == lane)
        return rows

    def expected_rows(self, lane: Lane) -> int:
        """Rows of a lane that jobs will have at most once their encoder row is run."""
        return self._expected[lane]

    def add(self, job: InFlight) -> None:
        """Queue the rows of a job's first step."""
        self._jobs.add(job)
        self._queues_of(job).add(job, self._first)
        self._expected[job.entry.key.lane] += job.expected_rows
        if job.deadline_s is not None:
            self._sequence += 1
            heapq.heappush(self._deadlines, (job.deadline_s, self._sequence, job))

    def next(self, loads: Sequence[LaneLoad]) -> tuple[int, Batch[InFlight]] | None:
        """What to run next, and in which context: one with nothing to do before one that can take more.

        Args:
            loads: of every context, by its number.
        """
        ready = sorted(
            (load.batches, load.tokens, context) for context, load in enumerate(loads) if load.free
        )
        if not ready:
            return None
        if self._again and (found := self._retry([context for *_, context in ready])) is not None:
            return found
        busy_tokens = [load.tokens for load in loads if load.batches]
        queues = self._suspects if self.quarantine else self._queues
        batch = queues.take(busy_tokens, len(loads) - len(busy_tokens))
        return None if batch is None else (ready[0][2], batch)

    def _retry(self, ready: Sequence[int]) -> tuple[int, Batch[InFlight]] | None:
        """The first batch to try again for which one of the `ready` contexts is right."""
        for place, batch in enumerate(self._again):
            if batch.slices[0].request.entry.suspect != self.quarantine:
                continue  # the rows of a batch are all of suspects, or none is
            context = next((context for context in ready if context != batch.failed_in), None)
            if context is None:
                continue
            del self._again[place]
            if slices := tuple(part for part in batch.slices if not part.request.over):
                return context, self._batch(batch, slices)
            return self._retry(ready)
        return None

    def scored(
        self, batch: Batch[InFlight], scores: NDArray[np.float32], started_s: float, ended_s: float
    ) -> tuple[list[InFlight], list[InFlight]]:
        """Take a batch's scores.

        Returns:
            The jobs whose last row this was, and those given up because a score of theirs is not finite.
        """
        done: list[InFlight] = []
        broken: list[InFlight] = []
        start, finite = 0, bool(np.isfinite(scores).all())
        for part in batch.slices:
            job, end = part.request, start + len(part.rows)
            if not job.over:
                job.started_s = started_s if job.started_s is None else min(job.started_s, started_s)
                job.ended_s = max(job.ended_s, ended_s)
                job.scores[part.rows] = scores[start:end]
                job.remaining -= len(part.rows)
                if not finite and not np.isfinite(scores[start:end]).all():
                    self.drop(job)
                    broken.append(job)
                elif not job.remaining:
                    self._end(job)
                    done.append(job)
            start = end
        return done, broken

    def encoded(
        self, batch: Batch[InFlight], considered: Sequence[Considered], started_s: float, ended_s: float
    ) -> list[InFlight]:
        """Take what the encoder step found of a batch's requests, and queue the rows that are in play.

        Args:
            batch: of encoder rows.
            considered: of each slice.
            started_s: when it began to run, monotonic.
            ended_s: when it ended.

        Returns:
            The jobs that are done with that, as no row of theirs can change the ranking.
        """
        done: list[InFlight] = []
        for part, found in zip(batch.slices, considered, strict=True):
            job = part.request
            if job.over:
                continue
            self._expected[job.entry.key.lane] -= job.expected_rows
            job.started_s, job.ended_s = started_s, ended_s
            job.go_on(found)
            if job.remaining:
                self._queues_of(job).add(job, "cross_encoder")
            else:
                self._end(job)
                done.append(job)
        return done

    def failed(self, batch: Batch[InFlight], context: int, contexts: int) -> list[InFlight]:
        """Take note that `context`, one of `contexts`, could not run a batch.

        It is tried once more, in another context if there is one. Then its halves are tried, until the row
        that fails is alone.

        Returns:
            The jobs given up because a row of theirs fails by itself.
        """
        if not batch.attempts and (contexts > 1 or batch.rows == 1):
            self._again.append(replace(batch, attempts=1, failed_in=context if contexts > 1 else None))
            return []
        if batch.rows > 1:
            attempts = batch.attempts + 1
            self._again.extend(replace(self._batch(batch, h), attempts=attempts) for h in _halves(batch))
            return []
        job = batch.slices[0].request
        if job.over:
            return []
        self.drop(job)
        return [job]

    def drop(self, job: InFlight) -> None:
        """Give a job up: rows that wait are forgotten, scores of rows that run are ignored."""
        self._queues_of(job).drop(job)
        self._end(job)

    def expired(self, now_s: float) -> list[InFlight]:
        """Give up the jobs whose deadline has passed (monotonic time), and return them."""
        late: list[InFlight] = []
        while self._deadlines and (self._deadlines[0][0] <= now_s or self._deadlines[0][2].over):
            job = heapq.heappop(self._deadlines)[2]
            if not job.over:
                self.drop(job)
                late.append(job)
        return late

    def _end(self, job: InFlight) -> None:
        self._expected[job.entry.key.lane] -= job.expected_rows
        job.expected_rows, job.over = 0, True
        self._jobs.discard(job)

    def _queues_of(self, job: InFlight) -> _Queues:
        return self._suspects if job.entry.suspect else self._queues

    def _batch(self, batch: Batch[InFlight], slices: tuple[Slice[InFlight], ...]) -> Batch[InFlight]:
        """A part of a batch."""
        rows = sum(len(part.rows) for part in slices)
        padded = self._limits[batch.kind].padded_rows(batch.bucket, rows)
        return Batch(batch.bucket, slices, rows, padded, "retry", batch.attempts, kind=batch.kind)


def _halves(batch: Batch[InFlight]) -> Iterable[tuple[Slice[InFlight], ...]]:
    middle, start = batch.rows // 2, 0
    halves: tuple[list[Slice[InFlight]], list[Slice[InFlight]]] = ([], [])
    for part in batch.slices:
        cut = min(max(middle - start, 0), len(part.rows))
        for half, rows in zip(halves, (part.rows[:cut], part.rows[cut:]), strict=True):
            if len(rows):
                half.append(Slice(part.request, rows))
        start += len(part.rows)
    return tuple(halves[0]), tuple(halves[1])
