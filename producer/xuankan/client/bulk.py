"""Many manuscripts at once, with a bounded number in flight."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from xuankan.client.rankings import Ranking
from xuankan.errors import InputError, QueueFull, ServerUnavailable, XuankanError
from xuankan.manuscript import Manuscript

if TYPE_CHECKING:
    from xuankan.client.prepare import Options
    from xuankan.client.producer import Producer

_T = TypeVar("_T")
_Given = Manuscript | Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one of many manuscripts.

    Attributes:
        index: its place among the manuscripts, from 0.
        manuscript: what was given.
        ranking: set unless there is an error.
        error: why there is no ranking.
    """

    index: int
    manuscript: _Given
    ranking: Ranking | None = None
    error: XuankanError | None = None


async def rank_one(rank: Callable[[Manuscript], Awaitable[Ranking]], index: int, given: _Given) -> Outcome:
    """Rank one of many: its own errors become its outcome.

    Raises:
        ServerUnavailable: which is not this manuscript's error.
    """
    try:
        manuscript = Manuscript.from_mapping(given) if isinstance(given, Mapping) else given
        return Outcome(index, given, ranking=await rank(manuscript))
    except ServerUnavailable:
        raise
    except XuankanError as error:
        return Outcome(index, given, error=error)


async def rank_paced(producer: Producer, manuscript: Manuscript, options: Options) -> Ranking:
    """Rank one of many once the queue has room for it: many are in no hurry, and none fails by the rush."""
    while True:
        await producer.room(options.get("lane", "bulk"))
        try:
            return await producer.rank(manuscript, **options)
        except QueueFull:  # others were faster
            continue


async def rank_all(
    rank: Callable[[Manuscript], Awaitable[Ranking]],
    manuscripts: Iterable[_Given] | AsyncIterable[_Given],
    in_flight: int,
) -> AsyncGenerator[Outcome, None]:
    """Rank all, at most `in_flight` at a time, an outcome counting until it is taken."""
    check_in_flight(in_flight)
    slots = asyncio.Semaphore(in_flight)
    ready: asyncio.Queue[Outcome | BaseException | None] = asyncio.Queue()

    async def work(index: int, given: _Given) -> None:
        try:
            ready.put_nowait(await rank_one(rank, index, given))
        except Exception as error:
            ready.put_nowait(error)

    async def feed() -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                index = 0
                await slots.acquire()
                async for given in _iterate(manuscripts):
                    tasks.create_task(work(index, given))
                    index += 1
                    await slots.acquire()
        except* Exception as group:  # from the caller's own iterable; the tasks raise none
            ready.put_nowait(group.exceptions[0])
        else:
            ready.put_nowait(None)

    feeder = asyncio.create_task(feed(), name="xuankan-rank-many")
    try:
        while (outcome := await ready.get()) is not None:
            if isinstance(outcome, BaseException):
                raise outcome
            yield outcome
            slots.release()
    finally:
        feeder.cancel()
        await asyncio.gather(feeder, return_exceptions=True)


def check_in_flight(in_flight: int) -> None:
    """Raise InputError unless at least one manuscript may be in flight."""
    if in_flight < 1:
        raise InputError("in_flight", f"must be at least 1, not {in_flight}")


async def _iterate(given: Iterable[_T] | AsyncIterable[_T]) -> AsyncGenerator[_T, None]:
    if isinstance(given, AsyncIterable):
        async for item in given:
            yield item
    else:
        for item in given:
            yield item
