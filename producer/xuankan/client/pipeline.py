"""Many items through some asynchronous work, a bounded number at a time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable, Iterator
from itertools import islice
from typing import Final, TypeVar

from xuankan.errors import InputError

_In = TypeVar("_In")
_Out = TypeVar("_Out")

_CHUNK: Final = 32


def check_in_flight(in_flight: int) -> None:
    """Raise InputError unless at least one item may be in flight."""
    if in_flight < 1:
        raise InputError("in_flight", f"must be at least 1, not {in_flight}")


async def pipeline(
    items: Iterable[_In] | AsyncIterable[_In],
    work: Callable[[_In], Awaitable[_Out]],
    in_flight: int,
    *,
    ordered: bool = False,
    held: int | None = None,
) -> AsyncGenerator[_Out]:
    """Work on many items; yields outcomes as they come, or in the order of the items.

    An error of `work` or of `items` ends everything; in order, after the outcomes before it. Leaving early
    (`contextlib.aclosing`) cancels what is in flight.

    Args:
        items: taken in the event loop, one at a time and only when there is room for it.
        work: what is done with each, in a task of its own; the tasks begin in the order of the items.
        in_flight: so many are worked on at a time at most.
        ordered: outcomes come in the order of the items.
        held: so many items at most have been taken and their outcomes not yet used; `in_flight` if not given.
            With more, and in order, a slow item does not stop the others.
    """
    working, room = asyncio.Semaphore(in_flight), asyncio.Semaphore(held or in_flight)
    ready: asyncio.Queue[asyncio.Future[_Out] | None] = asyncio.Queue()
    unused: set[asyncio.Future[_Out]] = set()

    async def one(item: _In) -> _Out:
        try:
            return await work(item)
        finally:
            working.release()

    async def begin(item: _In) -> None:
        task = asyncio.ensure_future(one(item))
        unused.add(task)
        if ordered:
            ready.put_nowait(task)
        else:
            task.add_done_callback(ready.put_nowait)
        await there_is_room()

    async def there_is_room() -> None:
        await room.acquire()
        await working.acquire()

    async def feed() -> None:
        await there_is_room()
        if isinstance(items, AsyncIterable):
            async for item in items:
                await begin(item)
        else:
            for item in items:
                await begin(item)

    feeder = asyncio.create_task(feed(), name="xuankan-pipeline")
    feeder.add_done_callback(lambda _: ready.put_nowait(None))
    try:
        while unused or not feeder.done():
            task = await ready.get()
            if task is None:
                feeder.result()  # its error, if it ended by one
                continue
            outcome = await task
            unused.remove(task)
            yield outcome
            room.release()
        feeder.result()
    finally:
        for task in (feeder, *unused):
            task.cancel()
        await asyncio.gather(feeder, *unused, return_exceptions=True)


class InThread(AsyncIterable[_In]):
    """Items that are taken in a thread, because taking them blocks; some at a time, so that it costs little.

    An error of the items loses those of the same few that came before it.
    """

    def __init__(self, items: Iterator[_In]) -> None:
        self._items = items
        self._taken: deque[_In] = deque()

    def __aiter__(self) -> InThread[_In]:
        return self

    async def __anext__(self) -> _In:
        if not self._taken:
            self._taken.extend(await asyncio.to_thread(lambda: list(islice(self._items, _CHUNK))))
        if not self._taken:
            raise StopAsyncIteration
        return self._taken.popleft()
