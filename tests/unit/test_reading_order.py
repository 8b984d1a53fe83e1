"""Whose file is read next."""

from __future__ import annotations

import asyncio
import contextlib

from xuankan.portal.reading_order import ReadingOrder
from xuankan.portal.shares import Shares


class Desk:
    """Reads files until they are told to end, and notes the order in which they began."""

    def __init__(self, most: int) -> None:
        self.order = ReadingOrder(most)
        self.began: list[str] = []
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ends: dict[str, asyncio.Event] = {}

    async def bring(self, name: str, size_bytes: int = 1) -> None:
        """`name` is its caller and a number: `a1`."""
        self._ends[name] = asyncio.Event()

        async def read() -> None:
            async with self.order.taken(name[0], size_bytes):
                self.began.append(name)
                await self._ends[name].wait()

        self._tasks[name] = asyncio.create_task(read())
        await self.settle()

    async def end(self, name: str) -> None:
        self._ends[name].set()
        await self._tasks[name]
        await self.settle()

    async def hang_up(self, name: str) -> None:
        self._tasks[name].cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._tasks[name]
        await self.settle()

    async def settle(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)


async def test_nobody_takes_the_last_process_who_has_another() -> None:
    desk = Desk(3)
    for name in ("a1", "a2", "a3", "a4"):
        await desk.bring(name)
    assert desk.began == ["a1", "a2"]
    await desk.bring("b1")
    assert desk.began == ["a1", "a2", "b1"]
    for name in ("b1", "a1", "a2"):
        await desk.end(name)
    assert desk.began[3:] == ["a3", "a4"]
    await desk.hang_up("a3")
    await desk.hang_up("a4")


async def test_small_files_and_fresh_callers_come_first() -> None:
    desk = Desk(2)
    await desk.bring("a1")
    await desk.bring("b1")
    await desk.bring("a2", 5)
    await desk.bring("c1", 900)
    await desk.bring("d1", 80)
    await desk.end("b1")
    assert desk.began == ["a1", "b1", "d1"]
    await desk.end("d1")
    assert desk.began[-1] == "c1"
    await desk.end("c1")
    await desk.end("a1")
    assert desk.began[-1] == "a2"
    await desk.end("a2")


async def test_who_hangs_up_frees_what_he_had_or_waited_for() -> None:
    desk = Desk(2)
    await desk.bring("a1")
    await desk.bring("b1")
    await desk.bring("c1")
    await desk.bring("d1")
    await desk.hang_up("c1")  # while it waits
    await desk.hang_up("a1")  # while it is read
    assert desk.began == ["a1", "b1", "d1"]
    await desk.hang_up("b1")
    await desk.hang_up("d1")


def test_shares_bound_each_and_all() -> None:
    shares = Shares(10, 6)
    assert shares.take("a", 6)
    assert not shares.take("a")
    assert not shares.take("b", 5)
    assert shares.take("b", 4)
    shares.give_back("a", 6)
    assert shares.used == 4
    assert not shares.take("c", 2, each=1)
