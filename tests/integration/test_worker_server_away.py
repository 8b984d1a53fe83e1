"""What a worker does when the server goes away, is full, or connections break."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from redis.exceptions import OutOfMemoryError

from tests.support.engine import ScriptedEngine
from tests.support.server import ValkeyProcess
from tests.support.world import KEYS, Queue, assert_ranked, eventually, request, run_burst, running
from xuankan.errors import InputError, ServerUnavailable
from xuankan.transport.client import open_client


@asynccontextmanager
async def producer(server: ValkeyProcess) -> AsyncGenerator[Queue]:
    client = open_client(server.url)
    yield Queue(client)
    await client.aclose()


def rows_run(engine: ScriptedEngine) -> int:
    return sum(rows for rows, _ in engine.batches)


async def test_the_server_need_not_be_there_at_the_start(
    own_server: ValkeyProcess, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with running(own_server.url, ScriptedEngine()) as worker:
        await eventually(lambda: "server unavailable; waiting for it" in caplog.messages)
        assert worker.not_ready() == "the Redis/Valkey server cannot be reached"
        own_server.start()
        async with producer(own_server) as queue:
            asked = request()
            await queue.push(asked)
            assert_ranked(await queue.result(asked), asked)
        await eventually(lambda: worker.not_ready() is None)
    assert caplog.messages == ["server unavailable; waiting for it", "server available again"]


async def test_a_worker_without_a_server_can_be_stopped(own_server: ValkeyProcess) -> None:
    async with asyncio.timeout(10), running(own_server.url, ScriptedEngine()):
        pass


async def test_a_restart_of_the_server_loses_nothing_and_no_row_is_run_twice(
    own_server: ValkeyProcess, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    own_server.start()
    asked = [request(lane="bulk" if n % 2 else "interactive") for n in range(6)]
    engine = ScriptedEngine()
    engine.gate.clear()
    async with running(own_server.url, engine) as worker:
        async with producer(own_server) as queue:
            await queue.push(*asked[:4])
            await engine.wait_started()
            await eventually(lambda: worker.status().in_flight == 4)
        own_server.kill()
        engine.gate.set()  # everything is scored while the server is away
        await eventually(lambda: rows_run(engine) == 4 * 40 and worker.status().waiting_rows == 0)
        await eventually(lambda: "server unavailable; waiting for it" in caplog.messages)
        own_server.start()
        async with producer(own_server) as queue:
            await queue.push(*asked[4:])
            for one in asked:
                assert_ranked(await queue.result(one), one)
            assert await queue.left() == 0
    assert rows_run(engine) == 6 * 40
    assert caplog.messages == ["server unavailable; waiting for it", "server available again"]


async def test_a_server_that_lost_everything_still_gets_what_is_held(own_server: ValkeyProcess) -> None:
    own_server.start()
    held, later = request(), request()
    engine = ScriptedEngine()
    engine.gate.clear()
    async with running(own_server.url, engine), producer(own_server) as queue:
        await queue.push(held)
        await engine.wait_started()
        await queue.command("FLUSHALL")
        engine.gate.set()
        assert_ranked(await queue.result(held), held)
        await queue.push(later)
        assert_ranked(await queue.result(later), later)


async def test_cut_connections_lose_nothing(server_url: str, queue: Queue) -> None:
    asked = [request() for _ in range(30)]
    async with running(server_url, ScriptedEngine(row_s=0.0002)):
        for one in asked:
            await queue.push(one)
            await queue.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await queue.command("CLIENT", "KILL", "TYPE", "pubsub")
            await queue.command("SCRIPT", "FLUSH")
        for one in asked:
            assert_ranked(await queue.result(one), one)
        await eventually(queue.is_empty)


async def test_a_full_server_is_drained(own_server: ValkeyProcess, caplog: pytest.LogCaptureFixture) -> None:
    """It takes no more requests, but results of those that it has: each gives back more than it needs."""
    caplog.set_level(logging.WARNING)
    own_server.start()
    asked = [request() for _ in range(3)]
    engine = ScriptedEngine()
    engine.gate.clear()
    async with running(own_server.url, engine) as worker, producer(own_server) as queue:
        await queue.push(*asked)
        await eventually(lambda: worker.status().in_flight == 3)
        await queue.command("CONFIG", "SET", "maxmemory", 1)
        engine.gate.set()
        for one in asked:
            assert_ranked(await queue.result(one), one)
        assert worker.not_ready() is None
        with pytest.raises(OutOfMemoryError):
            await queue.push(request())
    assert rows_run(engine) == 3 * 40
    assert caplog.messages == []


async def test_a_server_that_will_never_serve_us_ends_the_worker(server_url: str, queue: Queue) -> None:
    await queue.command("SET", KEYS.stream("bulk"), "another program's key")
    with pytest.raises(ServerUnavailable, match="WRONGTYPE"):
        await run_burst(server_url, ScriptedEngine())


async def test_secrets_of_the_url_are_not_logged(
    own_server: ValkeyProcess, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(own_server.url.replace("//", "//user:hush@"), ScriptedEngine()):
        await eventually(lambda: "server unavailable; waiting for it" in caplog.messages)
    assert not any("hush" in str(vars(record)) for record in caplog.records)
    with pytest.raises(InputError) as caught:
        open_client("http://user:hush@example.org")
    assert "hush" not in str(caught.value)
