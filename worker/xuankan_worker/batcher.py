"""Forms batches: pure, no I/O, no clock.

Rows wait in one queue a lane and bucket, as runs (the rows of one request in that bucket), so that forming a
batch costs time by the number of requests in it, not by the number of rows. A batch is led by the oldest
request of the lane whose turn it is, then filled up with rows of like length from other requests.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from xuankan.protocol.keys import LANES, Lane

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """What a batch may be.

    Attributes:
        buckets: ascending padded lengths.
        max_rows: rows of a batch.
        max_tokens: padded tokens of a batch; a single row is always allowed.
        max_padding: a row that fills up a batch of a longer bucket is padded by at most this share of it.
        bulk_every: while both lanes wait, at least one batch in this many is led by bulk.
    """

    buckets: tuple[int, ...]
    max_rows: int = 16
    max_tokens: int = 8192
    max_padding: float = 0.1
    bulk_every: int = 8


@dataclass(frozen=True, slots=True, eq=False)
class Slice(Generic[T]):
    """Some rows of one request: `rows`, intp [n], are positions among the request's rows."""

    request: T
    rows: NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Batch(Generic[T]):
    """Rows to run together, padded to `bucket` tokens; `attempts` is how often they failed to run."""

    bucket: int
    slices: tuple[Slice[T], ...]
    attempts: int = 0

    @property
    def rows(self) -> int:
        """Rows in the batch."""
        return sum(len(part.rows) for part in self.slices)

    @property
    def tokens(self) -> int:
        """Tokens in the batch, padding included."""
        return self.rows * self.bucket


class _Waiting(Generic[T]):
    """A request's place in the queues."""

    __slots__ = ("bucket_rows", "lane", "request", "sequence")

    def __init__(self, request: T, lane: Lane, sequence: int, buckets: int) -> None:
        self.request = request
        self.lane: Lane = lane
        self.sequence = sequence
        self.bucket_rows = [0] * buckets  # still waiting, by bucket; all zero once dropped


class _Run(Generic[T]):
    """Rows of one request in one bucket, longest first; `start` is the first that still waits."""

    __slots__ = ("lengths", "owner", "rows", "start")

    def __init__(self, owner: _Waiting[T], rows: NDArray[np.intp], lengths: NDArray[np.int32]) -> None:
        self.owner = owner
        self.rows = rows
        self.lengths = lengths
        self.start = 0


class Batcher(Generic[T]):
    """Queues the rows of requests and hands them out in batches.

    Requests are told apart by identity of the key given to `add`.
    """

    def __init__(self, limits: BatchLimits) -> None:
        self._limits = limits
        self._queues: dict[Lane, list[deque[_Run[T]]]] = {
            lane: [deque() for _ in limits.buckets] for lane in LANES
        }
        self._waiting: dict[int, _Waiting[T]] = {}
        self._rows: dict[Lane, int] = dict.fromkeys(LANES, 0)
        self._tokens = 0
        self._sequence = 0
        self._passed_over = 0  # batches led by interactive since bulk last led one, while bulk waited

    def waiting_rows(self, lane: Lane) -> int:
        """Rows of a lane that no batch has taken yet."""
        return self._rows[lane]

    def add(self, request: T, lane: Lane, lengths: NDArray[np.int32]) -> None:
        """Queue a request's rows; `lengths`, int32 [N], are their tokens, none above the last bucket."""
        buckets = np.searchsorted(self._limits.buckets, lengths)
        owner = _Waiting(request, lane, self._sequence, len(self._limits.buckets))
        self._sequence += 1
        self._waiting[id(request)] = owner
        longest_first = np.argsort(-lengths, kind="stable")
        ordered = buckets[longest_first]
        edges = np.flatnonzero(np.diff(ordered)) + 1
        for rows in np.split(longest_first, edges):
            bucket = int(buckets[rows[0]])
            self._queues[lane][bucket].append(_Run(owner, rows, lengths[rows]))
            self._count(owner, bucket, len(rows))

    def drop(self, request: T) -> int:
        """Forget a request's rows that still wait; returns how many. Its runs leave the queues when met."""
        owner = self._waiting.pop(id(request), None)
        if owner is None:
            return 0
        dropped = sum(owner.bucket_rows)
        for bucket, rows in enumerate(owner.bucket_rows):
            self._count(owner, bucket, -rows)
        return dropped

    def take(self, busy_tokens: Sequence[float] = (), idle: int = 1) -> Batch[T] | None:
        """Form the next batch, or None if no row waits.

        Args:
            busy_tokens: for each busy context, the tokens it still has to work through.
            idle: contexts that have nothing to do, the one that asks included.
        """
        lane = self._next_lane()
        if lane is None:
            return None
        bucket = self._oldest(lane)
        padded = self._limits.buckets[bucket]
        room = self._room(padded, busy_tokens, idle)
        shortest = ceil(padded * (1 - self._limits.max_padding))
        slices: list[Slice[T]] = []
        other: tuple[Lane, ...] = tuple(name for name in LANES if name != lane)
        for source in (lane, *other):
            room -= self._fill(slices, source, bucket, room, 0)
        # Rows of shorter buckets come only after every row of this one, and only where little is wasted.
        for shorter in range(bucket - 1, bisect_left(self._limits.buckets, shortest) - 1, -1):
            for source in (lane, *other):
                room -= self._fill(slices, source, shorter, room, shortest)
        return Batch(padded, tuple(slices))

    def _next_lane(self) -> Lane | None:
        interactive, bulk = self._rows["interactive"], self._rows["bulk"]
        if interactive and (not bulk or self._passed_over < self._limits.bulk_every - 1):
            self._passed_over = self._passed_over + 1 if bulk else 0
            return "interactive"
        self._passed_over = 0
        return "bulk" if bulk else None

    def _oldest(self, lane: Lane) -> int:
        """The bucket to run for the lane's oldest request: its longest, so that short rows end the work."""
        oldest, found = -1, -1
        for bucket in range(len(self._limits.buckets) - 1, -1, -1):
            run = self._head(lane, bucket)
            if run is not None and (found < 0 or run.owner.sequence < oldest):
                oldest, found = run.owner.sequence, bucket
        return found

    def _head(self, lane: Lane, bucket: int) -> _Run[T] | None:
        queue = self._queues[lane][bucket]
        while queue and not queue[0].owner.bucket_rows[bucket]:
            queue.popleft()  # of a dropped request
        return queue[0] if queue else None

    def _room(self, padded: int, busy_tokens: Sequence[float], idle: int) -> int:
        """Rows for this batch: as many as are allowed, but no more than let all contexts finish together.

        While much waits that is the limit. At the end of the work it is an even split, so that no context
        idles while another works through a last full batch.
        """
        limits = self._limits
        room = max(1, min(limits.max_rows, limits.max_tokens // padded))
        if room * padded * (idle + len(busy_tokens)) > self._tokens:
            room = max(1, min(room, ceil(_level(self._tokens, busy_tokens, idle) / padded - 1e-9)))
        return room

    def _fill(self, slices: list[Slice[T]], lane: Lane, bucket: int, room: int, shortest: int) -> int:
        """Take up to `room` rows of at least `shortest` tokens from a queue's front; returns how many."""
        taken = 0
        while taken < room and (run := self._head(lane, bucket)) is not None:
            end = min(run.start + room - taken, len(run.rows))
            if shortest:
                # Longest first: the rows that are long enough are the front of the run.
                enough = int(np.count_nonzero(run.lengths[run.start : end] >= shortest))
                end = run.start + enough
                if not enough:
                    break
            rows = run.rows[run.start : end]
            slices.append(Slice(run.owner.request, rows))
            self._count(run.owner, bucket, -len(rows))
            run.start = end
            taken += len(rows)
            if end < len(run.rows):
                break
            if not any(run.owner.bucket_rows):
                del self._waiting[id(run.owner.request)]
        return taken

    def _count(self, owner: _Waiting[T], bucket: int, rows: int) -> None:
        owner.bucket_rows[bucket] += rows
        self._rows[owner.lane] += rows
        self._tokens += rows * self._limits.buckets[bucket]


def _level(tokens: float, busy_tokens: Sequence[float], idle: int) -> float:
    """Where the work of all contexts ends together, in tokens from now, if `tokens` are spread over them."""
    level = tokens / idle
    for contexts, remaining in enumerate(sorted(busy_tokens), start=idle):
        if remaining >= level:
            break
        tokens += remaining
        level = tokens / (contexts + 1)
    return level
