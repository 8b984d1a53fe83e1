"""Forms batches: pure, no I/O, no clock.

Rows wait in one queue a lane and bucket, as runs (the rows of one request in that bucket), so that forming a
batch costs time by the number of requests in it, not by the number of rows. A batch is led by the oldest
request of the lane whose turn it is, then filled up with rows of like length from other requests.

An engine of static shapes runs as many rows as its shape has, wanted or not. So the shape is chosen by what
its tokens are used for, and row places that would be empty go to rows of any shorter bucket.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from xuankan.protocol.keys import LANES, Lane
from xuankan_worker.scheduling.turns import Turns

T = TypeVar("T")
Kind = Literal["encoder", "cross_encoder"]
"""What runs a batch. An encoder's row reads a request's manuscript, and comes before its other rows."""
Reason = Literal["full", "shared", "drained", "retry"]
"""Why a batch is no larger: it holds all that its bucket allows; less, so that contexts end together or no
place is empty; all that waits and fits; or what failed before and is tried again."""
_OVERHEAD_TOKENS = 400
"""What a batch costs beside its tokens, in tokens. Of a BERT-base on an H100: 16 x 128 takes 1.12 ms,
16 x 256 takes 2.04 ms."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """What a batch may be.

    Attributes:
        buckets: ascending padded lengths.
        max_rows: rows of a batch.
        max_tokens: padded tokens of a batch; a single row is always allowed.
        shapes: (bucket, rows) that batches are padded up to; empty if rows are never padded.
        max_padding: a row that fills up a batch of a longer bucket is padded by at most this share of it,
            unless its place would be empty otherwise.
        bulk_every: while both lanes wait, at least one batch in this many is led by bulk.
        patience: of bulk, with shapes: so many whole batches may overtake an oldest request whose batch would
            not be whole.
    """

    buckets: tuple[int, ...]
    max_rows: int = 16
    max_tokens: int = 8192
    shapes: tuple[tuple[int, int], ...] = ()
    max_padding: float = 0.1
    bulk_every: int = 8
    patience: int = 32

    def row_counts(self, bucket: int) -> tuple[int, ...]:
        """Rows, ascending, that a batch of this bucket may have without waste; the last is a whole one."""
        most = max(1, min(self.max_rows, self.max_tokens // bucket))
        counts = sorted({min(rows, most) for length, rows in self.shapes if length == bucket})
        return tuple(counts) or (most,)

    def padded_rows(self, bucket: int, rows: int) -> int:
        """Rows that the engine runs for a batch of `rows` rows; see `EngineInfo.padded_rows`."""
        return min((r for length, r in self.shapes if length == bucket and r >= rows), default=rows)


@dataclass(frozen=True, slots=True, eq=False)
class Slice(Generic[T]):
    """Some rows of one request: `rows`, intp [n], are positions among the request's rows."""

    request: T
    rows: NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Batch(Generic[T]):
    """Rows to run together, padded to `bucket` tokens.

    Attributes:
        bucket: tokens of each row.
        slices: the rows, in order.
        rows: how many there are.
        padded_rows: rows that the engine runs for them.
        reason: why it was not made larger.
        attempts: how often they failed to run.
        failed_in: the context in which they failed last.
        kind: what runs them.
    """

    bucket: int
    slices: tuple[Slice[T], ...]
    rows: int
    padded_rows: int
    reason: Reason = "full"
    attempts: int = 0
    failed_in: int | None = None
    kind: Kind = "cross_encoder"

    @property
    def tokens(self) -> int:
        """Tokens that the engine runs, padding included."""
        return self.padded_rows * self.bucket


class _Waiting(Generic[T]):
    """A request's place in the queues."""

    __slots__ = ("bucket_rows", "lane", "request", "sequence")

    def __init__(self, request: T, lane: Lane, sequence: int, buckets: int) -> None:
        self.request = request
        self.lane: Lane = lane
        self.sequence = sequence
        self.bucket_rows = [0] * buckets  # still waiting, by bucket; all zero once dropped


class _WaitingRows(Generic[T]):
    """Rows of one request in one bucket, longest first; `start` is the first that still waits."""

    __slots__ = ("lengths", "owner", "rows", "start")

    def __init__(self, owner: _Waiting[T], rows: NDArray[np.intp], lengths: NDArray[np.int32]) -> None:
        self.owner = owner
        self.rows = rows
        self.lengths = lengths
        self.start = 0


class Batcher(Generic[T]):
    """Queues the rows of requests and hands them out in batches, all of one kind.

    Requests are told apart by identity of the key given to `add`.
    """

    def __init__(self, limits: BatchLimits, kind: Kind = "cross_encoder") -> None:
        self._limits = limits
        self._kind: Kind = kind
        self._turns = Turns(limits.bulk_every)
        self._counts = [limits.row_counts(bucket) for bucket in limits.buckets]
        self._queues: dict[Lane, list[deque[_WaitingRows[T]]]] = {
            lane: [deque() for _ in limits.buckets] for lane in LANES
        }
        self._waiting: dict[Lane, dict[int, _Waiting[T]]] = {lane: {} for lane in LANES}  # oldest first
        self._rows: dict[Lane, int] = dict.fromkeys(LANES, 0)
        self._bucket_rows = [0] * len(limits.buckets)  # of both lanes
        self._tokens = 0
        self._sequence = 0
        self._overtaken = 0  # batches of bulk since its oldest request last led one

    def waiting_rows(self, lane: Lane) -> int:
        """Rows of a lane that no batch has taken yet."""
        return self._rows[lane]

    def add(self, request: T, lane: Lane, lengths: NDArray[np.int32]) -> None:
        """Queue a request's rows; `lengths`, int32 [N], are their tokens, none above the last bucket."""
        buckets = self._limits.buckets
        owner = _Waiting(request, lane, self._sequence, len(buckets))
        self._sequence += 1
        self._waiting[lane][id(request)] = owner
        order = (-lengths).argsort(kind="stable")
        longest_first, start = lengths.take(order), 0
        while start < len(order):
            bucket = bisect_left(buckets, int(longest_first[start]))
            shorter = buckets[bucket - 1] if bucket else 0
            end = int(np.count_nonzero(longest_first > shorter))
            self._queues[lane][bucket].append(_WaitingRows(owner, order[start:end], longest_first[start:end]))
            self._count(owner, bucket, end - start)
            start = end

    def drop(self, request: T) -> int:
        """Forget a request's rows that still wait; returns how many. Its runs leave the queues when met."""
        for waiting in self._waiting.values():
            if (owner := waiting.pop(id(request), None)) is not None:
                break
        else:
            return 0
        dropped = sum(owner.bucket_rows)
        for bucket, rows in enumerate(owner.bucket_rows):
            self._count(owner, bucket, -rows)
        return dropped

    def take(
        self, busy_tokens: Sequence[float] = (), idle: int = 1, lane: Lane | None = None
    ) -> Batch[T] | None:
        """Form the next batch.

        Args:
            busy_tokens: for each busy context, the tokens it still has to work through.
            idle: contexts that have nothing to do, the one that asks included. With none, the batch is for a
                busy context to have the next at hand: only a whole one is taken, so that rows coalesce. But
                an encoder's is taken in any case, as the other rows of its requests wait for it.
            lane: that leads, one of which rows wait; found here if not given.

        Returns:
            None if no row waits or, with no idle context, if no whole batch can be formed.
        """
        own_turn = lane is None
        if lane is None and (lane := self._turns.lane(self._rows)) is None:
            return None
        bucket, overtakes = self._lead(lane)
        room = self._room(bucket, busy_tokens, idle)
        if not room:
            return None
        if own_turn:
            self._turns.led(lane, self._rows)
        if lane == "bulk":
            self._overtaken = self._overtaken + 1 if overtakes else 0
        slices: list[Slice[T]] = []
        other: Lane = LANES[1 - LANES.index(lane)]
        # Rows of shorter buckets come only after every row of this one.
        taken, padded = 0, self._limits.buckets[bucket]
        shortest = 0 if self._limits.shapes else ceil(padded * (1 - self._limits.max_padding))
        for source in range(bucket, bisect_left(self._limits.buckets, shortest) - 1, -1):
            if self._bucket_rows[source]:
                enough = shortest if source < bucket else 0
                taken += self._fill(slices, lane, source, room - taken, enough)
                taken += self._fill(slices, other, source, room - taken, enough)
                if taken == room:
                    break
        whole, left = self._counts[bucket][-1], any(self._rows.values())
        reason = "full" if taken == whole else "shared" if taken == room and left else "drained"
        padded_rows = self._limits.padded_rows(padded, taken)
        return Batch(padded, tuple(slices), taken, padded_rows, reason, kind=self._kind)

    def _lead(self, lane: Lane) -> tuple[int, bool]:
        """The bucket of the lane's next batch, and whether it overtakes the oldest request."""
        # Its longest bucket, so that short rows end the work.
        rows = next(iter(self._waiting[lane].values())).bucket_rows
        oldest = next(bucket for bucket in range(len(rows) - 1, -1, -1) if rows[bucket])
        if lane == "interactive" or not self._limits.shapes or self._overtaken >= self._limits.patience:
            return oldest, False
        if self._bucket_rows[oldest] >= self._counts[oldest][-1]:
            return oldest, False
        whole = self._oldest_whole(lane)
        return (oldest, False) if whole is None else (whole, True)

    def _oldest_whole(self, lane: Lane) -> int | None:
        """Of the buckets that can fill a whole batch, the one whose first request is the oldest."""
        found: tuple[int, int] | None = None
        for bucket, rows in enumerate(self._bucket_rows):
            if rows >= self._counts[bucket][-1] and (run := self._head(lane, bucket)) is not None:
                found = min(found or (run.owner.sequence, bucket), (run.owner.sequence, bucket))
        return None if found is None else found[1]

    def _head(self, lane: Lane, bucket: int) -> _WaitingRows[T] | None:
        queue = self._queues[lane][bucket]
        while queue and not queue[0].owner.bucket_rows[bucket]:
            queue.popleft()  # of a dropped request
        return queue[0] if queue else None

    def _room(self, bucket: int, busy_tokens: Sequence[float], idle: int) -> int:
        """Rows for this batch: as many as are allowed, but no more than let all contexts finish together.

        While much waits that is the limit. At the end of the work it is an even split, so that no context
        idles while another works through a last full batch. 0 if the batch is not worth taking ahead.
        """
        counts, padded = self._counts[bucket], self._limits.buckets[bucket]
        waits_for_whole = not idle and self._kind == "cross_encoder"
        whole, own = counts[-1], self._bucket_rows[bucket]
        share = 0.0
        near_end = 4 if self._limits.shapes else 1
        if near_end * whole * padded * (idle + len(busy_tokens)) > self._tokens:
            share = _level(self._tokens, busy_tokens, idle) / padded - 1e-9
        if not self._limits.shapes:
            if waits_for_whole:
                return whole if own >= whole else 0
            return max(1, min(whole, ceil(share))) if share else whole
        if share > 0:
            # In so many equal batches; what a shape holds too little for is left to the others.
            counts = counts[: bisect_left(counts, 0.85 * share / ceil(share / whole)) + 1]
        if waits_for_whole:
            fill = own if own >= whole else sum(self._bucket_rows[: bucket + 1])
            return max((rows for rows in counts if whole <= 2 * rows and rows <= fill), default=0)
        if len(counts) == 1 or own >= counts[-1]:
            return counts[-1]
        return max(counts, key=lambda rows: (self._use(bucket, rows), rows))

    def _use(self, bucket: int, rows: int) -> float:
        """How much of a batch's work is of use: the tokens of its rows in their own buckets, by its cost."""
        useful, room = 0, rows
        for source in range(bucket, -1, -1):
            taken = min(room, self._bucket_rows[source])
            useful += taken * self._limits.buckets[source]
            room -= taken
            if not room:
                break
        return useful / (rows * self._limits.buckets[bucket] + _OVERHEAD_TOKENS)

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
                del self._waiting[lane][id(run.owner.request)]
        return taken

    def _count(self, owner: _Waiting[T], bucket: int, rows: int) -> None:
        owner.bucket_rows[bucket] += rows
        self._bucket_rows[bucket] += rows
        self._rows[owner.lane] += rows
        self._tokens += rows * self._limits.buckets[bucket]


def _level(tokens: float, busy_tokens: Sequence[float], idle: int) -> float:
    """What the least busy context has to take if `tokens` are spread so that all contexts end together."""
    remaining = [0.0] * idle + sorted(busy_tokens)
    level = 0.0
    for contexts, done in enumerate(remaining, start=1):
        if contexts > 1 and done >= level:
            break
        tokens += done
        level = tokens / contexts
    return level - remaining[0]
