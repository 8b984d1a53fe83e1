"""The asynchronous producer: submits manuscripts and waits for their rankings."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from typing import Literal, Self, Unpack

from xuankan.candidates import FirstStage
from xuankan.catalogue import Catalogue
from xuankan.client.bulk import Given, Outcome, rank_each
from xuankan.client.endings import Endings
from xuankan.client.limits import Limits, Pressure
from xuankan.client.options import RankingKeywords, RankingOptions, combined
from xuankan.client.pipeline import check_in_flight
from xuankan.client.prepare import Preparer, digest
from xuankan.client.rankings import Ranking, open_result
from xuankan.client.requests import Requests, RequestStatus, Submission, Ticket
from xuankan.errors import InputError, QueueFull
from xuankan.manuscript import Manuscript
from xuankan.protocol.keys import Keys, Lane
from xuankan.protocol.scripts import Kept
from xuankan.protocol.sealing import Sealer
from xuankan.protocol.template import Template
from xuankan.protocol.wire import Request, check_request_id
from xuankan.tracing import span, traceparent
from xuankan.transport.server import Server


class Producer:
    """Ranks manuscripts through a Redis/Valkey server.

    Use it as an asynchronous context manager, or call `open` and in the end `close`.

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
        limits: from when on the queue counts as full; see `RankingOptions.on_full`.

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
        self._opening = asyncio.Lock()
        self._threads = ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="xuankan-prepare")
        self._endings = Endings(self._requests)
        self._closed = False

    async def open(self) -> None:
        """Reach the server and load the catalogue, the tokenizer and the first stage.

        What `async with` does. May be called again after it failed; does nothing once the producer is open.

        Raises:
            ServerUnavailable: no server within `server_timeout_s`.
            ReleaseError, CatalogueError: a file of the package cannot be read.
            RuntimeError: the producer was closed, which is for good.
        """
        async with self._opening:
            if self._closed:
                raise RuntimeError("the producer is closed: make another one")
            if self._preparer is not None:
                return
            loading = asyncio.get_running_loop().run_in_executor(self._threads, Preparer.load, *self._parts)
            try:
                await self._requests.open()
            finally:
                await asyncio.gather(loading, return_exceptions=True)  # a thread cannot be stopped
            self._preparer = loading.result()

    async def __aenter__(self) -> Self:
        try:
            await self.open()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections. What is submitted stays submitted."""
        self._closed = True
        await self._endings.close()
        await self._requests.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    @property
    def catalogue(self) -> Catalogue:
        """The catalogue whose journals this producer names; there once the producer is open."""
        return self._ready.catalogue

    @property
    def server(self) -> Server:
        """The connection, for what a deployment keeps on the server beside the queue."""
        return self._requests.server

    async def rank(
        self,
        manuscript: Manuscript,
        options: RankingOptions | None = None,
        *,
        request_id: str | None = None,
        **keywords: Unpack[RankingKeywords],
    ) -> Ranking:
        """Submit a manuscript and wait for its ranking, in the lane `interactive` if not told otherwise.

        Args:
            manuscript: what to place.
            options: how; see `RankingOptions`.
            request_id: the same id gives the same ranking again, without work, until an hour after it was
                made (a request that waits longer than 7 days is no longer known by its id). Without one the
                request is this call's own: cancelling the call cancels the request.
            keywords: options by their names, in place of those of `options`.

        Raises:
            InputError: something that was passed cannot be used; nothing was submitted. RequestConflict, if
                the id was used for something else.
            QueueFull: the queue is full, and was until the deadline unless `on_full` is `raise`.
            RequestError: the request ended without a ranking; the subclass says how.
            ServerUnavailable: the server was away for too long.
            WaitTimeout: the deadline passed while the server was away.
        """
        with span("xuankan.rank", "producer"):
            return await self._rank(manuscript, request_id, combined(options, keywords, "interactive"))

    async def _rank(self, manuscript: Manuscript, request_id: str | None, options: RankingOptions) -> Ranking:
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        request, submission = await self._prepare(manuscript, request_id, options)
        prepare_ms = (loop.time() - started_s) * 1000
        deadline_s = options.deadline_s
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
                    kept = await self._endings.expire(request, deadline_s)
        except asyncio.CancelledError:
            if request_id is None and not self._closed:
                self._endings.give_up(request)
            raise
        total_ms = (loop.time() - started_s) * 1000
        return open_result(request.id, kept, self._requests.sealer, prepare_ms, total_ms)

    async def submit(
        self,
        manuscript: Manuscript,
        options: RankingOptions | None = None,
        *,
        request_id: str | None = None,
        **keywords: Unpack[RankingKeywords],
    ) -> Ticket:
        """Submit a manuscript without waiting; arguments as for `rank`, but the lane is `bulk` if not told.

        The ranking can be fetched by `result`, here or in another process, until an hour after it was made.

        Raises:
            InputError: as of `rank`.
            QueueFull: as of `rank`.
            ServerUnavailable: the server was away for too long. Whether it has the request is not known:
                submitting again with the same id adds it at most once.
        """
        with span("xuankan.submit", "producer"):
            asked = combined(options, keywords, "bulk")
            request, submission = await self._prepare(manuscript, request_id, asked)
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
        kept = await self._requests.result(request_id, timeout_s)
        return open_result(request_id, kept, self._requests.sealer)

    def replied(self, request: str | Ticket) -> AbstractContextManager[asyncio.Future[Kept]]:
        """A future that is done when a reply says that a request has ended: a hint, which may get lost."""
        return self._requests.replies.expect(_id_of(request))

    async def status(self, request: str | Ticket) -> RequestStatus:
        """How far a request is, submitted here or elsewhere.

        Raises:
            ServerUnavailable: the server was away for too long.
        """
        return await self._requests.status(_id_of(request))

    async def release(self, requests: Sequence[str | Ticket]) -> None:
        """Let finished results leave the server after a minute, because what they say is kept elsewhere.

        A ranking takes 4 KB of the server for an hour: 100 a second would fill a gigabyte in 40 minutes. The
        ids stand for nothing after that. If the server is away, results are left to go in their time.
        """
        await self._requests.release([_id_of(request) for request in requests])

    async def rank_paced(
        self,
        manuscript: Manuscript,
        options: RankingOptions | None = None,
        *,
        request_id: str | None = None,
        **keywords: Unpack[RankingKeywords],
    ) -> Ranking:
        """Rank one of many once the queue has room for it: many are in no hurry, and none fails by the rush.

        Arguments as for `rank`, but the lane is `bulk` if not told, a full queue is waited for whatever
        `on_full` says, and the deadline counts from when there is room.

        Raises:
            InputError, RequestError, ServerUnavailable, WaitTimeout: as of `rank`.
        """
        asked = combined(options, keywords, "bulk")
        while True:
            await self._requests.back_pressure.admit(asked.lane or "bulk", "wait", None, 0)
            try:
                return await self.rank(manuscript, asked, request_id=request_id)
            except QueueFull:  # others were faster
                continue

    def rank_many(
        self,
        manuscripts: Iterable[Given] | AsyncIterable[Given],
        options: RankingOptions | None = None,
        *,
        in_flight: int = 64,
        **keywords: Unpack[RankingKeywords],
    ) -> AsyncGenerator[Outcome, None]:
        """Rank many manuscripts; yields an `Outcome` for each as soon as it is there, not in their order.

        At most `in_flight` manuscripts are held at any time, however many there are and however slowly their
        outcomes are taken. While the queue is full it waits for room, whatever `on_full` says, and deadlines
        count from when there is some. Mappings are read by `Manuscript.from_mapping`. A manuscript that
        cannot be ranked gives an outcome with its error; a server that is away for too long ends everything.
        Leaving early (`contextlib.aclosing`) cancels what is in flight.

        Args:
            manuscripts: any number, asynchronous or not. They are taken in the event loop.
            options: as for `rank`; the lane is `bulk` if not told otherwise.
            in_flight: more keeps workers busier: 64 are 6,400 pairs.
            keywords: as for `rank`.

        Raises:
            InputError: an option that cannot be used.
            ServerUnavailable: the server was away for too long.
        """
        check_in_flight(in_flight)
        asked = combined(options, keywords, "bulk")
        return rank_each(lambda one: self.rank_paced(one, asked), manuscripts, in_flight)

    async def pressure(self, lane: Lane = "interactive") -> Pressure:
        """How full the queue is, seen at most a second ago: the wait to expect, and why nothing is taken.

        Raises:
            ServerUnavailable: the server was away for too long.
        """
        await self._requests.back_pressure.look_if_old()
        return self._requests.back_pressure.pressure(lane)

    async def cancel(self, request: str | Ticket) -> Literal["cancelled", "finished", "unknown"]:
        """Cancel a request; whoever waits for it gets RequestCancelled.

        Returns:
            `cancelled`: it will not be ranked. `finished`: it had ended before. `unknown`: no such request.

        Raises:
            ServerUnavailable: the server was away for too long.
        """
        return await self._endings.cancel(_id_of(request), self.catalogue.version)

    @property
    def _ready(self) -> Preparer:
        if self._preparer is None:
            raise RuntimeError("the producer is not open: use `async with Producer(url) as producer: ...`")
        return self._preparer

    async def _prepare(
        self, manuscript: Manuscript, request_id: str | None, options: RankingOptions
    ) -> tuple[Request, Submission]:
        preparer, loop = self._ready, asyncio.get_running_loop()
        prepare = partial(
            preparer.request,
            manuscript,
            options,
            request_id=uuid.uuid4().hex if request_id is None else check_request_id(request_id),
            reply=self._address,
            now_ms=time.time() * 1000,
            traceparent=traceparent(),
        )
        deadline_s = options.deadline_s
        until_s = deadline_s and loop.time() + deadline_s

        def work() -> tuple[Request, Submission]:
            request = prepare()
            return request, Submission(
                request,
                request.encode(),
                digest(manuscript, options, request.id),
                chosen=request_id is not None,
                on_full=options.on_full,
                until_s=until_s,
            )

        return await loop.run_in_executor(self._threads, work)


def _id_of(request: str | Ticket) -> str:
    return check_request_id(request if isinstance(request, str) else request.request_id)
