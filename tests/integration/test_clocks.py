"""Wall clocks that are set while requests run: of the server, of a producer, of a worker."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path

import pytest

from tests.support import portal
from tests.support.clocks import SetClock
from tests.support.engine import ScriptedEngine
from tests.support.server import ValkeyProcess
from tests.support.world import KEYS, Queue, assert_ranked, eventually, request, running
from xuankan.portal.api_keys import Allowance, Caller
from xuankan.portal.limiter import Limiter
from xuankan.protocol.keys import GROUP
from xuankan.transport.client import open_client
from xuankan.transport.server import Server

HOUR_S = 3600.0
LEASE_S = 0.5


@pytest.fixture
def clock(tmp_path: Path) -> SetClock:
    """A clock to set."""
    return SetClock(tmp_path / "clock")


@pytest.fixture
def server(tmp_path: Path, clock: SetClock) -> Iterator[ValkeyProcess]:
    """A server that goes by `clock`."""
    server = ValkeyProcess(tmp_path, durable=True, environment=clock.environment)
    server.start()
    yield server
    server.kill()


@pytest.fixture
async def queue(server: ValkeyProcess) -> AsyncIterator[Queue]:
    client = open_client(server.url)
    yield Queue(client)
    await client.aclose()


@contextlib.contextmanager
def asking(url: str, deadline_s: float, clock: SetClock) -> Generator[subprocess.Popen[str]]:
    """A producer's process that goes by a clock."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.clocked_producer", url, str(deadline_s)],
        env={**os.environ, **clock.environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


async def ask(process: subprocess.Popen[str], number: int) -> str:
    """How the ranking of a manuscript ends there."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{number}\n")
    process.stdin.flush()
    return (await asyncio.to_thread(process.stdout.readline)).strip()


@pytest.mark.parametrize("seconds", [-HOUR_S, HOUR_S])
async def test_a_producer_whose_clock_is_set_keeps_its_deadlines(
    server_url: str, clock: SetClock, seconds: float
) -> None:
    async with running(server_url, ScriptedEngine()):
        with asking(server_url, 20, clock) as producer:
            assert await ask(producer, 1) == "ok"
            clock.step(seconds)
            assert await ask(producer, 2) == "ok"


@pytest.mark.parametrize("seconds", [-60.0, 60.0])
async def test_deadlines_are_by_the_clock_of_the_server_that_took_over(
    server: ValkeyProcess, clock: SetClock, seconds: float
) -> None:
    """As after a failover: at the same address there is another server, with the data and its own clock."""
    async with portal.producer(server.url) as producer, running(server.url, ScriptedEngine()):
        portal.assert_right(await producer.rank(portal.manuscript(1), deadline_s=20), portal.manuscript(1))
        server.kill()
        clock.step(seconds)
        server.start()
        for number in range(2, 6):
            ranking = await producer.rank(portal.manuscript(number), deadline_s=20)
            portal.assert_right(ranking, portal.manuscript(number))


async def test_a_request_at_a_worker_keeps_its_deadline_when_the_servers_clock_is_set(
    server: ValkeyProcess, clock: SetClock
) -> None:
    engine = ScriptedEngine(contexts=1)
    engine.gate.clear()
    async with (
        portal.producer(server.url) as producer,
        running(server.url, engine, lease_s=LEASE_S) as worker,
    ):
        ranking = asyncio.create_task(producer.rank(portal.manuscript(1), deadline_s=20))
        await engine.wait_started()
        clock.step(HOUR_S)
        await heartbeats(Queue(producer.server.redis), "worker-1", 4)  # so often it looked at its deadlines
        assert worker.status().in_flight == 1
        engine.gate.set()
        portal.assert_right(await ranking, portal.manuscript(1))


async def heartbeats(queue: Queue, name: str, count: int) -> None:
    """Wait for some heartbeats of a worker."""
    last: bytes | None = None
    for _ in range(count):
        before = last

        async def changed(before: bytes | None = before) -> bool:
            nonlocal last
            last = await queue.command("GET", KEYS.worker(name))
            return last is not None and last != before

        await eventually(changed)


async def test_a_server_whose_clock_is_set_back_does_not_keep_what_dead_workers_held(
    server: ValkeyProcess, clock: SetClock, queue: Queue
) -> None:
    asked = [request(length=20) for _ in range(12)]
    await queue.push(*asked)
    stream = KEYS.stream("interactive")
    await queue.command("XGROUP", "CREATE", stream, GROUP, "0", "MKSTREAM")
    await queue.command("XREADGROUP", "GROUP", GROUP, "dead", "COUNT", 12, "STREAMS", stream, ">")
    clock.step(-HOUR_S)
    async with running(server.url, ScriptedEngine(), lease_s=LEASE_S):
        for one in asked:  # each within half a minute, not after an hour
            result = await queue.result(one)
            assert_ranked(result, one)
            assert result.deliveries == 2


@pytest.mark.parametrize("seconds", [-HOUR_S, HOUR_S])
async def test_a_server_whose_clock_is_set_takes_nothing_away_from_the_living(
    server: ValkeyProcess, clock: SetClock, queue: Queue, seconds: float
) -> None:
    asked = request(candidates=range(8))
    slow, other = ScriptedEngine(contexts=1), ScriptedEngine()
    slow.gate.clear()
    async with running(server.url, slow, lease_s=LEASE_S):
        entry = await queue.push_raw(asked.encode(), asked.id)
        await slow.wait_started()
        async with running(server.url, other, name="other", lease_s=LEASE_S):
            await heartbeats(queue, "other", 3)
            clock.step(seconds)
            await heartbeats(queue, "other", 12)  # four leases
            pending = await queue.pending("interactive", entry)
            assert pending is not None
            assert (pending["consumer"], pending["times_delivered"]) == (b"worker-1", 1)
            slow.gate.set()
            assert_ranked(await queue.result(asked), asked)
    assert other.batches == []


async def test_a_server_whose_clock_is_set_back_does_not_lock_out_callers(
    server: ValkeyProcess, clock: SetClock
) -> None:
    caller = Caller("somebody", Allowance(rankings_per_minute=60, burst=3), anonymous=True)
    connection = Server(server.url, KEYS, 20)
    limiter = Limiter(connection, KEYS)
    try:
        before = [await limiter.take(caller, "192.0.2.1", "ranking", 1) for _ in range(2)]
        clock.step(-600.0)
        after = await limiter.take(caller, "192.0.2.1", "ranking", 1)
    finally:
        await connection.close()
    assert all(one is not None and one.allowed for one in (*before, after))
    assert after is not None
    assert after.reset_s <= 3
