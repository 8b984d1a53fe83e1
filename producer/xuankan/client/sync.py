"""The producer without `async`, for Django, Flask, scripts and notebooks."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import queue
import threading
import weakref
from collections.abc import Callable, Coroutine, Generator, Iterable, Mapping
from concurrent.futures import CancelledError, Future
from typing import Any, Final, Literal, TypeVar, Unpack

from xuankan.candidates import FirstStage
from xuankan.catalogue import Catalogue
from xuankan.client.bulk import Outcome, check_in_flight, rank_one, rank_paced
from xuankan.client.limits import Limits, Pressure
from xuankan.client.prepare import Options
from xuankan.client.producer import Producer, Ticket
from xuankan.client.rankings import Ranking
from xuankan.manuscript import Manuscript
from xuankan.protocol.keys import Keys, Lane
from xuankan.protocol.sealing import Sealer
from xuankan.protocol.template import Template
from xuankan.transport.client import describe

_T = TypeVar("_T")
_CLOSE_S: Final = 3.0
"""How long closing may take before what is left is abandoned; it must not keep a process from ending."""


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

        self._make = make
        self._lock = threading.Lock()
        self._engine: _Engine | None = None
        _living.add(self)

    def rank(
        self, manuscript: Manuscript, *, request_id: str | None = None, **options: Unpack[Options]
    ) -> Ranking:
        """See `Producer.rank`. Ctrl-C while it waits cancels the request."""
        return self._run(lambda producer: producer.rank(manuscript, request_id=request_id, **options))

    def submit(
        self, manuscript: Manuscript, *, request_id: str | None = None, **options: Unpack[Options]
    ) -> Ticket:
        """See `Producer.submit`."""
        return self._run(lambda producer: producer.submit(manuscript, request_id=request_id, **options))

    def result(self, request: str | Ticket, timeout_s: float | None = None) -> Ranking:
        """See `Producer.result`."""
        return self._run(lambda producer: producer.result(request, timeout_s))

    def pressure(self, lane: Lane = "interactive") -> Pressure:
        """See `Producer.pressure`."""
        return self._run(lambda producer: producer.pressure(lane))

    def cancel(self, request: str | Ticket) -> Literal["cancelled", "finished", "unknown"]:
        """See `Producer.cancel`."""
        return self._run(lambda producer: producer.cancel(request))

    def rank_many(
        self,
        manuscripts: Iterable[Manuscript | Mapping[str, Any]],
        *,
        in_flight: int = 64,
        **options: Unpack[Options],
    ) -> Generator[Outcome, None, None]:
        """See `Producer.rank_many`; leaving the loop early cancels what is in flight.

        `manuscripts` is taken from in the calling thread, so it may use that thread's database connection.
        """
        check_in_flight(in_flight)
        options.setdefault("lane", "bulk")
        engine = self._started()
        ready: queue.SimpleQueue[Future[Outcome]] = queue.SimpleQueue()
        waiting: set[Future[Outcome]] = set()

        async def work(index: int, given: Manuscript | Mapping[str, Any]) -> Outcome:
            producer = await engine.producer()
            return await rank_one(lambda manuscript: rank_paced(producer, manuscript, options), index, given)

        try:
            for index, given in enumerate(manuscripts):
                if len(waiting) == in_flight:
                    done = ready.get()
                    waiting.remove(done)
                    yield done.result()
                future = engine.start(work(index, given))
                waiting.add(future)
                future.add_done_callback(ready.put)
            while waiting:
                done = ready.get()
                waiting.remove(done)
                yield done.result()
        finally:
            for future in waiting:
                future.cancel()

    def close(self) -> None:
        """Close the connections; a later call opens them again. What is submitted stays submitted."""
        with self._lock:
            engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()

    def __enter__(self) -> SyncProducer:
        self._run(_nothing)
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
            raise RuntimeError("the producer was closed while this call was waiting") from None
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
        self._opening = asyncio.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="xuankan-producer", daemon=True)
        self._thread.start()

    def start(self, work: Coroutine[Any, Any, _T]) -> Future[_T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def producer(self) -> Producer:
        """The open producer; opening it is tried again at the next call if it fails."""
        async with self._opening:
            if self._producer is None:
                self._producer = await self._make().__aenter__()
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
