"""Many at once, outcomes as they come or in order, never more in memory than was said."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterable, Iterator
from contextlib import aclosing

import pytest

from xuankan.client.pipeline import InThread, pipeline


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


async def collect(outcomes: AsyncIterable[int], into: list[int]) -> None:
    async for outcome in outcomes:
        into.append(outcome)  # noqa: PERF401  # what comes before an error counts


@pytest.mark.parametrize("in_flight", [1, 3, 40])
@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("threaded", [True, False])
async def test_every_item_has_one_outcome_and_no_more_are_in_flight(
    in_flight: int, ordered: bool, threaded: bool
) -> None:
    work = Watch(in_flight)
    given = InThread(iter(range(500))) if threaded else range(500)
    found = [outcome async for outcome in pipeline(given, work, in_flight, ordered=ordered)]
    assert (found if ordered else sorted(found)) == [item * item for item in range(500)]
    assert in_flight // 2 < work.most <= in_flight


async def test_outcomes_come_as_soon_as_they_are_there() -> None:
    work = Watch()
    work.slow.clear()
    async with aclosing(pipeline(range(20), work, 4)) as outcomes:
        found = [await anext(outcomes) for _ in range(19)]
        assert sorted(found) == [item * item for item in range(1, 20)]
        work.slow.set()
        assert [outcome async for outcome in outcomes] == [0]


@pytest.mark.parametrize("ordered", [True, False])
async def test_an_outcome_counts_until_the_next_is_asked_for(ordered: bool) -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        while taken < 100:
            taken += 1
            yield taken

    used = 0
    async for _ in pipeline(items(), Watch(), 5, ordered=ordered):
        for _ in range(30):
            await asyncio.sleep(0)  # all the time that others could want
        assert taken <= used + 5
        used += 1
    assert used == 100


async def test_a_slow_one_holds_the_others_back_only_after_a_while() -> None:
    work, in_flight, held = Watch(), 8, 32
    work.slow.clear()
    async with aclosing(pipeline(range(1000), work, in_flight, ordered=True, held=held)) as outcomes:
        first = asyncio.ensure_future(anext(outcomes))
        async with asyncio.timeout(10):
            while work.begun < held:  # noqa: ASYNC110  # nobody tells
                await asyncio.sleep(0.001)
        await asyncio.sleep(0.05)
        assert work.begun == held
        assert work.working == 1
        work.slow.set()
        assert await first == 0
        assert [outcome async for outcome in outcomes] == [item * item for item in range(1, 1000)]


async def test_an_error_ends_it_after_what_came_before() -> None:
    work, found = Watch(failing=50), list[int]()
    with pytest.raises(ValueError, match="50"):
        await collect(pipeline(range(500), work, 8, ordered=True), found)
    assert found == [item * item for item in range(50)]
    assert work.working == 0


async def test_an_error_ends_it_though_others_are_not_done() -> None:
    work = Watch(failing=50)
    work.slow.clear()
    with pytest.raises(ValueError, match="50"):
        await collect(pipeline(range(500), work, 8), [])
    assert work.working == 0


def failing_after(count: int) -> Iterator[int]:
    yield from range(count)
    raise OSError("gone")


async def test_an_error_of_the_items_ends_it_after_them() -> None:
    work, found = Watch(), list[int]()
    with pytest.raises(OSError, match="gone"):
        await collect(pipeline(failing_after(40), work, 8, ordered=True), found)
    assert found == [item * item for item in range(40)]
    with pytest.raises(OSError, match="gone"):
        await collect(pipeline(failing_after(40), work, 8), [])
    assert work.working == 0


async def test_items_of_a_thread_come_in_order_and_lose_the_few_before_an_error() -> None:
    found = list[int]()
    with pytest.raises(OSError, match="gone"):
        await collect(InThread(failing_after(40)), found)
    assert found == list(range(32))


@pytest.mark.parametrize("ordered", [True, False])
async def test_leaving_early_leaves_nothing_behind(ordered: bool) -> None:
    work = Watch()
    before = asyncio.all_tasks()
    async with aclosing(pipeline(range(500), work, 8, ordered=ordered)) as outcomes:
        await anext(outcomes)
    assert work.working == 0
    assert asyncio.all_tasks() == before


async def test_nothing_in_nothing_out() -> None:
    assert [outcome async for outcome in pipeline([], Watch(), 8)] == []
