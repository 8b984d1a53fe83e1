"""Many event streams: those that nothing happens to ask nothing of the server."""

from __future__ import annotations

import asyncio
import contextlib

from tests.support.engine import ScriptedEngine
from tests.support.gateway import calling, paper, states
from tests.support.world import Queue, running


async def calls(queue: Queue) -> int:
    """Scripts that the server ran."""
    found = await queue.command("INFO", "commandstats")
    return int(found["cmdstat_evalsha"]["calls"])


async def test_quiet_streams_are_looked_at_together(server_url: str, queue: Queue) -> None:
    """Fifteen by about as many calls as one."""

    async def asked(streams: int) -> int:
        async with calling(server_url) as client, contextlib.AsyncExitStack() as stack:
            followed: list[object] = []  # a generator that nobody holds is closed
            for number in range(streams):
                path = "/v1/rankings?wait_s=0"
                where = (await client.post(path, json=paper(number, lane="bulk"))).headers["location"]
                events = await stack.enter_async_context(states(client, f"{where}/events"))
                assert (await anext(events))[0] == "queued"
                followed.append(events)
            before = await calls(queue)
            await asyncio.sleep(3)  # what is measured is what happens while nothing does
            return await calls(queue) - before

    one, many = await asked(1), await asked(15)
    assert one > 3
    assert many < 2 * one + 10, (one, many)


async def test_a_stream_follows_a_ranking_of_another_portal(server_url: str) -> None:
    async with calling(server_url) as one, calling(server_url) as two:
        where = (await one.post("/v1/rankings?wait_s=0", json=paper())).headers["location"]
        async with states(two, f"{where}/events") as events:
            assert (await anext(events))[0] == "queued"
            async with running(server_url, ScriptedEngine()):
                assert [name async for name, _ in events][-1] == "done"
