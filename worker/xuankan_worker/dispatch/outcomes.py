"""How entries end: every way to a result, an acknowledgement and, for what failed, the dead stream. Pure."""

from __future__ import annotations

from xuankan.protocol.delivery import Burial
from xuankan.protocol.ranked import RankedJournal
from xuankan.protocol.wire import Failure, Request, Result, Status, Timings
from xuankan_worker.in_flight import Entry, EntryOutcome, InFlight


class Outcomes:
    """Makes the outcomes of one worker, in the name of the release and catalogue that it serves.

    Args:
        worker: its name.
        release: fingerprint of the release.
        catalogue: version of the catalogue.
    """

    def __init__(self, worker: str, release: str, catalogue: str) -> None:
        self._worker = worker
        self._release = release
        self._catalogue = catalogue

    def ranked(
        self, job: InFlight, ranking: tuple[RankedJournal, ...], ready_ms: float, rank_ms: float
    ) -> EntryOutcome:
        """The outcome of a request that was scored.

        Args:
            job: with all its scores.
            ranking: its top journals, best first.
            ready_ms: Unix time on the server's clock at which the ranking was made.
            rank_ms: what making it took since the last batch ended.
        """
        request = job.request
        assert job.started_s is not None
        result = Result(
            id=request.id,
            status="ok",
            release=self._release,
            catalogue=self._catalogue,
            worker=self._worker,
            completed_ms=ready_ms,
            ranking=ranking,
            scored=len(request.candidates),
            rows=len(job.scores),
            fit=None if job.considered is None else job.considered.fit,
            deliveries=job.entry.deliveries,
            timings=Timings(
                queue_ms=job.queue_ms,
                batch_ms=(job.started_s - job.read_s) * 1000,
                engine_ms=(job.ended_s - job.started_s) * 1000,
                rank_ms=rank_ms,
            ),
            warnings=request.warnings,
            traceparent=request.traceparent,
        )
        return EntryOutcome(job.entry, result, request.reply)

    def without_ranking(
        self, entry: Entry, request: Request, status: Status, failure: Failure, now_ms: float
    ) -> EntryOutcome:
        """The outcome of a request that ends without a ranking; failed ones also go to the dead stream."""
        result = self._failed(request.id, entry, status, failure, now_ms, request.traceparent)
        burial = self._burial(entry, failure) if status == "failed" else None
        return EntryOutcome(entry, result, request.reply, burial)

    def settled(self, entry: Entry, now_ms: float) -> EntryOutcome:
        """The outcome of an entry whose request has a result already, as a cancelled one has."""
        assert entry.request_id is not None
        failure = Failure("cancelled", "the request was cancelled")
        return EntryOutcome(entry, self._failed(entry.request_id, entry, "cancelled", failure, now_ms))

    def unreadable(self, entry: Entry, failure: Failure, now_ms: float) -> EntryOutcome:
        """The outcome of an entry that holds no request, for who waits for its id or for the dead stream."""
        if entry.request_id is None:
            return EntryOutcome(entry, None, burial=self._burial(entry, failure))
        result = self._failed(entry.request_id, entry, "invalid", failure, now_ms)
        return EntryOutcome(entry, result, entry.reply)

    def _burial(self, entry: Entry, failure: Failure) -> Burial:
        return Burial(failure.code, failure.message, self._worker, entry.key.lane, entry.deliveries)

    def _failed(
        self,
        request_id: str,
        entry: Entry,
        status: Status,
        failure: Failure,
        now_ms: float,
        traceparent: str | None = None,
    ) -> Result:
        return Result(
            id=request_id,
            status=status,
            release=self._release,
            catalogue=self._catalogue,
            worker=self._worker,
            completed_ms=now_ms,
            failure=failure,
            deliveries=entry.deliveries,
            traceparent=traceparent,
        )
