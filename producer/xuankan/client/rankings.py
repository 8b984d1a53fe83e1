"""What a producer gets: a ranking, or the error that says why there is none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from xuankan.errors import (
    ProtocolError,
    RequestCancelled,
    RequestError,
    RequestExpired,
    RequestFailed,
    RequestIncompatible,
    RequestInvalid,
    SealError,
)
from xuankan.protocol.ranked import RankedJournal
from xuankan.protocol.scripts import Kept
from xuankan.protocol.sealing import KEYS_VARIABLE, Sealer, is_sealed
from xuankan.protocol.wire import Result, Status

_INCOMPATIBLE = frozenset(
    {"tokenizer_mismatch", "catalogue_mismatch", "unsupported_version", "sealed_unreadable", "not_sealed"}
)
_FEW_FIT = 0.5
"""Releases calibrate `fit` so that it is below this where more likely than not the field is another's."""
_ERRORS: dict[Status, type[RequestError]] = {
    "invalid": RequestInvalid,
    "expired": RequestExpired,
    "cancelled": RequestCancelled,
    "failed": RequestFailed,
}


@dataclass(frozen=True, slots=True)
class RankingTimings:
    """Where the time went, in milliseconds; the parts follow each other.

    Attributes:
        prepare_ms: tokenizing and choosing candidates; None if another process submitted the request.
        queue_ms: from the server's receipt of the request to the worker's reading it.
        batch_ms: from there to the start of its first batch.
        engine_ms: from there to the end of its last batch.
        rank_ms: from there to the encoded ranking.
        commit_ms: from there to the ranking's being visible.
        total_ms: from the call to its return, so with the ways to and from the server; None as `prepare_ms`.
    """

    prepare_ms: float | None
    queue_ms: float
    batch_ms: float
    engine_ms: float
    rank_ms: float
    commit_ms: float
    total_ms: float | None


@dataclass(frozen=True, slots=True)
class Ranking:
    """The journals that fit a manuscript, best first.

    Attributes:
        request_id: names the request.
        journals: at most `top_k` of the candidates.
        scored: how many candidates were ranked.
        release: fingerprint of the model release that scored all of them.
        catalogue: version of the catalogue that the journals come from.
        warnings: what may make this ranking worse than it could be.
        timings: where the time went.
        worker: the worker's name.
        deliveries: how often the request was handed to a worker; more than 1 after a worker's death.
        rows: how many of them the cross-encoder read: the others could not come into play any more.
        fit: how probable it is that the catalogue covers the manuscript's field; None if the release has no
            opinion. See `few_fit`.
    """

    request_id: str
    journals: tuple[RankedJournal, ...]
    scored: int
    release: str
    catalogue: str
    warnings: tuple[str, ...]
    timings: RankingTimings
    worker: str
    deliveries: int
    rows: int = 0
    fit: float | None = None

    @property
    def few_fit(self) -> bool:
        """Whether few journals of the catalogue fit the manuscript, whatever their order."""
        return self.fit is not None and self.fit < _FEW_FIT

    def after(self, warnings: Iterable[str]) -> Ranking:
        """The same ranking with other warnings before its own."""
        return replace(self, warnings=(*warnings, *self.warnings))

    def __iter__(self) -> Iterator[RankedJournal]:
        return iter(self.journals)

    def __len__(self) -> int:
        return len(self.journals)

    def __getitem__(self, position: int) -> RankedJournal:
        return self.journals[position]


def open_result(
    request_id: str,
    kept: Kept,
    sealer: Sealer,
    prepare_ms: float | None = None,
    total_ms: float | None = None,
) -> Ranking:
    """Unseal and decode what the server keeps.

    Raises:
        RequestError: the request ended without a ranking; the subclass says how.
        SealError: the result is sealed with a key that is not here, or a ranking that must be sealed is not.
        ProtocolError: the result is not one that this version reads, or that of another request.
    """
    result = Result.decode(sealer.open("result", request_id, kept.body))
    if result.id != request_id:
        raise ProtocolError("id", f"request {request_id} was answered with the result of {result.id}")
    if result.status == "ok" and sealer.required and not is_sealed(kept.body):
        raise SealError(f"the ranking of {request_id} is not sealed: give the workers {KEYS_VARIABLE}")
    if result.status != "ok":
        failure = result.failure
        code = failure.code if failure else result.status
        message = failure.message if failure else "it ended without a ranking or a reason"
        kind = RequestIncompatible if code in _INCOMPATIBLE else _ERRORS[result.status]
        raise kind(result.id, code, message)
    timings = result.timings
    return Ranking(
        request_id=result.id,
        journals=result.ranking,
        scored=result.scored,
        release=result.release,
        catalogue=result.catalogue,
        warnings=result.warnings,
        timings=RankingTimings(
            prepare_ms=prepare_ms,
            queue_ms=timings.queue_ms,
            batch_ms=timings.batch_ms,
            engine_ms=timings.engine_ms,
            rank_ms=timings.rank_ms,
            commit_ms=max(0.0, kept.committed_ms - result.completed_ms),
            total_ms=total_ms,
        ),
        worker=result.worker,
        deliveries=result.deliveries,
        rows=result.rows,
        fit=result.fit,
    )
