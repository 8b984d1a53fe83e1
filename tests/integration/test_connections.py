"""Connections are lent fairly, and none is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
from itertools import pairwise
from typing import Any, cast

import pytest

from tests.support.engine import ScriptedEngine
from tests.support.world import config, eventually, served_model
from xuankan.transport.client import open_client
from xuankan_worker.worker import Worker


async def test_connections_are_lent_in_the_order_of_asking(server_url: str) -> None:
    """Whoever asks again waits behind all that wait already, so that nobody waits for ever."""
    client = open_client(server_url, connections=2)
    turns: list[int] = []

    async def ask() -> None:
        for turn in range(5):
            await cast(Any, client).execute_command("PING")
            turns.append(turn)

    await asyncio.gather(*(ask() for _ in range(30)))
    await client.aclose()
    # Two connections: the last of a turn may be overtaken by the first of the next.
    assert all(before <= after + 1 for before, after in pairwise(turns))
    assert [turns.count(turn) for turn in range(5)] == [30] * 5
    assert max(turns[:30]) <= 1


async def test_a_client_that_is_closed_while_it_connects_leaves_no_connection() -> None:
    """The peer accepts and says nothing, then takes nothing: what is closed is closed all the same."""
    ends: list[asyncio.Task[bytes]] = []

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        end = asyncio.create_task(reader.read())
        ends.append(end)
        with contextlib.suppress(OSError):
            await end
        writer.close()

    listener = await asyncio.start_server(hold, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    client = open_client(f"redis://user:secret@127.0.0.1:{port}/3")

    async def ask() -> None:
        await cast(Any, client).execute_command("PING")

    asking = [asyncio.create_task(ask()) for _ in range(3)]
    await eventually(lambda: len(ends) == 3)
    asking[0].cancel()
    await client.aclose()
    await asyncio.wait(asking, timeout=5)
    assert all(task.done() for task in asking)
    for task in asking:
        assert task.cancelled() or task.exception() is not None
    await asyncio.wait(ends, timeout=5)
    assert all(end.done() for end in ends)
    listener.close()


async def test_a_worker_cancelled_at_any_moment_leaves_no_connection(
    server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unclosed connections raise ResourceWarnings, which are errors in these tests."""
    chance = random.Random(5)
    opened: list[Any] = []
    original = asyncio.open_connection

    async def open_connection(*args: Any, **options: Any) -> Any:
        reader, writer = await original(*args, **options)
        opened.append(writer)
        return reader, writer

    monkeypatch.setattr(asyncio, "open_connection", open_connection)
    for _ in range(25):
        worker = await Worker(config(server_url), served_model(ScriptedEngine())).__aenter__()
        waiting = asyncio.create_task(worker.wait())
        await asyncio.sleep(chance.random() * 0.02)
        mains = [task for task in asyncio.all_tasks() if "_serve" in repr(task.get_coro())]
        for task in mains:
            task.cancel()
        await asyncio.wait([waiting, *mains])
        gc.collect()
    assert opened
    assert all(writer.transport.is_closing() for writer in opened)
