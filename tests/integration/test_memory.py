"""What thousands of requests leave behind: nothing beyond its lifetime there, and nothing in the producer."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections import Counter
from pathlib import Path

from tests.support.engine import ScriptedEngine
from tests.support.portal import manuscript, producer
from tests.support.server import ValkeyProcess
from tests.support.world import KEYS, Queue, eventually, running
from xuankan import Producer
from xuankan.errors import RequestCancelled, RequestExpired
from xuankan.protocol.scripts import REPLY_TTL_MS, RESULT_TTL_MS, TICKET_TTL_MS
from xuankan.transport.client import open_client

LIFETIMES_MS = {"ticket": TICKET_TTL_MS, "result": RESULT_TTL_MS, "reply": REPLY_TTL_MS}
FOR_GOOD = {KEYS.stream("interactive"), KEYS.stream("bulk")}
"""Two streams, empty when nothing is queued."""


async def use(portal: Producer, count: int) -> Counter[str]:
    """Rank, cancel, let expire and give up; what became of the requests."""
    ends: Counter[str] = Counter()

    async def one(number: int) -> str:
        paper = manuscript(number)
        match number % 10:
            case 0:
                return await portal.cancel(await portal.submit(paper, candidates=1))
            case 1:
                with contextlib.suppress(RequestExpired):
                    await portal.rank(paper, candidates=1, deadline_s=0.001)
                return "deadline"
            case 2:
                with contextlib.suppress(TimeoutError, RequestCancelled):
                    await asyncio.wait_for(portal.rank(paper, candidates=1), 0.001)
                return "given up"
            case _:
                return "ranked" if len(await portal.rank(paper, candidates=2)) == 2 else "short"

    for start in range(0, count, 50):
        ends.update(await asyncio.gather(*(one(number) for number in range(start, start + 50))))
    return ends


async def used_bytes(queue: Queue) -> int:
    await queue.command("MEMORY", "PURGE")
    return int((await queue.command("INFO", "memory"))["used_memory_dataset"])


async def test_after_its_lifetimes_the_server_is_as_it_was(tmp_path: Path) -> None:
    server = ValkeyProcess(tmp_path)
    server.start()
    client = open_client(server.url)
    queue = Queue(client)
    async with running(server.url, ScriptedEngine(), lease_s=3.0):
        # A producer that closes has told the server of all that it gave up.
        async with producer(server.url) as portal:
            await use(portal, 50)
        await eventually(queue.is_empty)
        await expire_all(queue)
        baseline = await used_bytes(queue)
        async with producer(server.url) as portal:
            ends = await use(portal, 1500)
        assert ends["ranked"] == 1050
        assert not ends["short"]
        await eventually(queue.is_empty)
        full = await used_bytes(queue)
        await expire_all(queue)
        left = await used_bytes(queue)
    names = {key.decode() for key in await queue.command("KEYS", "*")}
    assert names <= FOR_GOOD, names  # the worker took its own name away
    assert full - baseline > 600_000
    assert left - baseline < 100_000 + 0.02 * (full - baseline), (baseline, full, left)
    await client.aclose()
    server.kill()


async def expire_all(queue: Queue) -> None:
    """Let the longest lifetime pass: every key has one, none longer than is stated."""
    for key in await queue.command("KEYS", "*"):
        name = key.decode()
        if name in FOR_GOOD or ":worker" in name:
            continue
        kind = name.split(":")[2]
        left_ms = await queue.command("PTTL", key)
        assert left_ms == -2 or 0 < left_ms <= LIFETIMES_MS[kind], (name, left_ms)
        await queue.command("PEXPIRE", key, 0)


async def test_a_producer_that_works_for_long_does_not_grow(server_url: str, queue: Queue) -> None:
    async with running(server_url, ScriptedEngine()), producer(server_url) as portal:
        idle = len(asyncio.all_tasks()) + 3

        async def objects() -> int:
            # What was given up is told to the server by tasks of its own.
            await eventually(lambda: len(asyncio.all_tasks()) <= idle)
            await eventually(queue.is_empty)
            gc.collect()
            return len(gc.get_objects())

        await use(portal, 300)
        before = await objects()
        await use(portal, 1000)
        after = await objects()
        assert after - before < 500, (before, after)  # less than one for two requests
