"""Behind Sentinels: found, followed through a failover, and nothing lost that anybody can see."""

from __future__ import annotations

import asyncio
import logging

import pytest

from tests.support.engine import ScriptedEngine
from tests.support.portal import assert_right, manuscript, producer
from tests.support.topology import sentinel_set, tell
from tests.support.world import KEYS, eventually, running
from xuankan.embedded.servers import free_port
from xuankan.errors import ServerUnavailable


async def test_a_failover_is_ridden_through_and_loses_nothing_visible(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    engine = ScriptedEngine()
    async with sentinel_set() as servers:
        master, replica = servers.servers
        assert await servers.master() == master.tcp_url
        # The first Sentinel of the URL may be gone too.
        dead = f"redis+sentinel://127.0.0.1:{free_port()},"
        url = servers.url.replace("redis+sentinel://", dead)
        async with producer(url) as portal, running(url, engine):
            assert_right(await portal.rank(manuscript(0), candidates=3), manuscript(0), candidates=3)
            engine.gate.clear()
            waiting = [asyncio.create_task(portal.rank(manuscript(n), candidates=3)) for n in range(1, 9)]
            await eventually(lambda: _queued(master.tcp_url, 8))
            # A request that the replica never gets, as if the master had died before it sent it.
            await tell(replica.tcp_url, "REPLICAOF", "127.0.0.1", free_port())
            late = asyncio.create_task(portal.rank(manuscript(9), candidates=3))
            await eventually(lambda: _queued(master.tcp_url, 9))
            await asyncio.to_thread(master.kill)
            engine.gate.set()
            for number, task in enumerate([*waiting, late], 1):
                assert_right(await task, manuscript(number), candidates=3)
            assert await servers.master() == replica.tcp_url
            # The old master comes back and thinks that it still is the master; nobody else does.
            await asyncio.to_thread(master.start)
            assert (await tell(master.tcp_url, "ROLE"))[0] == b"master"
            assert_right(await portal.rank(manuscript(10), candidates=3), manuscript(10), candidates=3)
    ours = [
        text
        for text in caplog.messages
        if "server" in text or "cannot be reached" in text or "is available again" in text
    ]
    assert len(ours) == len(set(ours)) <= 4, ours


async def test_without_any_sentinel_the_error_names_what_was_sought() -> None:
    url = f"redis+sentinel://user:hush@127.0.0.1:{free_port()}/nowhere/0"
    with pytest.raises(ServerUnavailable, match="no Sentinel knows where the master 'nowhere' is") as caught:
        async with producer(url, server_timeout_s=0.3):
            pass
    assert "hush" not in str(caught.value)


async def _queued(url: str, count: int) -> bool:
    return int(await tell(url, "XLEN", KEYS.stream("interactive"))) == count
