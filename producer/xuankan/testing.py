"""Producers for a portal's own tests: no server, no worker, answers out of a table (docs/testing.md)."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Unpack, cast

from xuankan.catalogue import Catalogue
from xuankan.client.limits import Pressure
from xuankan.client.options import RankingKeywords, RankingOptions, combined
from xuankan.client.producer import Producer
from xuankan.client.rankings import Ranking, RankingTimings
from xuankan.client.requests import RequestStatus, Ticket
from xuankan.client.sync import SyncProducer
from xuankan.errors import RequestCancelled, RequestError, ResultUnknown, WaitTimeout, XuankanError
from xuankan.manuscript import Manuscript, readability
from xuankan.protocol.keys import Lane
from xuankan.protocol.wire import RankedJournal

Answer = Mapping[str, float] | XuankanError
"""Journal ids with their scores, in any order; or what is raised."""
Answers = Mapping[str, Answer] | Callable[[Manuscript], Answer]
"""Titles with their answers, or a function that answers."""


class FakeProducer(Producer):
    """A `Producer` that answers by itself, at once.

    Errors are raised where the real one raises them: a RequestError or WaitTimeout by the wait for the
    ranking, everything else by the submission. Options and manuscripts are checked as the real one does.

    Args:
        answers: what to answer to a manuscript. One that is not among the titles raises LookupError.
        catalogue: knows the journals' metadata; the package's own if not given.

    Attributes:
        asked: the manuscripts that were submitted, with the options of each.
    """

    def __init__(self, answers: Answers, *, catalogue: Catalogue | None = None) -> None:
        # No connection is made: nothing of the real producer that needs one is left.
        self.asked: list[tuple[Manuscript, RankingOptions]] = []
        self._answers = answers
        self._catalogue = catalogue or Catalogue.default()
        self._results: dict[str, Ranking | XuankanError] = {}

    async def open(self) -> None:
        """Nothing is to be opened."""

    async def close(self) -> None:
        """Nothing is to be closed."""

    @property
    def catalogue(self) -> Catalogue:
        """See `Producer.catalogue`."""
        return self._catalogue

    async def rank(
        self,
        manuscript: Manuscript,
        options: RankingOptions | None = None,
        *,
        request_id: str | None = None,
        **keywords: Unpack[RankingKeywords],
    ) -> Ranking:
        """See `Producer.rank`."""
        asked = combined(options, keywords, "interactive")
        return await self.result(await self.submit(manuscript, asked, request_id=request_id))

    async def rank_paced(
        self,
        manuscript: Manuscript,
        options: RankingOptions | None = None,
        *,
        request_id: str | None = None,
        **keywords: Unpack[RankingKeywords],
    ) -> Ranking:
        """See `Producer.rank_paced`."""
        return await self.rank(manuscript, combined(options, keywords, "bulk"), request_id=request_id)

    async def submit(
        self,
        manuscript: Manuscript,
        options: RankingOptions | None = None,
        *,
        request_id: str | None = None,
        **keywords: Unpack[RankingKeywords],
    ) -> Ticket:
        """See `Producer.submit`."""
        asked, request_id = combined(options, keywords, "bulk"), request_id or uuid.uuid4().hex
        warnings = readability(manuscript)
        if request_id in self._results:
            return Ticket(request_id, False, warnings)
        answer = self._answer(manuscript)
        if isinstance(answer, XuankanError) and not isinstance(answer, RequestError | WaitTimeout):
            raise answer
        self.asked.append((manuscript, asked))
        self._results[request_id] = (
            answer
            if isinstance(answer, XuankanError)
            else self._ranking(request_id, answer, asked.top_k, warnings)
        )
        return Ticket(request_id, True, warnings)

    async def result(self, request: str | Ticket, timeout_s: float | None = None) -> Ranking:
        """See `Producer.result`."""
        del timeout_s
        found = self._results.get(request_id := _id_of(request))
        if found is None:
            raise ResultUnknown(f"request {request_id} is not queued, and no result of it is kept")
        if isinstance(found, XuankanError):
            raise found
        return found

    async def status(self, request: str | Ticket) -> RequestStatus:
        """See `Producer.status`: a request that ends in WaitTimeout is queued for good."""
        found = self._results.get(_id_of(request))
        if isinstance(found, WaitTimeout):
            return RequestStatus("queued", "interactive")
        return RequestStatus("unknown" if found is None else "finished")

    async def cancel(self, request: str | Ticket) -> Literal["cancelled", "finished", "unknown"]:
        """See `Producer.cancel`."""
        state = (await self.status(request)).state
        if state != "queued":
            return "unknown" if state == "unknown" else "finished"
        request_id = _id_of(request)
        self._results[request_id] = RequestCancelled(request_id, "cancelled", "it was cancelled")
        return "cancelled"

    async def release(self, requests: Sequence[str | Ticket]) -> None:
        """See `Producer.release`; here they go at once."""
        for request in requests:
            self._results.pop(_id_of(request), None)

    async def pressure(self, lane: Lane = "interactive") -> Pressure:
        """See `Producer.pressure`: there is room."""
        return Pressure(lane, None)

    def _answer(self, manuscript: Manuscript) -> Answer:
        answers = cast("Any", self._answers)  # type checkers take a mapping for something that may be called
        if not isinstance(answers, Mapping):
            return answers(manuscript)
        if manuscript.title not in answers:
            raise LookupError(f"there is no answer for the manuscript {manuscript.title!r}")
        return cast("Mapping[str, Answer]", answers)[manuscript.title]

    def _ranking(
        self, request_id: str, answer: Mapping[str, float], top_k: int, warnings: tuple[str, ...]
    ) -> Ranking:
        best = sorted(answer, key=lambda journal: -answer[journal])[:top_k]
        places = tuple(
            RankedJournal(
                *(rank, journal, answer[journal], answer[journal], answer[journal], 0.0),
                metadata=self._catalogue[self._catalogue.index(journal)].metadata(),
            )
            for rank, journal in enumerate(best, start=1)
        )
        timings = RankingTimings(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
        version = self._catalogue.version
        return Ranking(request_id, places, len(answer), "fake", version, warnings, timings, "fake", 1)


class FakeSyncProducer(SyncProducer):
    """`FakeProducer` for code without an event loop: a `SyncProducer` in every other way.

    Attributes:
        asked: as of `FakeProducer`.
    """

    def __init__(self, answers: Answers, *, catalogue: Catalogue | None = None) -> None:
        producer = FakeProducer(answers, catalogue=catalogue)
        self.asked = producer.asked
        self._run_by(lambda: producer)


def _id_of(request: str | Ticket) -> str:
    return request if isinstance(request, str) else request.request_id
