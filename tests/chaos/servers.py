"""The servers of a run: one Valkey or Redis, or a Cluster of three; each behind a proxy of its own."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any, Final, Literal, cast

from redis.asyncio import Connection, Redis
from redis.exceptions import RedisError

from tests.chaos.world import KEYS
from tests.support.clocks import set_clock, settable
from tests.support.proxy import Proxy
from xuankan.embedded.servers import EmbeddedServer, free_port
from xuankan.transport.client import is_passing

Kind = Literal["valkey", "redis", "cluster"]
REDIS_BINARY: Final = Path("/usr/bin/redis-server")
_NODES: Final = 3
_SLOTS: Final = 16384


class Servers:
    """Durable servers that can be killed and started again on their data."""

    def __init__(self, kind: Kind, directory: Path) -> None:
        self.kind: Kind = kind
        self._directory = directory
        self._nodes: list[EmbeddedServer] = []
        self.proxies: list[Proxy] = []
        self._direct: Redis | None = None
        self._owner = 0
        self.clock: Path | None = None
        """What sets the servers' clock; None where that cannot be done."""
        self._ports: list[int] = []

    async def start(self) -> None:
        """Start everything; `url` is what producers and workers connect to."""
        if environment := settable(clock := self._directory / "server-clock"):
            set_clock(clock, 0.0)
            self.clock = clock
            # Whatever is started from now on has a clock that can be set, and most get one of their own.
            os.environ.update({**environment, "FAKETIME_CACHE_DURATION": "1"})
        count = _NODES if self.kind == "cluster" else 1
        for number in range(count):
            port = free_port()
            self._ports.append(port)
            proxy = Proxy(port)
            await proxy.start()
            self.proxies.append(proxy)
            options = ["--notify-keyspace-events", "Kh"]
            if self.kind == "cluster":
                options += ["--cluster-enabled", "yes", "--cluster-require-full-coverage", "no"]
                options += ["--cluster-announce-ip", "127.0.0.1", "--cluster-port", str(free_port())]
                options += ["--cluster-announce-port", str(proxy.port), "--cluster-node-timeout", "2000"]
            node = EmbeddedServer(
                self._directory / f"node-{number}",
                port=port,
                binary=REDIS_BINARY if self.kind == "redis" else None,
                options=options,
            )
            await asyncio.to_thread(node.start)
            self._nodes.append(node)
        if self.kind == "cluster":
            await self._meet()
        self._direct = self._client(self._owner)

    @property
    def url(self) -> str:
        """The servers' address, through the proxies."""
        if self.kind == "cluster":
            nodes = ",".join(f"127.0.0.1:{proxy.port}" for proxy in self.proxies)
            return f"redis+cluster://{nodes}"
        return f"redis://127.0.0.1:{self.proxies[0].port}/0"

    @property
    def direct(self) -> Redis:
        """A client of the server that holds the shard, past the proxy."""
        assert self._direct is not None
        return self._direct

    def connection(self) -> Connection:
        """A bare connection to that server, which is never made anew behind one's back."""
        return Connection(host="127.0.0.1", port=self._ports[self._owner], protocol=2)

    async def command(self, *command: Any, **parsing: Any) -> Any:
        """Run a command past the proxy, once the server is there; only what may be done twice."""
        until_s = time.monotonic() + 60
        while True:
            try:
                return await cast(Any, self.direct).execute_command(*command, **parsing)
            except (RedisError, OSError) as error:
                if not is_passing(error) or time.monotonic() > until_s:
                    raise
                await asyncio.sleep(0.05)

    async def kill(self) -> None:
        """End the server that holds the shard without giving it a chance to save anything."""
        await asyncio.to_thread(self._nodes[self._owner].kill)

    async def restart(self) -> None:
        """Start it again on its data."""
        await asyncio.to_thread(self._nodes[self._owner].start)

    async def close(self) -> None:
        if self._direct is not None:
            await self._direct.aclose()
        for proxy in self.proxies:
            await proxy.close()
        for node in self._nodes:
            await asyncio.to_thread(node.close)
        if self.clock is not None:
            for name in (*settable(self.clock), "FAKETIME_CACHE_DURATION"):
                os.environ.pop(name, None)

    def _client(self, number: int) -> Redis:
        return cast(Any, Redis).from_url(self._nodes[number].tcp_url, protocol=2)

    async def _meet(self) -> None:
        clients = [self._client(number) for number in range(_NODES)]
        for number, client in enumerate(clients):
            command = cast(Any, client).execute_command
            first, end = number * _SLOTS // _NODES, (number + 1) * _SLOTS // _NODES
            await command("CLUSTER", "ADDSLOTSRANGE", first, end - 1)
            if number:
                bus = int((await cast(Any, clients[0]).config_get("cluster-port"))["cluster-port"])
                port = int((await cast(Any, clients[0]).config_get("port"))["port"])
                await command("CLUSTER", "MEET", "127.0.0.1", port, bus)
        until_s = time.monotonic() + 30
        for client in clients:
            while True:
                info = await cast(Any, client).execute_command("CLUSTER INFO")
                if info.get("cluster_state") == "ok" and int(info["cluster_known_nodes"]) == _NODES:
                    break
                assert time.monotonic() < until_s, info
                await asyncio.sleep(0.1)
        slot = int(await cast(Any, clients[0]).execute_command("CLUSTER", "KEYSLOT", KEYS.dead))
        self._owner = min(_NODES - 1, slot * _NODES // _SLOTS)
        for client in clients:
            await client.aclose()
