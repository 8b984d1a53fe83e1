"""Producers and a full queue: on a real server, with workers whose speed is known."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.engine import ScriptedEngine
from tests.support.portal import assert_right, manuscript, producer, sync_producer
from tests.support.server import ValkeyProcess
from tests.support.world import KEYS, Queue, eventually, run_burst, running
from xuankan import Limits, Producer, Ticket
from xuankan.errors import QueueFull
from xuankan.transport.client import open_client

ROW_S = 0.002
SLOW: dict[str, Any] = {"contexts": 1, "row_s": ROW_S}


async def fill(portal: Producer, queue: Queue, count: int, **options: Any) -> list[Ticket]:
    """Submit until the workers' speed is measured and requests wait."""
    tickets = [await portal.submit(manuscript(n), **options) for n in range(count)]

    async def measured() -> bool:
        found = await portal.pressure("bulk")
        return found.expected_wait_s is not None and await queue.left() > 0

    await eventually(measured)
    return tickets


async def test_the_wait_that_is_foreseen_is_the_wait_that_comes(server_url: str, queue: Queue) -> None:
    async with running(server_url, ScriptedEngine(**SLOW), lease_s=1.5), producer(server_url) as portal:
        await fill(portal, queue, 200, candidates=20)  # 8 s of work
        seen_s, foreseen = time.monotonic(), await portal.pressure("bulk")
        interactive = await portal.pressure("interactive")
        await portal.result(await portal.submit(manuscript(900), candidates=2), timeout_s=60)
        took_s = time.monotonic() - seen_s
    assert foreseen.expected_wait_s is not None
    assert foreseen.reason is None
    assert 0.4 < took_s / foreseen.expected_wait_s < 2.5
    assert interactive.expected_wait_s is not None
    assert interactive.expected_wait_s < foreseen.expected_wait_s


async def test_a_queue_with_too_much_work_refuses_or_lets_wait_as_the_caller_chooses(
    server_url: str, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    limits = Limits(bulk_wait_s=1.0)
    async with running(server_url, ScriptedEngine(**SLOW), lease_s=1.5), producer(server_url) as filler:
        tickets = await fill(filler, queue, 150, candidates=20)
        async with producer(server_url, limits=limits) as portal:
            await portal.pressure()
            before = await queue.left()
            with pytest.raises(QueueFull, match=r"Limits\.bulk_wait_s") as refused:
                await portal.submit(manuscript(), on_full="raise")
            assert refused.value.reason == "wait"
            assert refused.value.expected_wait_s is not None
            assert refused.value.expected_wait_s > 1.0
            with pytest.raises(QueueFull):  # waited as long as it was let
                await portal.rank(manuscript(), lane="bulk", deadline_s=0.3)
            assert await queue.left() <= before
            # What the server knows is never refused, or an accepted request would look refused.
            assert not (
                await portal.submit(
                    manuscript(149), request_id=tickets[149].request_id, candidates=20, on_full="raise"
                )
            ).new
            ranking = await portal.rank(manuscript(7), lane="bulk", candidates=5)
            assert_right(ranking, manuscript(7), candidates=5)
            assert "waiting: the bulk queue is full" in caplog.text
            assert caplog.text.count("waiting: the bulk queue") <= 2


async def test_rank_many_paces_itself_and_nothing_of_it_fails(server_url: str, queue: Queue) -> None:
    limits, longest = Limits(bulk_wait_s=0.4), 0
    async with running(server_url, ScriptedEngine(**SLOW), lease_s=1.5), producer(server_url) as filler:
        await fill(filler, queue, 60, candidates=20)
        async with producer(server_url, limits=limits) as portal:
            await portal.pressure()
            given = [manuscript(n) for n in range(60)]
            rankings = portal.rank_many(given, in_flight=30, candidates=20, on_full="raise", deadline_s=20)
            started = 0
            async for outcome in rankings:
                started += 1
                longest = max(longest, await queue.left())
                assert outcome.ranking is not None, outcome.error
    assert started == 60


async def test_many_producers_together_keep_the_bound(server_url: str, queue: Queue) -> None:
    async with contextlib.AsyncExitStack() as stack:
        limits = Limits(max_queued=25)
        portals = [await stack.enter_async_context(producer(server_url, limits=limits)) for _ in range(4)]
        outcomes = await asyncio.gather(
            *(
                portal.submit(manuscript(n), request_id=f"{place}-{n}", on_full="raise")
                for n in range(20)
                for place, portal in enumerate(portals)
            ),
            return_exceptions=True,
        )
        refusals = [outcome for outcome in outcomes if isinstance(outcome, QueueFull)]
        assert len(outcomes) - len(refusals) == await queue.left() == 25
        assert {refusal.reason for refusal in refusals} == {"length"}
        assert "Limits.max_queued" in str(refusals[0])
        waiting = asyncio.create_task(portals[0].rank(manuscript(3), lane="bulk"))
        async with running(server_url, ScriptedEngine()):
            assert_right(await waiting, manuscript(3))


async def test_no_worker_is_said_after_a_grace_and_only_while_requests_wait(server_url: str) -> None:
    limits = Limits(worker_grace_s=0.4)
    async with producer(server_url, limits=limits) as portal:
        assert (await portal.pressure()).reason is None
        await asyncio.sleep(0.7)
        first = await portal.submit(manuscript(1), on_full="raise")  # nothing waited: it may start workers
        await portal.pressure()

        async def said() -> bool:
            return (await portal.pressure("bulk")).reason == "no_workers"

        await eventually(said)
        with pytest.raises(QueueFull, match="no worker has been alive") as refused:
            await portal.submit(manuscript(2), on_full="raise")
        assert refused.value.reason == "no_workers"
        waiting = asyncio.create_task(portal.rank(manuscript(2)))
        async with running(server_url, ScriptedEngine()):
            assert_right(await waiting, manuscript(2))
            assert_right(await portal.result(first), manuscript(1))


@contextlib.asynccontextmanager
async def small_server(
    directory: Path, mebibytes: float, *settings: Sequence[str]
) -> AsyncGenerator[tuple[str, Queue]]:
    """A server of its own, with so much memory to spare."""
    server = ValkeyProcess(directory)
    server.start()
    client = open_client(server.url)
    try:
        queue = Queue(client)
        used_bytes = (await queue.command("INFO", "memory"))["used_memory"]
        await queue.command("CONFIG", "SET", "maxmemory", used_bytes + round(mebibytes * 2**20))
        for setting in settings:
            await queue.command("CONFIG", "SET", *setting)
        yield server.url, queue
    finally:
        await client.aclose()
        server.kill()


async def test_a_full_server_refuses_clearly_loses_nothing_and_drains(tmp_path: Path) -> None:
    limits, tickets = Limits(memory_share=1.0), list[Ticket]()
    async with small_server(tmp_path, 0.7) as (url, queue), producer(url, limits=limits) as portal:
        refused: list[BaseException] = []
        while not refused:
            batch = (portal.submit(manuscript(n), on_full="raise", candidates=40) for n in range(20))
            done = await asyncio.gather(*batch, return_exceptions=True)
            tickets += [ticket for ticket in done if isinstance(ticket, Ticket)]
            refused = [error for error in done if isinstance(error, BaseException)]
        assert all(isinstance(error, QueueFull) and error.reason == "memory" for error in refused)
        assert "raise `maxmemory`" in str(refused[0])
        assert len(tickets) == await queue.left() > 100
        # Waiting is what helps: for the operator, or for results to run out.
        await queue.command("CONFIG", "SET", "maxmemory", 1_000_000)
        waiting = asyncio.create_task(portal.submit(manuscript(77), candidates=40, deadline_s=60))
        with pytest.raises(QueueFull, match="maxmemory"):
            await portal.rank(manuscript(78), deadline_s=0.3)
        assert await portal.cancel(tickets.pop()) == "cancelled"
        # A full server takes nothing new, and yet everything that it has taken comes to its end.
        await run_burst(url, ScriptedEngine())
        assert await queue.left() == 0
        assert not waiting.done()
        await queue.command("CONFIG", "SET", "maxmemory", 0)
        last = await waiting
        await run_burst(url, ScriptedEngine())
        for ticket in tickets:
            assert len(await portal.result(ticket, timeout_s=0)) == 10
        assert_right(await portal.result(last, timeout_s=0), manuscript(77), candidates=40)


async def test_producers_that_learn_early_never_fill_the_server(tmp_path: Path) -> None:
    async with small_server(tmp_path, 3) as (url, queue), contextlib.AsyncExitStack() as stack:
        portals = [await stack.enter_async_context(producer(url)) for _ in range(4)]
        for portal in portals:
            await portal.pressure()
        limit = (await queue.command("CONFIG", "GET", "maxmemory"))[1]
        accepted, refused = 0, list[BaseException]()
        for start in range(100):
            outcomes = await asyncio.gather(
                *(
                    portal.submit(manuscript(start), on_full="raise", lane=lane)
                    for portal in portals
                    for lane in ("interactive", "bulk")
                    for _ in range(10)
                ),
                return_exceptions=True,
            )
            refused = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
            accepted += len(outcomes) - len(refused)
            if refused:
                break
        assert all(isinstance(error, QueueFull) and error.reason == "memory" for error in refused), refused
        assert refused
        assert accepted > 100
        assert (await queue.command("INFO", "memory"))["used_memory"] < int(limit)
        assert "OOM" not in str(await queue.command("INFO", "errorstats"))


async def test_a_server_that_evicts_is_warned_about(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with small_server(tmp_path, 3, ("maxmemory-policy", "allkeys-lru")) as (url, queue):
        del queue
        async with producer(url) as portal:
            await portal.submit(manuscript())
            await portal.pressure()
            await portal.pressure()
    assert caplog.text.count("set it to noeviction") == 1


async def test_what_may_not_be_asked_for_holds_nothing_back(
    server_url: str, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    await queue.command("ACL", "SETUSER", "portal", "on", ">hush", "~*", "&*", "+@all", "-info", "-smembers")
    try:
        async with producer(server_url.replace("//", "//portal:hush@")) as portal:
            found = await portal.pressure()
            assert (found.reason, found.expected_wait_s) == (None, 0.0)
            await portal.submit(manuscript(), on_full="raise")
    finally:
        await queue.command("ACL", "DELUSER", "portal")
    assert "INFO" in caplog.text
    assert "hush" not in caplog.text


async def test_a_look_is_shared_and_takes_one_round_trip(server_url: str, queue: Queue) -> None:
    async with running(server_url, ScriptedEngine()), producer(server_url) as portal:
        await portal.rank(manuscript())
        await asyncio.gather(*(portal.pressure() for _ in range(50)))
        await queue.command("CONFIG", "RESETSTAT")
        await asyncio.gather(*(portal.submit(manuscript(n)) for n in range(100)))
        stats = await queue.command("INFO", "commandstats")
    assert stats.get("cmdstat_info", {"calls": 0})["calls"] <= 3


def test_the_sync_face_has_it_too(server_url: str, queue: Queue) -> None:
    del queue
    with sync_producer(server_url, limits=Limits(max_queued=1)) as portal:
        portal.submit(manuscript(1))
        assert portal.pressure("interactive").reason is None
        with pytest.raises(QueueFull, match="the bulk queue is full"):
            portal.submit(manuscript(2), on_full="raise")
        assert portal.cancel(portal.submit(manuscript(3), lane="interactive")) == "cancelled"
    assert KEYS.namespace == "test"
