"""Many at once, outcomes in order, never more in memory than was said."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing

import pytest

from xuankan.backlog.pipeline import AHEAD, in_order


class Watch:
    """Work that takes a random time, and how much of it there was at once."""

    def __init__(self, seed: int = 0, failing: int | None = None) -> None:
        self._random = random.Random(seed)
        self._failing = failing
        self.working = self.most = self.begun = 0
        self.slow = asyncio.Event()
        self.slow.set()

    async def __call__(self, item: int) -> int:
        self.begun += 1
        self.working += 1
        self.most = max(self.most, self.working)
        try:
            if item == 0:
                await self.slow.wait()
            for _ in range(self._random.randrange(20)):
                await asyncio.sleep(0)
            if item == self._failing:
                raise ValueError(item)
            return item * item
        finally:
            self.working -= 1


async def collect(outcomes: AsyncGenerator[int], into: list[int]) -> None:
    async for outcome in outcomes:
        into.append(outcome)  # noqa: PERF401  # what comes before an error counts


@pytest.mark.parametrize("in_flight", [1, 3, 40])
async def test_outcomes_come_in_order_and_no_more_are_in_flight(in_flight: int) -> None:
    work = Watch(in_flight)
    found = [outcome async for outcome in in_order(iter(range(500)), work, in_flight)]
    assert found == [item * item for item in range(500)]
    assert in_flight // 2 < work.most <= in_flight


async def test_a_slow_one_holds_the_others_back_only_after_a_while() -> None:
    work, in_flight = Watch(), 8
    work.slow.clear()
    async with aclosing(in_order(iter(range(1000)), work, in_flight)) as outcomes:
        first = asyncio.ensure_future(anext(outcomes))
        async with asyncio.timeout(10):
            while work.begun < AHEAD * in_flight:  # noqa: ASYNC110  # nobody tells
                await asyncio.sleep(0.001)
        await asyncio.sleep(0.05)
        assert work.begun == AHEAD * in_flight
        assert work.working == 1
        work.slow.set()
        assert await first == 0
        assert [outcome async for outcome in outcomes] == [item * item for item in range(1, 1000)]


async def test_an_error_ends_it_after_what_came_before() -> None:
    work, found = Watch(failing=50), list[int]()
    with pytest.raises(ValueError, match="50"):
        await collect(in_order(iter(range(500)), work, 8), found)
    assert found == [item * item for item in range(50)]
    assert work.working == 0


async def test_an_error_of_the_items_ends_it_after_them() -> None:
    def items() -> Iterator[int]:
        yield from range(40)
        raise OSError("gone")

    work, found = Watch(), list[int]()
    with pytest.raises(OSError, match="gone"):
        await collect(in_order(items(), work, 8), found)
    assert found == [item * item for item in range(32)]  # the chunk that it was in is lost


async def test_leaving_early_leaves_nothing_behind() -> None:
    work = Watch()
    before = asyncio.all_tasks()
    async with aclosing(in_order(iter(range(500)), work, 8)) as outcomes:
        assert await anext(outcomes) == 0
    assert work.working == 0
    assert asyncio.all_tasks() == before
