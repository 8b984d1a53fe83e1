"""Rows through the queue: many at once, outcomes in the order of the rows, in memory that stays flat."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from itertools import islice
from typing import Final, TypeVar

_In = TypeVar("_In")
_Out = TypeVar("_Out")

AHEAD: Final = 4
"""So many times `in_flight` outcomes may wait for an earlier one, so that a slow row does not stop others."""
_CHUNK: Final = 32


async def in_order(
    items: Iterator[_In], work: Callable[[_In], Awaitable[_Out]], in_flight: int
) -> AsyncGenerator[_Out]:
    """The outcomes of `work`, in the order of `items`; at most `in_flight` of them are worked on at a time.

    Items are taken in a thread. Leaving early cancels what is in flight; an error of `work` or `items` ends
    everything, after the outcomes before it.
    """
    working = asyncio.Semaphore(in_flight)
    unfetched = asyncio.Semaphore(AHEAD * in_flight)
    queue: asyncio.Queue[asyncio.Future[_Out] | None] = asyncio.Queue()
    tasks: set[asyncio.Future[_Out]] = set()

    async def one(item: _In) -> _Out:
        try:
            return await work(item)
        finally:
            working.release()

    async def feed() -> None:
        while chunk := await asyncio.to_thread(lambda: list(islice(items, _CHUNK))):
            for item in chunk:
                await unfetched.acquire()
                await working.acquire()
                task = asyncio.ensure_future(one(item))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                queue.put_nowait(task)

    feeder = asyncio.create_task(feed(), name="xuankan-backlog")
    feeder.add_done_callback(lambda _: queue.put_nowait(None))
    try:
        while (task := await queue.get()) is not None:
            yield await task
            unfetched.release()
        feeder.result()  # its error, if it ended by one
    finally:
        for task in (feeder, *tasks):
            task.cancel()
        await asyncio.gather(feeder, *tasks, return_exceptions=True)
