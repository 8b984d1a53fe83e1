"""The asynchronous producer: submits manuscripts and waits for their rankings."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, Literal, Unpack

from xuankan.candidates import FirstStage
from xuankan.catalogue import Catalogue
from xuankan.client.bulk import Outcome, rank_all, rank_paced
from xuankan.client.limits import Limits, Pressure
from xuankan.client.prepare import Options, Preparer, digest
from xuankan.client.rankings import Ranking, open_result
from xuankan.client.requests import Requests, Submission, now_ms
from xuankan.errors import InputError, RequestExpired, ResultUnknown, ServerUnavailable, WaitTimeout
from xuankan.manuscript import Manuscript
from xuankan.protocol.keys import Keys, Lane
from xuankan.protocol.scripts import Kept, Submitted
from xuankan.protocol.sealing import Sealer
from xuankan.protocol.template import Template
from xuankan.protocol.wire import Failure, Request, check_request_id
from xuankan.tracing import span, traceparent

_GOODBYE_S: Final = 1.0
"""How long ending a request that nobody waits for any more may take."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """A submitted request.

    Attributes:
        request_id: what `result` and `cancel` want; keep it to fetch the ranking from another process.
        new: whether this submission added it. False: the id was known, or a broken connection made the client
            send the request twice.
        warnings: what may make the ranking worse than it could be.
    """

    request_id: str
    new: bool
    warnings: tuple[str, ...] = ()


class Producer:
    """Ranks manuscripts through a Redis/Valkey server; use it as an asynchronous context manager.

    One producer serves any number of tasks of one event loop. Tokenizing and choosing candidates run in
    threads, so that the loop is not held up.

    While the server is away (restart, failover, cut connection) every call tries again for `server_timeout_s`
    and then raises ServerUnavailable. A request that was accepted is not lost by that: `result` can wait for
    it again.

    Args:
        url: `redis://[user:password@]host:port/db`, `rediss://...` (TLS) or `unix:///path`.
        namespace: the deployment's; as the worker's.
        catalogue, template, first_stage: as the worker's release; the package's own if not given.
        server_timeout_s: how long the server may be away before a call fails.
        sealer: encrypts what lies in the queue; if not given, as `XUANKAN_KEYS` says: not, without it.
        limits: from when on the queue counts as full; see the option `on_full`.

    Raises:
        InputError: a URL, namespace or key that cannot be one.
    """

    def __init__(
        self,
        url: str,
        *,
        namespace: str = "xuankan",
        catalogue: Catalogue | None = None,
        template: Template | None = None,
        first_stage: FirstStage | None = None,
        server_timeout_s: float = 30.0,
        sealer: Sealer | None = None,
        limits: Limits | None = None,
    ) -> None:
        if not server_timeout_s > 0:
            raise InputError("server_timeout_s", f"must be greater than 0 seconds, not {server_timeout_s}")
        self._address = uuid.uuid4().hex
        self._requests = Requests(url, Keys(namespace), self._address, server_timeout_s, sealer, limits)
        self._parts = (template, catalogue, first_stage)
        self._preparer: Preparer | None = None
        self._threads = ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="xuankan-prepare")
        self._goodbyes: set[asyncio.Task[None]] = set()
        self._closed = False

    async def __aenter__(self) -> Producer:
        """Reach the server and load the catalogue, the tokenizer and the first stage.

        Raises:
            ServerUnavailable: no server within `server_timeout_s`.
            ReleaseError, CatalogueError: a file of the package cannot be read.
        """
        loading = asyncio.get_running_loop().run_in_executor(self._threads, Preparer.load, *self._parts)
        try:
            await self._requests.open()
            self._preparer = await loading
        except BaseException:
            await asyncio.gather(loading, return_exceptions=True)
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections. What is submitted stays submitted."""
        self._closed = True
        if self._goodbyes:
            await asyncio.wait(self._goodbyes, timeout=_GOODBYE_S)
        await self._requests.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    @property
    def catalogue(self) -> Catalogue:
        """The catalogue whose journals this producer names; there once the producer is open."""
        return self._open.catalogue

    async def rank(
        self, manuscript: Manuscript, *, request_id: str | None = None, **options: Unpack[Options]
    ) -> Ranking:
        """Submit a manuscript and wait for its ranking, in the lane `interactive` if not told otherwise.

        Args:
            manuscript: what to place.
            request_id: the same id gives the same ranking again, without work, until an hour after it was
                made (a request that waits longer than 7 days is no longer known by its id). Without one the
                request is this call's own: cancelling the call cancels the request.
            options: see `Options`.

        Raises:
            InputError: something that was passed cannot be used; nothing was submitted. RequestConflict, if
                the id was used for something else.
            QueueFull: the queue is full, and was until the deadline unless `on_full` is `raise`.
            RequestError: the request ended without a ranking; the subclass says how.
            ServerUnavailable: the server was away for too long.
            WaitTimeout: the deadline passed while the server was away.
        """
        with span("xuankan.rank", "producer"):
            return await self._rank(manuscript, request_id, options)

    async def _rank(self, manuscript: Manuscript, request_id: str | None, options: Options) -> Ranking:
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        request, submission = await self._prepare(manuscript, request_id, options)
        prepare_ms = (loop.time() - started_s) * 1000
        deadline_s = options.get("deadline_s")
        try:
            with self._requests.replies.expect(request.id) as waiter:
                deadline = asyncio.timeout_at(submission.until_s)
                try:
                    async with deadline:
                        submitted = await self._requests.submit(submission)
                        kept = await self._requests.wait(request.id, waiter, submitted, submission)
                except TimeoutError:
                    if deadline_s is None or not deadline.expired():
                        raise
                    kept = await self._expire(request, deadline_s)
        except asyncio.CancelledError:
            if request_id is None and not self._closed:
                goodbye = asyncio.create_task(self._say_goodbye(request.id))
                self._goodbyes.add(goodbye)
                goodbye.add_done_callback(self._goodbyes.discard)
            raise
        total_ms = (loop.time() - started_s) * 1000
        return open_result(request.id, kept, self._requests.sealer, prepare_ms, total_ms)

    async def submit(
        self, manuscript: Manuscript, *, request_id: str | None = None, **options: Unpack[Options]
    ) -> Ticket:
        """Submit a manuscript without waiting; arguments as for `rank`, but the lane is `bulk` if not told.

        The ranking can be fetched by `result`, here or in another process, until an hour after it was made.

        Raises:
            InputError: as of `rank`.
            QueueFull: as of `rank`.
            ServerUnavailable: the server was away for too long. Whether it has the request is not known:
                submitting again with the same id adds it at most once.
        """
        options.setdefault("lane", "bulk")
        with span("xuankan.submit", "producer"):
            request, submission = await self._prepare(manuscript, request_id, options)
            submitted = await self._requests.submit(submission)
        return Ticket(request.id, submitted.state == "accepted", request.warnings)

    async def result(self, request: str | Ticket, timeout_s: float | None = None) -> Ranking:
        """Wait for the ranking of a request, submitted here or elsewhere; a `timeout_s` of 0 looks once.

        Raises:
            RequestError: the request ended without a ranking; the subclass says how.
            WaitTimeout: there is none within `timeout_s`.
            ResultUnknown: no such request is queued, and no result of it is kept.
            ServerUnavailable: the server was away for too long.
        """
        request_id = _id_of(request)
        with self._requests.replies.expect(request_id) as waiter:
            seen = await self._requests.look(request_id)
            if (kept := seen.result) is None:
                if seen.ticket is None:
                    raise ResultUnknown(f"request {request_id} is not queued, and no result of it is kept")
                timeout = asyncio.timeout(timeout_s)
                try:
                    async with timeout:
                        kept = await self._requests.wait(request_id, waiter, Submitted("queued", seen.ticket))
                except TimeoutError:
                    if timeout_s is None or not timeout.expired():
                        raise
                    raise WaitTimeout(f"request {request_id} has no result within {timeout_s:g} s") from None
        return open_result(request_id, kept, self._requests.sealer)

    def rank_many(
        self,
        manuscripts: Iterable[Manuscript | Mapping[str, Any]] | AsyncIterable[Manuscript | Mapping[str, Any]],
        *,
        in_flight: int = 64,
        **options: Unpack[Options],
    ) -> AsyncGenerator[Outcome, None]:
        """Rank many manuscripts; yields an `Outcome` for each as soon as it is there, not in their order.

        At most `in_flight` manuscripts are held at any time, however many there are and however slowly their
        outcomes are taken. While the queue is full it waits for room, whatever `on_full` says, and deadlines
        count from when there is some. Mappings are read by `Manuscript.from_mapping`. A manuscript that
        cannot be ranked gives an outcome with its error; a server that is away for too long ends everything.
        Leaving early (`contextlib.aclosing`) cancels what is in flight.

        Args:
            manuscripts: any number, asynchronous or not. They are taken in the event loop.
            in_flight: more keeps workers busier: 64 are 6,400 pairs.
            options: see `Options`; the lane is `bulk` if not told otherwise.

        Raises:
            ServerUnavailable: the server was away for too long.
        """
        options.setdefault("lane", "bulk")

        async def rank_one(manuscript: Manuscript) -> Ranking:
            return await rank_paced(self, manuscript, options)

        return rank_all(rank_one, manuscripts, in_flight)

    async def pressure(self, lane: Lane = "interactive") -> Pressure:
        """How full the queue is, seen at most a second ago: the wait to expect, and why nothing is taken.

        Raises:
            ServerUnavailable: the server was away for too long.
        """
        await self._requests.back_pressure.look_if_old()
        return self._requests.back_pressure.pressure(lane)

    async def room(self, lane: Lane = "bulk") -> None:
        """Wait until the queue takes more.

        Raises:
            ServerUnavailable: the server was away for too long.
        """
        await self._requests.back_pressure.admit(lane, "wait", None, 0)

    async def cancel(self, request: str | Ticket) -> Literal["cancelled", "finished", "unknown"]:
        """Cancel a request; whoever waits for it gets RequestCancelled.

        Returns:
            `cancelled`: it will not be ranked. `finished`: it had ended before. `unknown`: no such request.

        Raises:
            ServerUnavailable: the server was away for too long.
        """
        failure = Failure("cancelled", "it was cancelled")
        ended = await self._requests.end(_id_of(request), "cancelled", failure, self.catalogue.version)
        if ended is None:
            return "unknown"
        return "cancelled" if ended[0] else "finished"

    @property
    def _open(self) -> Preparer:
        if self._preparer is None:
            raise RuntimeError("the producer is not open: use `async with Producer(url) as producer: ...`")
        return self._preparer

    async def _prepare(
        self, manuscript: Manuscript, request_id: str | None, options: Options
    ) -> tuple[Request, Submission]:
        prepare, loop = self._open.request, asyncio.get_running_loop()
        deadline_s = options.get("deadline_s")
        until_s = deadline_s and loop.time() + deadline_s
        checked_id = uuid.uuid4().hex if request_id is None else check_request_id(request_id)
        now, server_now, parent = now_ms(), self._requests.server_now_ms(), traceparent()

        def work() -> tuple[Request, Submission]:
            request = prepare(
                manuscript,
                options,
                request_id=checked_id,
                reply=self._address,
                now_ms=now,
                server_now_ms=server_now,
                traceparent=parent,
            )
            return request, Submission(
                request.id,
                request.lane,
                request.encode(),
                digest(manuscript, options, request.id),
                chosen=request_id is not None,
                on_full=options.get("on_full", "wait"),
                until_s=until_s,
            )

        return await loop.run_in_executor(self._threads, work)

    async def _expire(self, request: Request, deadline_s: float) -> Kept:
        """End a request whose deadline passed, so that everyone who asks hears the same of it."""
        failure = Failure(
            "deadline_exceeded", f"its deadline of {deadline_s:g} s passed before it was ranked"
        )
        try:
            async with asyncio.timeout(_GOODBYE_S):
                ended = await self._requests.end(request.id, "expired", failure, request.catalogue)
        except (TimeoutError, ServerUnavailable) as error:
            raise WaitTimeout(
                f"request {request.id} has no result within {deadline_s:g} s: the server cannot be reached"
            ) from error
        if ended is None:  # it was never submitted
            raise self._requests.back_pressure.refusal(request.lane) or RequestExpired(
                request.id, failure.code, failure.message
            )
        return ended[1]

    async def _say_goodbye(self, request_id: str) -> None:
        """Cancel a request that nobody waits for any more, as far as that goes."""
        try:
            async with asyncio.timeout(_GOODBYE_S):
                await self._requests.settle(_GOODBYE_S)  # it may still be on its way
                await self.cancel(request_id)
        except (TimeoutError, ServerUnavailable):
            return


def _id_of(request: str | Ticket) -> str:
    return check_request_id(request if isinstance(request, str) else request.request_id)
