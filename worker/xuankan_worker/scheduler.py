"""What to run next, and what a finished batch means for its requests. Pure: times come in as arguments."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from xuankan.protocol.keys import LANES, Lane
from xuankan_worker.batcher import Batch, Batcher, BatchLimits, Slice
from xuankan_worker.jobs import Job


class Scheduler:
    """Owns the jobs from admission until their last row is scored or they are given up."""

    def __init__(self, limits: BatchLimits) -> None:
        self._batcher: Batcher[Job] = Batcher(limits)
        self._again: deque[Batch[Job]] = deque()  # what failed and is tried again
        self._deadlines: list[tuple[int, int, Job]] = []
        self._jobs: set[Job] = set()
        self._sequence = 0

    @property
    def jobs(self) -> frozenset[Job]:
        """Jobs that are neither scored nor given up."""
        return frozenset(self._jobs)

    def waiting_rows(self, lane: Lane) -> int:
        """Rows of a lane that no batch has taken yet."""
        return self._batcher.waiting_rows(lane)

    @property
    def idle(self) -> bool:
        """Whether no batch waits to be run."""
        return not self._again and not any(self.waiting_rows(lane) for lane in LANES)

    def add(self, job: Job) -> None:
        """Queue a job's rows."""
        self._jobs.add(job)
        self._batcher.add(job, job.entry.key.lane, job.lengths)
        if job.request.deadline_ms is not None:
            self._sequence += 1
            heapq.heappush(self._deadlines, (job.request.deadline_ms, self._sequence, job))

    def next(self, busy_tokens: Sequence[float], idle: int) -> Batch[Job] | None:
        """The next batch to run, None if there is none; see `Batcher.take` for the arguments."""
        while self._again:
            batch = self._again.popleft()
            if slices := tuple(part for part in batch.slices if not part.request.over):
                return Batch(batch.bucket, slices, batch.attempts)
        return self._batcher.take(busy_tokens, idle)

    def scored(
        self, batch: Batch[Job], scores: NDArray[np.float32], started_s: float, ended_s: float
    ) -> tuple[list[Job], list[Job]]:
        """Take a batch's scores.

        Returns:
            The jobs whose last row this was, and those given up because a score of theirs is not finite.
        """
        done: list[Job] = []
        broken: list[Job] = []
        start = 0
        for part in batch.slices:
            job, end = part.request, start + len(part.rows)
            if not job.over:
                job.started_s = started_s if job.started_s is None else min(job.started_s, started_s)
                job.ended_s = max(job.ended_s, ended_s)
                job.scores[part.rows] = scores[start:end]
                job.remaining -= len(part.rows)
                if not np.isfinite(scores[start:end]).all():
                    self.drop(job)
                    broken.append(job)
                elif not job.remaining:
                    self._end(job)
                    done.append(job)
            start = end
        return done, broken

    def failed(self, batch: Batch[Job]) -> list[Job]:
        """Take note that a batch could not be run; its halves are tried next, a single row once more.

        Returns:
            The jobs given up because a row of theirs fails by itself.
        """
        if batch.rows > 1:
            self._again.extend(_halves(batch))
            return []
        job = batch.slices[0].request
        if job.over:
            return []
        if not batch.attempts:
            self._again.append(Batch(batch.bucket, batch.slices, 1))
            return []
        self.drop(job)
        return [job]

    def drop(self, job: Job) -> None:
        """Give a job up: rows that wait are forgotten, scores of rows that run are ignored."""
        self._batcher.drop(job)
        self._end(job)

    def expired(self, now_ms: float) -> list[Job]:
        """Give up the jobs whose deadline has passed, and return them."""
        late: list[Job] = []
        while self._deadlines and (self._deadlines[0][0] <= now_ms or self._deadlines[0][2].over):
            job = heapq.heappop(self._deadlines)[2]
            if not job.over:
                self.drop(job)
                late.append(job)
        return late

    def _end(self, job: Job) -> None:
        job.over = True
        self._jobs.discard(job)


def _halves(batch: Batch[Job]) -> Iterable[Batch[Job]]:
    middle, start = batch.rows // 2, 0
    halves: tuple[list[Slice[Job]], list[Slice[Job]]] = ([], [])
    for part in batch.slices:
        cut = min(max(middle - start, 0), len(part.rows))
        for half, rows in zip(halves, (part.rows[:cut], part.rows[cut:]), strict=True):
            if len(rows):
                half.append(Slice(part.request, rows))
        start += len(part.rows)
    return [Batch(batch.bucket, tuple(half), batch.attempts + 1) for half in halves]
