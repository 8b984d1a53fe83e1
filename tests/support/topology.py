"""Servers in formation: a master with a replica and Sentinels, and a Cluster."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any, cast

from tests.support.world import KEYS, eventually
from xuankan.embedded.process import Child
from xuankan.embedded.servers import EmbeddedServer, free_port
from xuankan.errors import ServerUnavailable
from xuankan.transport.client import open_client

MASTER = "shard"
_SLOTS = 16384


async def tell(url: str, *command: Any) -> Any:
    """Run one command on one server."""
    client = open_client(url)
    try:
        return await cast(Any, client).execute_command(*command)
    finally:
        await client.aclose()


class Sentinel(Child):
    """A Sentinel that watches a master and gives it up after half a second."""

    _what = "the sentinel"
    _error = ServerUnavailable
    _start_timeout_s = 20.0
    _stop_timeout_s = 5.0

    def __init__(self, binary: Path, master_port: int, quorum: int) -> None:
        super().__init__()
        self._binary = binary
        self._watched = (master_port, quorum)
        self.port = free_port()

    def _command(self, directory: Path) -> Sequence[str]:
        config = directory / "sentinel.conf"
        port, quorum = self._watched
        if not config.exists():
            config.write_text(
                f"port {self.port}\nbind 127.0.0.1\ndir {directory}\n"
                f"sentinel monitor {MASTER} 127.0.0.1 {port} {quorum}\n"
                f"sentinel down-after-milliseconds {MASTER} 500\n"
                f"sentinel failover-timeout {MASTER} 2000\n"
            )
        return [str(self._binary), str(config), "--sentinel"]

    def _is_ready(self) -> bool:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self.port), 1) as connection,
        ):
            connection.sendall(b"PING\r\n")
            return connection.recv(5) == b"+PONG"
        return False


class SentinelSet:
    """A master, a replica of it, and three Sentinels."""

    def __init__(self, servers: Sequence[EmbeddedServer], sentinels: Sequence[Sentinel]) -> None:
        self.servers = servers
        self.sentinels = sentinels

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/{MASTER}/0"

    async def master(self) -> str:
        """URL of the master, as the first Sentinel sees it."""
        _, port = await tell(
            f"redis://127.0.0.1:{self.sentinels[0].port}", "SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER
        )
        return f"redis://127.0.0.1:{port.decode()}"


@contextlib.asynccontextmanager
async def sentinel_set() -> AsyncGenerator[SentinelSet]:
    async with contextlib.AsyncExitStack() as stack:
        master = await stack.enter_async_context(EmbeddedServer(port=0))
        port = int(master.tcp_url.rpartition(":")[2])
        options = ("--replicaof", "127.0.0.1", str(port))
        replica = await stack.enter_async_context(EmbeddedServer(port=0, options=options))
        await eventually(lambda: _is_synced(replica))
        sentinels = [
            await stack.enter_async_context(Sentinel(master.binary, port, quorum=2)) for _ in range(3)
        ]
        found = SentinelSet([master, replica], sentinels)
        for sentinel in sentinels:
            await eventually(lambda s=sentinel: _knows_all(s))
        yield found


async def _is_synced(replica: EmbeddedServer) -> bool:
    return (await tell(replica.tcp_url, "INFO", "replication")).get("master_link_status") == "up"


async def _knows_all(sentinel: Sentinel) -> bool:
    words = await tell(f"redis://127.0.0.1:{sentinel.port}", "SENTINEL", "MASTER", MASTER)
    facts = dict(zip(words[::2], words[1::2], strict=True))
    return (facts[b"num-slaves"], facts[b"num-other-sentinels"]) == (b"1", b"2")


class ClusterNodes:
    """Three masters with a third of the slots each, and a replica of the one that has the shard."""

    def __init__(self, nodes: Sequence[EmbeddedServer], owner: int) -> None:
        self.nodes = nodes
        self.owner = owner

    @property
    def url(self) -> str:
        """Names one node only, and not the one that has the shard."""
        return self.nodes[(self.owner + 1) % 3].tcp_url.replace("redis://", "redis+cluster://")


@contextlib.asynccontextmanager
async def cluster(binary: Path | None = None) -> AsyncGenerator[ClusterNodes]:
    async with contextlib.AsyncExitStack() as stack:
        nodes: list[EmbeddedServer] = []
        buses: list[int] = []
        for _ in range(4):
            buses.append(free_port())
            options = ("--cluster-enabled", "yes", "--cluster-port", str(buses[-1]))
            timing = ("--cluster-node-timeout", "1000", "--repl-diskless-sync-delay", "0")
            # A node of a Cluster keeps what it knows of the others in its directory.
            server = EmbeddedServer(port=0, binary=binary, options=(*options, *timing))
            nodes.append(await stack.enter_async_context(server))
        for number, node in enumerate(nodes[:3]):
            first, end = number * _SLOTS // 3, (number + 1) * _SLOTS // 3
            await tell(node.tcp_url, "CLUSTER", "ADDSLOTSRANGE", first, end - 1)
        for node, bus in zip(nodes[1:], buses[1:], strict=True):
            await tell(nodes[0].tcp_url, "CLUSTER", "MEET", "127.0.0.1", node.tcp_url.rpartition(":")[2], bus)
        for node in nodes:
            await eventually(lambda n=node: _is_whole(n))
        slot = int(await tell(nodes[0].tcp_url, "CLUSTER", "KEYSLOT", KEYS.workers))
        owner = min(2, slot * 3 // _SLOTS)
        name = (await tell(nodes[owner].tcp_url, "CLUSTER", "MYID")).decode()
        await tell(nodes[3].tcp_url, "CLUSTER", "REPLICATE", name)
        await eventually(lambda: _is_synced(nodes[3]))
        for node in nodes:
            await eventually(lambda n=node: _has_replica(n, owner * _SLOTS // 3))
        yield ClusterNodes(nodes, owner)


async def _is_whole(node: EmbeddedServer) -> bool:
    facts = await tell(node.tcp_url, "CLUSTER", "INFO")
    return b"cluster_state:ok" in facts and b"cluster_known_nodes:4" in facts


async def _has_replica(node: EmbeddedServer, slot: int) -> bool:
    ranges = await tell(node.tcp_url, "CLUSTER", "SLOTS")
    return any(first <= slot <= last and len(members) > 1 for first, last, *members in ranges)
