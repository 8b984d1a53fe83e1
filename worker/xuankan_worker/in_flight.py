"""What a worker holds: stream entries, and the requests in them while they are scored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xuankan.protocol.delivery import Burial
from xuankan.protocol.keys import Lane
from xuankan.protocol.wire import Request, Result

FIRST_SUSPECT_DELIVERY = 3
"""Two workers did not see such an entry to an end: it may be what killed them."""


class EntryKey(NamedTuple):
    """Names a stream entry."""

    lane: Lane
    entry: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A stream entry as read.

    Attributes:
        key: its stream and id.
        request_id: the entry's `id` field, None if missing or unusable.
        body: the entry's `request` field, empty if missing.
        deliveries: how often it was handed to a worker, this time included.
        reply: the entry's `reply` field, None if missing or unusable. Of a request that can be read, the
            address in the request counts.
    """

    key: EntryKey
    request_id: str | None
    body: bytes
    deliveries: int
    reply: str | None = None

    @property
    def suspect(self) -> bool:
        """Whether it may be what killed its workers, and so runs alone."""
        return self.deliveries >= FIRST_SUSPECT_DELIVERY

    @property
    def received_ms(self) -> float:
        """Server time at which the entry was added: the first half of its id."""
        return float(self.key.entry.partition("-")[0])


@dataclass(frozen=True, slots=True, eq=False)
class Considered:
    """What is known of a request's N candidates once the encoder has read its manuscript.

    Attributes:
        parts: float32 [N, 5], of the fusion: first stage, encoder (NaN for journals that it was not trained
            on), mean and density of the nearest papers, and the journal's prior.
        base: float64 [N], log-probabilities of the candidates without cross-encoder rows.
        rows: intp [R], the candidates that are still in play and get a row, likeliest first.
        lengths: int32 [R], tokens of these rows.
        evidence: int32 [N, 3], papers of the corpus, nearest first; -1 where there is none.
        cosines: float32 [N, 3], theirs; NaN where there is none.
        fit: how probable it is that the catalogue covers the manuscript's field; None if the release has no
            opinion.
    """

    parts: NDArray[np.float32]
    base: NDArray[np.float64]
    rows: NDArray[np.intp]
    lengths: NDArray[np.int32]
    evidence: NDArray[np.int32]
    cosines: NDArray[np.float32]
    fit: float | None


@dataclass(slots=True, eq=False)
class InFlight:
    """A request being scored: first by the encoder, if the release has one, then by the cross-encoder.

    Attributes:
        entry: where it came from.
        request: what to score.
        lengths: int32 [R], tokens of each row of the step that it is at.
        queue_ms: from the server's receipt to `read_s`.
        read_s, started_s, ended_s: monotonic times of reading, of its first batch's start, its last's end.
        scores: float32 [R], the cross-encoder's, NaN where not scored yet.
        remaining: rows of the step not run yet.
        expected_rows: that a later step will have at most, as far as is known.
        considered: what the encoder step found; None without one, and until then.
        over: no more rows of it are to be run: it is scored, failed, expired, cancelled or lost.
    """

    entry: Entry
    request: Request
    lengths: NDArray[np.int32]
    queue_ms: float
    read_s: float
    scores: NDArray[np.float32]
    remaining: int
    expected_rows: int = 0
    considered: Considered | None = None
    started_s: float | None = None
    ended_s: float = 0.0
    over: bool = False

    def go_on(self, considered: Considered) -> None:
        """Enter the cross-encoder's step with the rows that are in play."""
        self.considered, self.lengths = considered, considered.lengths
        self.remaining, self.expected_rows = len(self.lengths), 0
        self.scores = np.full(self.remaining, np.nan, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class EntryOutcome:
    """How an entry ended, ready to commit.

    Attributes:
        entry: what to acknowledge.
        result: what to make visible; None if the entry names no request that could have a result.
        reply: the address of the producer that waits.
        burial: set if the entry goes to the dead stream.
    """

    entry: Entry
    result: Result | None
    reply: str | None = None
    burial: Burial | None = None
