"""What to run next, and what a finished batch means for its requests. Pure: times come in as arguments."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xuankan.protocol.keys import Lane
from xuankan_worker.in_flight import InFlight
from xuankan_worker.scheduling.batcher import Batch, Batcher, BatchLimits, Slice


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


class Scheduler:
    """Owns the jobs from admission until their last row is scored or they are given up.

    Attributes:
        quarantine: while set, only rows of suspects run (see `Entry.suspect`); while not, only other rows.
    """

    def __init__(self, limits: BatchLimits) -> None:
        self.quarantine = False
        self._limits = limits
        self._batcher: Batcher[InFlight] = Batcher(limits)
        self._suspects: Batcher[InFlight] = Batcher(limits)
        self._again: deque[Batch[InFlight]] = deque()  # what failed and is tried again
        self._deadlines: list[tuple[int, int, InFlight]] = []
        self._jobs: set[InFlight] = set()
        self._sequence = 0

    @property
    def jobs(self) -> frozenset[InFlight]:
        """Jobs that are neither scored nor given up."""
        return frozenset(self._jobs)

    def waiting_rows(self, lane: Lane) -> int:
        """Rows of a lane that wait to be run, those that failed and are tried again included."""
        rows = self._batcher.waiting_rows(lane) + self._suspects.waiting_rows(lane)
        for batch in self._again:
            rows += sum(len(part.rows) for part in batch.slices if part.request.entry.key.lane == lane)
        return rows

    def add(self, job: InFlight) -> None:
        """Queue a job's rows."""
        self._jobs.add(job)
        batcher = self._suspects if job.entry.suspect else self._batcher
        batcher.add(job, job.entry.key.lane, job.lengths)
        if job.request.deadline_ms is not None:
            self._sequence += 1
            heapq.heappush(self._deadlines, (job.request.deadline_ms, self._sequence, job))

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
        batcher = self._suspects if self.quarantine else self._batcher
        batch = batcher.take(busy_tokens, len(loads) - len(busy_tokens))
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
        (self._suspects if job.entry.suspect else self._batcher).drop(job)
        self._end(job)

    def expired(self, now_ms: float) -> list[InFlight]:
        """Give up the jobs whose deadline has passed, and return them."""
        late: list[InFlight] = []
        while self._deadlines and (self._deadlines[0][0] <= now_ms or self._deadlines[0][2].over):
            job = heapq.heappop(self._deadlines)[2]
            if not job.over:
                self.drop(job)
                late.append(job)
        return late

    def _end(self, job: InFlight) -> None:
        job.over = True
        self._jobs.discard(job)

    def _batch(self, batch: Batch[InFlight], slices: tuple[Slice[InFlight], ...]) -> Batch[InFlight]:
        """A part of a batch."""
        rows = sum(len(part.rows) for part in slices)
        padded = self._limits.padded_rows(batch.bucket, rows)
        return Batch(batch.bucket, slices, rows, padded, "retry", batch.attempts)


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
