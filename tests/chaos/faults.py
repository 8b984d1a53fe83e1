"""Makes what the plan says go wrong."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, Final, cast

import msgpack
from redis.exceptions import RedisError

from tests.chaos.fleet import START_S, Fleet, Member
from tests.chaos.plan import Fault
from tests.chaos.servers import Servers
from tests.chaos.watch import Recoveries
from tests.chaos.world import KEYS, OPTIONS, manuscript, preparer
from tests.support.clocks import set_clock
from tests.support.proxy import chosen
from xuankan.protocol.keys import LANES, Lane
from xuankan.protocol.wire import MAX_REQUEST_BYTES

_RESTARTS: Final = 6
_LEAST_DELAY_S, _MOST_DELAY_S = 0.0025, 0.1
"""Of every byte in each direction: round trips of 5 to 200 ms."""
_TOO_MUCH_BYTES: Final = 65_536
_AFTERMATH_S: Final = 2.5
"""How long everybody's pauses between attempts may last once the server is back."""

Malformed = tuple[str, str | None, Lane, str]
"""The variant of a malformed entry, the request id that it names, its lane, its id in the lane's stream."""


class Faults:
    """Injects faults; `log(fact)` is told of each when it happens."""

    def __init__(
        self, servers: Servers, fleet: Fleet, recoveries: Recoveries, log: Callable[[dict[str, Any]], None]
    ) -> None:
        self._servers = servers
        self._fleet = fleet
        self._recoveries = recoveries
        self._log = log
        self._server = asyncio.Lock()
        self.done: Counter[str] = Counter()
        self.malformed: list[Malformed] = []

    async def inject(self, fault: Fault, number: int) -> None:
        """Do it, and what undoes it."""
        self._log({"did": fault.kind, "at": fault.at, "unix_s": round(time.time(), 3)})
        match fault.kind:
            case "worker killed":
                one = await self._someone(fault.target)
                self._fleet.kill(one, fault.for_s, fault.variant == "new name")
            case "worker paused":
                one = await self._someone(fault.target)
                trouble = self._recoveries.trouble(one.name)
                await self._fleet.pause(one, fault.for_s)
                trouble.over(START_S)
            case "producer killed":
                one = self._fleet.living(self._fleet.producers, fault.target)
                if one is None:
                    return  # they have asked everything
                self._fleet.kill(one, 0.1, False)
            case "server killed":
                await self._disturb(self._kill_server(fault.for_s))
            case "connections cut":
                for link in chosen(self._servers.proxies, fault.share, fault.target):
                    link.cut()
            case "connections stalled":
                await self._disturb(self._stall(fault))
            case "replies dropped":
                for link in chosen(self._servers.proxies, fault.share, fault.target):
                    link.drop_reply()
            case "scripts flushed":
                await self._servers.command("SCRIPT", "FLUSH")
            case "malformed entry":
                await self._push(fault, number)
            case "restart loop":
                await self._fleet.restart_over_and_over(await self._someone(fault.target), _RESTARTS)
            case "two of one name":
                one = await self._someone(fault.target)
                trouble = self._recoveries.trouble(f"namesake of {one.name}")
                await self._fleet.run_namesake(one, fault.for_s)
                trouble.over(START_S)
            case "memory limited":
                one = await self._someone(fault.target)
                trouble = self._recoveries.trouble(f"memory of {one.name}")
                await self._fleet.limit_memory(one, fault.for_s)
                trouble.over(START_S)
            case "network slow":
                await self._disturb(self._slow(fault))
            case "server full":
                await self._disturb(self._fill(fault.for_s))
            case "server clock set" | "worker clock set" | "producer clock set":
                if not self._set_clock(fault):
                    return
        self.done[fault.kind] += 1

    async def _someone(self, target: int) -> Member:
        while (one := self._fleet.living(self._fleet.workers, target)) is None:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        return one

    async def _disturb(self, what: Coroutine[Any, Any, None]) -> None:
        trouble = self._recoveries.trouble("server")
        await what
        trouble.over(_AFTERMATH_S)

    async def _kill_server(self, for_s: float) -> None:
        async with self._server:
            await self._servers.kill()
            await asyncio.sleep(for_s)
            await self._servers.restart()

    async def _slow(self, fault: Fault) -> None:
        for proxy in self._servers.proxies:
            proxy.delay_s = _LEAST_DELAY_S + fault.share * (_MOST_DELAY_S - _LEAST_DELAY_S)
        await asyncio.sleep(fault.for_s)
        for proxy in self._servers.proxies:
            proxy.delay_s = 0.0

    async def _fill(self, for_s: float) -> None:
        """Let the server have no byte more than it uses."""
        async with self._server:
            used = int((await self._servers.command("INFO", "memory"))["used_memory"])
            await self._servers.command("CONFIG", "SET", "maxmemory", max(1, used - _TOO_MUCH_BYTES))
            await asyncio.sleep(for_s)
            await self._servers.command("CONFIG", "SET", "maxmemory", 0)

    def _set_clock(self, fault: Fault) -> bool:
        """False where clocks cannot be set here."""
        if fault.kind == "server clock set":
            file = self._servers.clock
        else:
            members = self._fleet.workers if fault.kind == "worker clock set" else self._fleet.producers
            file = self._fleet.clock(members[fault.target % len(members)])
        if file is None:
            return False
        set_clock(file, fault.for_s)
        return True

    async def _stall(self, fault: Fault) -> None:
        links = chosen(self._servers.proxies, fault.share, fault.target)
        for link in links:
            link.stall()
        await asyncio.sleep(fault.for_s)
        for link in links:
            link.resume()

    async def _push(self, fault: Fault, number: int) -> None:
        lane = LANES[fault.target % len(LANES)]
        for attempt in range(100):
            request_id, fields = malformed(fault.variant, f"bad-{number}-{attempt}")
            try:
                async with self._server:
                    entry = await cast(Any, self._servers.direct).execute_command(
                        "XADD", KEYS.stream(lane), "*", *fields
                    )
            except (RedisError, OSError):
                continue  # it may be there or not; only what the server acknowledged counts
            self.malformed.append((fault.variant, request_id, lane, entry.decode()))
            return


def malformed(variant: str, name: str) -> tuple[str | None, list[bytes | str]]:
    """An entry that holds no request that could be scored: the id it names, if any, and its fields."""
    noise = name.encode() + bytes(range(256))
    good = preparer().request(manuscript(1, None), OPTIONS, request_id=name, reply="nobody", now_ms=1e12)
    message: dict[str, Any] = msgpack.unpackb(good.encode())
    match variant:
        case "noise":
            return None, ["request", noise]
        case "noise with an id":
            return name, ["id", name, "request", noise]
        case "no request":
            return name, ["id", name]
        case "no fields we know":
            return None, ["what", "ever", name, noise]
        case "another version":
            return name, ["id", name, "request", msgpack.packb(message | {"v": 99})]
        case "another id inside":
            return name, ["id", name, "request", msgpack.packb(message | {"id": name + "-x"})]
        case "too large":
            return name, ["id", name, "request", bytes(MAX_REQUEST_BYTES + 1)]
        case "other tokenizer":
            return name, ["id", name, "request", msgpack.packb(message | {"fingerprint": "f" * 16})]
        case "unknown journal":
            journals = b"\xff\xff\xff\x00" + message["candidates"][4:]
            return name, ["id", name, "request", msgpack.packb(message | {"candidates": journals})]
        case "an id that cannot be one":
            return None, ["id", "no id\x00" + name, "request", noise]
        case _:
            raise ValueError(variant)
