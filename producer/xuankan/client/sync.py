"""The producer without `async`, for Django, Flask, scripts and notebooks."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import queue
import threading
import weakref
from collections.abc import AsyncIterable, Callable, Coroutine, Generator, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from typing import Any, Final, Literal, Self, TypeVar, Unpack

from xuankan.candidates import FirstStage
from xuankan.catalogue import Catalogue
from xuankan.client.bulk import Given, Outcome
from xuankan.client.limits import Limits, Pressure
from xuankan.client.options import RankingKeywords, RankingOptions, combined
from xuankan.client.pipeline import check_in_flight
from xuankan.client.producer import Producer
from xuankan.client.rankings import Ranking
from xuankan.client.requests import RequestStatus, Ticket
from xuankan.manuscript import Manuscript
from xuankan.protocol.keys import Keys, Lane
from xuankan.protocol.sealing import Sealer
from xuankan.protocol.template import Template
from xuankan.transport.client import describe

_T = TypeVar("_T")
_CLOSE_S: Final = 3.0
"""How long closing may take before what is left is abandoned; it must not keep a process from ending."""
_END: Final = object()
_CLOSED: Final = "the producer was closed while this call was waiting"


class SyncProducer:
    """`Producer` for code without an event loop; every method may be called from any number of threads.

    Make one when the application is loaded and use it for good. The connections belong to a background thread
    that starts with the first call, anew in every process: a web server may fork before or after (gunicorn
    with `--preload`, uWSGI, multiprocessing). It ends with the process, or with `close`.

    Methods block the calling thread; where that runs an event loop, use `Producer`.

    Args: as of `Producer`.

    Raises:
        InputError: a URL or namespace that cannot be one.
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
        Keys(namespace)
        describe(url)

        def make() -> Producer:
            return Producer(
                url,
                namespace=namespace,
                catalogue=catalogue,
                template=template,
                first_stage=first_stage,
                server_timeout_s=server_timeout_s,
                sealer=sealer,
                limits=limits,
            )

        self._run_by(make)

    def _run_by(self, make: Callable[[], Producer]) -> None:
        """Run by the producer that `make` makes in the background thread, anew after a fork."""
        self._make = make
        self._lock = threading.Lock()
        self._engine: _Engine | None = None
        _living.add(self)

    def open(self) -> None:
        """See `Producer.open`; without it the first call opens the producer."""
        self._run(_nothing)

    def rank(
        self,
        manuscript: Manuscript,
        options: RankingOptions | None = None,
        *,
        request_id: str | None = None,
        **keywords: Unpack[RankingKeywords],
    ) -> Ranking:
        """See `Producer.rank`. Ctrl-C while it waits cancels the request."""
        return self._run(
            lambda producer: producer.rank(manuscript, options, request_id=request_id, **keywords)
        )

    def rank_paced(
        self,
        manuscript: Manuscript,
        options: RankingOptions | None = None,
        *,
        request_id: str | None = None,
        **keywords: Unpack[RankingKeywords],
    ) -> Ranking:
        """See `Producer.rank_paced`. Ctrl-C while it waits cancels the request."""
        return self._run(
            lambda producer: producer.rank_paced(manuscript, options, request_id=request_id, **keywords)
        )

    def submit(
        self,
        manuscript: Manuscript,
        options: RankingOptions | None = None,
        *,
        request_id: str | None = None,
        **keywords: Unpack[RankingKeywords],
    ) -> Ticket:
        """See `Producer.submit`."""
        return self._run(
            lambda producer: producer.submit(manuscript, options, request_id=request_id, **keywords)
        )

    def result(self, request: str | Ticket, timeout_s: float | None = None) -> Ranking:
        """See `Producer.result`."""
        return self._run(lambda producer: producer.result(request, timeout_s))

    def status(self, request: str | Ticket) -> RequestStatus:
        """See `Producer.status`."""
        return self._run(lambda producer: producer.status(request))

    def release(self, requests: Sequence[str | Ticket]) -> None:
        """See `Producer.release`."""
        return self._run(lambda producer: producer.release(requests))

    def pressure(self, lane: Lane = "interactive") -> Pressure:
        """See `Producer.pressure`."""
        return self._run(lambda producer: producer.pressure(lane))

    def cancel(self, request: str | Ticket) -> Literal["cancelled", "finished", "unknown"]:
        """See `Producer.cancel`."""
        return self._run(lambda producer: producer.cancel(request))

    def rank_many(
        self,
        manuscripts: Iterable[Given],
        options: RankingOptions | None = None,
        *,
        in_flight: int = 64,
        **keywords: Unpack[RankingKeywords],
    ) -> Generator[Outcome, None, None]:
        """See `Producer.rank_many`; leaving the loop early cancels what is in flight.

        `manuscripts` is taken from in the calling thread, so it may use that thread's database connection.
        """
        check_in_flight(in_flight)
        asked = combined(options, keywords, "bulk")
        return self._rank_many(iter(manuscripts), asked, in_flight)

    def _rank_many(
        self, manuscripts: Iterator[Given], options: RankingOptions, in_flight: int
    ) -> Generator[Outcome, None, None]:
        engine, caller = self._started(), _Caller(manuscripts)

        async def work() -> None:
            producer = await engine.producer()
            outcomes = producer.rank_many(caller, options, in_flight=in_flight)
            async with contextlib.aclosing(outcomes):
                async for outcome in outcomes:
                    await caller.hand_over(outcome)

        working = engine.start(work())
        working.add_done_callback(caller.end)
        try:
            yield from caller.serve()
            working.result()
        except CancelledError:
            raise RuntimeError(_CLOSED) from None
        finally:
            working.cancel()

    def close(self) -> None:
        """Close the connections; a later call opens them again. What is submitted stays submitted."""
        with self._lock:
            engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _started(self) -> _Engine:
        with self._lock:
            if self._engine is None:
                self._engine = _Engine(self._make)
            return self._engine

    def _run(self, call: Callable[[Producer], Coroutine[Any, Any, _T]]) -> _T:
        engine = self._started()

        async def work() -> _T:
            return await call(await engine.producer())

        future = engine.start(work())
        try:
            return future.result()
        except CancelledError:
            raise RuntimeError(_CLOSED) from None
        except BaseException:  # Ctrl-C, or the call's own error
            future.cancel()
            raise

    def leave_to_parent(self) -> None:
        """In a forked child: start afresh at the next call. The parent's thread does not run here."""
        self._lock = threading.Lock()  # another thread may have held it while forking
        if self._engine is not None:
            # Never to be freed: closing its loop would take the parent's sockets off their shared epoll.
            _parents.append(self._engine)
            self._engine = None


class _Engine:
    """An event loop in a thread, and the producer in it."""

    def __init__(self, make: Callable[[], Producer]) -> None:
        self._make = make
        self._producer: Producer | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="xuankan-producer", daemon=True)
        self._thread.start()

    def start(self, work: Coroutine[Any, Any, _T]) -> Future[_T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def producer(self) -> Producer:
        """The open producer; opening it is tried again at the next call if it fails."""
        if self._producer is None:
            self._producer = self._make()
        await self._producer.open()
        return self._producer

    def close(self) -> None:
        with contextlib.suppress(TimeoutError, CancelledError):
            self.start(self._close()).result(_CLOSE_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CLOSE_S)

    async def _close(self) -> None:
        calls = asyncio.all_tasks() - {asyncio.current_task()}
        if self._producer is not None:
            await self._producer.close()
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)

    def _serve(self) -> None:
        self._loop.run_forever()
        self._loop.close()


class _Caller(AsyncIterable[Given]):
    """The thread that runs through `rank_many`, as the event loop sees it: gives items, takes outcomes."""

    def __init__(self, items: Iterator[Given]) -> None:
        self._items = items
        # Outcomes that are handed over, None where an item is wanted; each with what tells when that is done.
        self._wants: queue.SimpleQueue[tuple[Outcome | None, Future[Any]] | None] = queue.SimpleQueue()

    def __aiter__(self) -> _Caller:
        return self

    async def __anext__(self) -> Given:
        if (item := await self._ask(None)) is _END:
            raise StopAsyncIteration
        return item

    async def hand_over(self, outcome: Outcome) -> None:
        """Give an outcome to the caller; returns when it asks for the next."""
        await self._ask(outcome)

    async def _ask(self, outcome: Outcome | None) -> Any:
        done: Future[Any] = Future()
        self._wants.put((outcome, done))
        return await asyncio.wrap_future(done)

    def end(self, _: object) -> None:
        """Nothing more is asked."""
        self._wants.put(None)

    def serve(self) -> Generator[Outcome, None, None]:
        """In the thread itself: give items and yield outcomes until the end."""
        while (want := self._wants.get()) is not None:
            outcome, done = want
            if not done.set_running_or_notify_cancel():
                continue  # whoever asked was cancelled
            if outcome is not None:
                yield outcome
                done.set_result(None)
                continue
            try:
                item = next(self._items, _END)
            except Exception as error:  # the caller's own iterable may raise anything; it gets it back
                done.set_exception(error)
            else:
                done.set_result(item)


async def _nothing(producer: Producer) -> None:
    del producer


def _close_all() -> None:
    for producer in list(_living):
        producer.close()


def _leave_all_to_parent() -> None:
    for producer in list(_living):
        producer.leave_to_parent()


_living: weakref.WeakSet[SyncProducer] = weakref.WeakSet()
_parents: list[_Engine] = []
atexit.register(_close_all)
os.register_at_fork(after_in_child=_leave_all_to_parent)
