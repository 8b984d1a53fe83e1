"""Cancelled and expired requests: whoever waits hears at once, and no engine works for what still waits."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.support.engine import ScriptedEngine
from tests.support.portal import assert_right, manuscript, producer
from tests.support.server import ValkeyProcess
from tests.support.world import KEYS, Queue, eventually, run_burst, running
from xuankan.errors import RequestCancelled, RequestExpired, WaitTimeout

pytestmark = pytest.mark.usefixtures("queue")
AT_ONCE_S = 1.0
"""Well before anybody would look by himself."""


def rows(engine: ScriptedEngine) -> int:
    return sum(count for count, _ in engine.batches)


async def held(queue: Queue) -> bool:
    """Whether a worker has read the last request."""
    entries = await queue.command("XREVRANGE", KEYS.stream("bulk"), "+", "-", "COUNT", 1)
    return bool(entries) and await queue.pending("bulk", entries[0][0]) is not None


async def test_what_waits_at_a_worker_is_dropped_before_it_costs_engine_time(
    server_url: str, queue: Queue
) -> None:
    engine = ScriptedEngine(contexts=1, max_batch=4)
    engine.gate.clear()
    async with running(server_url, engine), producer(server_url) as portal, producer(server_url) as other:
        first = await portal.submit(manuscript(1), candidates=4)
        await engine.wait_started()  # the only context is busy
        second = await portal.submit(manuscript(2), candidates=30)
        await eventually(lambda: held(queue))
        waiting = asyncio.create_task(portal.result(second))
        await asyncio.sleep(0)
        started_s = time.monotonic()
        assert await other.cancel(second) == "cancelled"
        with pytest.raises(RequestCancelled):
            await waiting
        assert time.monotonic() - started_s < AT_ONCE_S
        assert await queue.left() == 1
        await asyncio.sleep(0.1)  # for the worker to hear of it
        engine.gate.set()
        assert_right(await portal.result(first), manuscript(1), candidates=4)
        assert await other.cancel(second) == "finished"
    assert rows(engine) == 4


async def test_a_cancellation_while_it_runs_ends_it_and_its_scores_are_ignored(
    server_url: str, queue: Queue
) -> None:
    engine = ScriptedEngine(contexts=1)
    engine.gate.clear()
    async with running(server_url, engine), producer(server_url) as portal:
        ticket = await portal.submit(manuscript(1), candidates=4)
        await engine.wait_started()
        assert await portal.cancel(ticket) == "cancelled"
        with pytest.raises(RequestCancelled):
            await portal.result(ticket, timeout_s=0)
        engine.gate.set()
        assert_right(await portal.rank(manuscript(2)), manuscript(2))
        with pytest.raises(RequestCancelled):
            await portal.result(ticket, timeout_s=0)
    assert await queue.left() == 0


async def test_what_expires_at_a_worker_costs_no_engine_time_and_its_producer_hears(
    server_url: str, queue: Queue
) -> None:
    engine = ScriptedEngine(contexts=1, max_batch=4)
    engine.gate.clear()
    async with running(server_url, engine, lease_s=1.0), producer(server_url) as portal:
        first = await portal.submit(manuscript(1), candidates=4)
        await engine.wait_started()
        second = await portal.submit(manuscript(2), candidates=30, deadline_s=0.3)
        await eventually(lambda: held(queue))
        with pytest.raises(RequestExpired, match="deadline") as told:
            await portal.result(second, timeout_s=5)  # the context is still busy: the worker's clock ends it
        assert told.value.code == "deadline_exceeded"
        engine.gate.set()
        assert_right(await portal.result(first), manuscript(1), candidates=4)
    assert rows(engine) == 4


async def test_without_any_worker_a_deadline_ends_what_waits_in_time(server_url: str, queue: Queue) -> None:
    async with producer(server_url) as portal:
        started_s = time.monotonic()
        waits = (portal.rank(manuscript(n), deadline_s=0.3) for n in range(20))
        outcomes = await asyncio.gather(*waits, return_exceptions=True)
        assert time.monotonic() - started_s < 0.3 + AT_ONCE_S
        assert all(isinstance(outcome, RequestExpired) for outcome in outcomes)
    assert await queue.left() == 0


async def test_a_submitted_request_that_expired_with_no_worker_is_ended_by_the_first_that_comes(
    server_url: str, queue: Queue
) -> None:
    engine = ScriptedEngine()
    async with producer(server_url) as portal:
        ticket = await portal.submit(manuscript(), deadline_s=0.05)
        with pytest.raises(WaitTimeout):
            await portal.result(ticket, timeout_s=0.2)
        await run_burst(server_url, engine)
        with pytest.raises(RequestExpired):
            await portal.result(ticket, timeout_s=0)
    assert (await queue.left(), rows(engine)) == (0, 0)


async def test_a_cancellation_rides_through_a_restart_of_the_server(own_server: ValkeyProcess) -> None:
    own_server.start()
    async with producer(own_server.url) as portal:
        ticket = await portal.submit(manuscript())
        own_server.kill()
        cancelling = asyncio.create_task(portal.cancel(ticket))
        await asyncio.sleep(0.1)
        own_server.start()
        assert await cancelling == "cancelled"
        with pytest.raises(RequestCancelled):
            await portal.result(ticket, timeout_s=0)
