"""On a Cluster: a shard lies on one node, which is found, and followed when it moves or dies."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.engine import ScriptedEngine
from tests.support.portal import assert_right, manuscript, producer
from tests.support.programs import need
from tests.support.topology import ClusterNodes, cluster, tell
from tests.support.world import KEYS, eventually, running
from xuankan.errors import ServerUnavailable


@pytest.mark.parametrize("kind", ["valkey", "redis"])
async def test_the_node_of_the_shard_dies_and_its_replica_takes_over(kind: str) -> None:
    binary = need("redis-server") if kind == "redis" else None
    engine = ScriptedEngine()
    async with cluster(binary) as found, producer(found.url) as portal, running(found.url, engine):
        owner, replica = found.nodes[found.owner], found.nodes[3]
        assert_right(await portal.rank(manuscript(0), candidates=3), manuscript(0), candidates=3)
        engine.gate.clear()
        waiting = [asyncio.create_task(portal.rank(manuscript(n), candidates=3)) for n in range(1, 6)]
        await eventually(lambda: _queued(owner.tcp_url, 5))
        await tell(owner.tcp_url, "WAIT", 1, 5000)
        await asyncio.to_thread(owner.kill)
        engine.gate.set()
        for number, task in enumerate(waiting, 1):
            assert_right(await task, manuscript(number), candidates=3)
        assert (await tell(replica.tcp_url, "ROLE"))[0] == b"master"


async def test_a_shard_that_moves_to_another_node_is_followed() -> None:
    async with cluster() as found, producer(found.url) as portal, running(found.url, ScriptedEngine()):
        assert_right(await portal.rank(manuscript(0), candidates=3), manuscript(0), candidates=3)
        heir = found.nodes[(found.owner + 2) % 3]
        waiting = [asyncio.create_task(portal.rank(manuscript(n), candidates=3)) for n in range(1, 6)]
        await _move(found, heir.tcp_url)
        waiting += [asyncio.create_task(portal.rank(manuscript(n), candidates=3)) for n in range(6, 11)]
        for number, task in enumerate(waiting, 1):
            assert_right(await task, manuscript(number), candidates=3)
        assert await tell(heir.tcp_url, "EXISTS", KEYS.workers) == 1


async def test_a_node_under_a_plain_url_is_refused_with_the_right_one() -> None:
    async with cluster() as found:
        with pytest.raises(ServerUnavailable, match=r"redis\+cluster://"):
            async with producer(found.nodes[(found.owner + 1) % 3].tcp_url) as portal:
                await portal.submit(manuscript())


async def _queued(url: str, count: int) -> bool:
    return int(await tell(url, "XLEN", KEYS.stream("interactive"))) == count


async def _move(found: ClusterNodes, heir: str) -> None:
    """Migrate the shard's slot key by key, as `valkey-cli --cluster reshard` does."""
    source = found.nodes[found.owner].tcp_url
    slot = int(await tell(source, "CLUSTER", "KEYSLOT", KEYS.workers))
    old, new = [(await tell(url, "CLUSTER", "MYID")).decode() for url in (source, heir)]
    await tell(heir, "CLUSTER", "SETSLOT", slot, "IMPORTING", old)
    await tell(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", new)
    host, port = heir.removeprefix("redis://").split(":")
    while keys := await tell(source, "CLUSTER", "GETKEYSINSLOT", slot, 100):
        await tell(source, "MIGRATE", host, port, "", 0, 5000, "KEYS", *keys)
    for url in (heir, source, *(node.tcp_url for node in found.nodes[:3])):
        await tell(url, "CLUSTER", "SETSLOT", slot, "NODE", new)
