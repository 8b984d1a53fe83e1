"""The producer while its server restarts, forgets, stalls, refuses or is not there."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest

from tests.support.engine import ScriptedEngine
from tests.support.portal import assert_right, manuscript, producer, worker_process
from tests.support.server import ValkeyProcess, free_port
from tests.support.world import KEYS, Queue, eventually, running
from xuankan import Producer
from xuankan.errors import InputError, QueueFull, RequestError, ServerUnavailable, WaitTimeout
from xuankan.transport.client import open_client

NOT_BY_DEFAULT_S = 15
"""Long enough for a busy machine, and half of what a producer waits that was not told how long."""


async def test_no_server_at_start_is_said_within_the_stated_time() -> None:
    started_s = time.monotonic()
    with pytest.raises(ServerUnavailable, match="Is the server running"):
        async with producer(f"redis://user:hush@127.0.0.1:{free_port()}", server_timeout_s=0.5):
            pass
    assert 0.4 < time.monotonic() - started_s < NOT_BY_DEFAULT_S


async def test_a_server_that_never_answers_is_given_up_in_the_stated_time() -> None:
    async def ignore(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    listener = await asyncio.start_server(ignore, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    started_s = time.monotonic()
    with pytest.raises(ServerUnavailable, match="no answer"):
        async with producer(f"redis://127.0.0.1:{port}", server_timeout_s=0.5):
            pass
    # Closing may wait a moment for the command that is still on its way.
    assert time.monotonic() - started_s < NOT_BY_DEFAULT_S
    listener.close()


async def test_what_is_no_redis_server_is_said_to_be_none() -> None:
    async def speak_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(speak_http, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        with pytest.raises(ServerUnavailable, match="refuses"):
            async with producer(f"redis://127.0.0.1:{port}"):
                pass


async def test_a_wrong_password_is_no_reason_to_wait_and_is_not_repeated(
    server_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    url = server_url.replace("//", "//nobody:hush@")
    started_s = time.monotonic()
    with pytest.raises(ServerUnavailable, match="refuses") as caught:
        async with producer(url):
            pass
    assert time.monotonic() - started_s < 5
    assert "hush" not in str(caught.value) + caplog.text
    with pytest.raises(InputError) as wrong:
        Producer("http://user:hush@localhost")
    assert "hush" not in str(wrong.value)


async def test_a_restart_of_the_server_is_ridden_through(
    own_server: ValkeyProcess, caplog: pytest.LogCaptureFixture
) -> None:
    own_server.start()
    async with producer(own_server.url) as portal:
        early = asyncio.create_task(portal.result(await portal.submit(manuscript(1))))
        ticket = await portal.submit(manuscript(2))
        own_server.kill()
        late = asyncio.create_task(portal.rank(manuscript(3)))
        await eventually(lambda: "cannot be reached, retrying" in caplog.text)
        own_server.start()
        async with running(own_server.url, ScriptedEngine()):
            assert_right(await early, manuscript(1))
            assert_right(await portal.result(ticket), manuscript(2))
            assert_right(await late, manuscript(3))
    assert caplog.text.count("cannot be reached, retrying") == 1


async def test_what_the_server_forgot_is_submitted_again(server_url: str, queue: Queue) -> None:
    async with producer(server_url) as portal:
        waiting = asyncio.create_task(portal.rank(manuscript(4)))
        await eventually(lambda: _some(queue))
        await queue.command("FLUSHALL")
        async with running(server_url, ScriptedEngine()):
            assert_right(await waiting, manuscript(4))


async def test_scripts_that_the_server_forgot_are_sent_again(server_url: str, queue: Queue) -> None:
    async with producer(server_url) as portal:
        for _ in range(2):
            ticket = await portal.submit(manuscript())
            await queue.command("SCRIPT", "FLUSH")
            assert await portal.cancel(ticket) == "cancelled"
            await queue.command("SCRIPT", "FLUSH")


async def test_a_lost_reply_costs_time_but_no_ranking(server_url: str, queue: Queue) -> None:
    async with producer(server_url) as portal:
        ticket = await portal.submit(manuscript(5))
        address = (await queue.command("GET", KEYS.ticket(ticket.request_id))).decode().split(" ")[2]
        # A thief who waits at the reply list before the producer does gets the reply first.
        thief = asyncio.create_task(queue.command("BLPOP", KEYS.reply(address), 20))
        await eventually(lambda: _blocked(server_url))
        async with running(server_url, ScriptedEngine()):
            assert_right(await portal.result(ticket, timeout_s=20), manuscript(5))
        assert (await thief)[1].decode() == ticket.request_id


async def test_connections_cut_again_and_again_lose_and_double_nothing(server_url: str, queue: Queue) -> None:
    engine = ScriptedEngine()
    async with running(server_url, engine), producer(server_url) as portal:
        cutting = asyncio.create_task(_keep_cutting(queue))
        rankings = await asyncio.gather(*(portal.rank(manuscript(n), candidates=3) for n in range(40)))
        cutting.cancel()
    for number, ranking in enumerate(rankings):
        assert_right(ranking, manuscript(number), candidates=3)
    assert sum(rows for rows, _ in engine.batches) == 40 * 3


async def test_a_deadline_holds_while_the_server_is_away(own_server: ValkeyProcess) -> None:
    own_server.start()
    async with producer(own_server.url) as portal:
        waiting = asyncio.create_task(portal.rank(manuscript(), deadline_s=1.0))
        await asyncio.sleep(0.3)
        own_server.kill()
        started_s = time.monotonic()
        with pytest.raises(WaitTimeout, match="server cannot be reached"):
            await waiting
        assert time.monotonic() - started_s < NOT_BY_DEFAULT_S


async def test_full_memory_refuses_clearly_and_keeps_what_is_there(server_url: str, queue: Queue) -> None:
    async with producer(server_url) as portal:
        ticket = await portal.submit(manuscript(6))
        await queue.command("CONFIG", "SET", "maxmemory", "1mb")
        try:
            with pytest.raises(QueueFull, match="maxmemory"):
                await portal.submit(manuscript(7), deadline_s=0.5)
        finally:
            await queue.command("CONFIG", "SET", "maxmemory", "0")
        async with running(server_url, ScriptedEngine()):
            assert_right(await portal.result(ticket), manuscript(6))


async def test_a_worker_that_dies_delays_its_requests_only(server_url: str, queue: Queue) -> None:
    async with producer(server_url) as portal:
        with worker_process(server_url) as worker:
            first = await portal.rank(manuscript(8))
            os.kill(worker.pid, signal.SIGSTOP)
            waiting = asyncio.create_task(portal.rank(manuscript(9)))
            await eventually(lambda: _some(queue))
        async with running(server_url, ScriptedEngine(), name="other", lease_s=0.5):
            second = await waiting
    assert_right(first, manuscript(8))
    assert_right(second, manuscript(9))


async def test_garbage_in_the_place_of_a_result_is_an_error_and_no_hang(
    server_url: str, queue: Queue
) -> None:
    async with producer(server_url) as portal:
        await queue.command("HSET", KEYS.result("odd"), "body", b"\xc1garbage", "committed_ms", "1.0")
        await queue.command("EXPIRE", KEYS.result("odd"), 60)
        with pytest.raises(Exception, match="message") as caught:
            await portal.result("odd")
        assert not isinstance(caught.value, RequestError)


async def _some(queue: Queue) -> bool:
    return await queue.left() > 0


async def _blocked(url: str) -> bool:
    """Whether anybody waits at a list."""
    client = open_client(url)
    try:
        return b"cmd=blpop" in await Queue(client).command("CLIENT", "LIST", "TYPE", "normal")
    finally:
        await client.aclose()


async def _keep_cutting(queue: Queue) -> None:
    while True:
        await queue.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await asyncio.sleep(0.05)
