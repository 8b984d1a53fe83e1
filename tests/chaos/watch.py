"""Watches a run: what producers are told, when results appear, how fast a dead worker's work is recovered."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, cast, get_args

from redis.exceptions import RedisError, ResponseError

from tests.chaos.servers import Servers
from tests.chaos.world import KEYS
from xuankan.protocol.keys import GROUP, LANES, Lane

_RESULT: Final = KEYS.result("")
_PERIOD_S: Final = 0.25
_RECOVERY_PERIOD_S: Final = 0.05
_AT_ONCE: Final = 500


class Told:
    """The producers' records, read as they grow."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._offsets = [0] * len(paths)
        self.by_request: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)

    def read(self) -> list[str]:
        """Ids of the requests of which something new is written."""
        fresh: list[str] = []
        for number, path in enumerate(self._paths):
            if not path.exists():
                continue
            with path.open("rb") as file:
                file.seek(self._offsets[number])
                data = file.read()
            whole = data[: data.rfind(b"\n") + 1]
            self._offsets[number] += len(whole)
            for line in whole.split(b"\n"):
                if line.startswith(b"{") and line.endswith(b"}"):
                    seen = json.loads(line)
                    self.by_request[seen["id"]].append(seen)
                    fresh.append(seen["id"])
        return fresh


class Visible(NamedTuple):
    """A result as it lies on the server."""

    committed_ms: str
    body_sha: str


class Results:
    """Every result as it was first seen, and how often the server was told to write it."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self.first: dict[str, Visible] = {}
        self.writes: Counter[str] = Counter()
        self._to_read: set[str] = set()

    def look_for(self, request_ids: Sequence[str]) -> None:
        """These should have a result by now."""
        self._to_read.update(one for one in request_ids if one not in self.first)

    async def listen(self) -> None:
        """Count the server's own notices of writes; some are missed while it is away."""
        while True:
            connection = self._servers.connection()
            try:
                await connection.connect()
                # Refused while the server loads its data, of which it gives notices that are no writes.
                await connection.send_command("EXISTS", KEYS.dead)
                await connection.read_response()
                await connection.send_command("PSUBSCRIBE", f"__keyspace@0__:{_RESULT}*")
                while True:
                    message = cast(list[Any], await connection.read_response())
                    if message[0] == b"pmessage" and message[3] == b"hset":
                        request_id = cast(bytes, message[2]).decode().partition(_RESULT)[2]
                        self.writes[request_id] += 1
                        self._to_read.add(request_id)
            except (RedisError, OSError):
                await asyncio.sleep(0.05)
            finally:
                await connection.disconnect(nowait=True)

    async def read(self) -> None:
        """Keep reading what appeared."""
        while True:
            wanted = [one for one in list(self._to_read)[:_AT_ONCE] if one not in self.first]
            self._to_read.difference_update(list(self._to_read)[:_AT_ONCE])
            try:
                for request_id, found in (await read_results(self._servers, wanted)).items():
                    self.first.setdefault(request_id, Visible(found[0], sha(found[1])))
            except (RedisError, OSError):
                self._to_read.update(wanted)
            if len(self._to_read) < _AT_ONCE:
                await asyncio.sleep(_PERIOD_S)


async def read_results(servers: Servers, request_ids: Sequence[str]) -> dict[str, tuple[str, bytes]]:
    """When they were committed, and their bodies, of those requests that have a result."""
    if not request_ids:
        return {}
    pipeline = cast(Any, servers.direct.pipeline(transaction=False))
    for request_id in request_ids:
        pipeline.hmget(KEYS.result(request_id), "committed_ms", "body")
    answers = cast(list[tuple[bytes | None, bytes | None]], await pipeline.execute())
    found: dict[str, tuple[str, bytes]] = {}
    for request_id, (committed_ms, body) in zip(request_ids, answers, strict=True):
        if body is not None and committed_ms is not None:
            found[request_id] = (committed_ms.decode(), body)
    return found


def sha(body: bytes) -> str:
    """Names a body."""
    return hashlib.sha256(body).hexdigest()[:16]


class Held(NamedTuple):
    """A pending entry: who holds it, and how often it was delivered."""

    consumer: str
    deliveries: int


async def pending(servers: Servers) -> dict[tuple[Lane, str], Held]:
    """All pending entries."""
    held: dict[tuple[Lane, str], Held] = {}
    for lane in LANES:
        try:
            rows = await cast(Any, servers.direct).execute_command(
                "XPENDING", KEYS.stream(lane), GROUP, "-", "+", 10_000, parse_detail=True
            )
        except ResponseError as error:
            if not str(error).startswith("NOGROUP"):
                raise
            continue
        for row in rows:
            held[lane, row["message_id"].decode()] = Held(row["consumer"].decode(), row["times_delivered"])
    return held


Company = Literal["alone", "with other workers", "with the server"]
"""What failed while a dead worker's request waited: nothing else, other workers, or server or network."""


class Trouble:
    """Something that fails for a while: who, or what, from when until when on the monotonic clock."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.start_s = time.monotonic()
        self.end_s = math.inf

    def over(self, aftermath_s: float) -> None:
        """It is mended, and forgotten that much later."""
        self.end_s = time.monotonic() + aftermath_s


@dataclass(slots=True)
class _Death:
    trouble: Trouble
    held: dict[tuple[Lane, str], Held] | None = None


class Recoveries:
    """How long requests stay with a worker that died: until they are delivered again, or have ended.

    Attributes:
        seconds: of each such request.
    """

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self._troubles: list[Trouble] = []
        self._deaths: list[_Death] = []
        self.seconds: dict[Company, list[float]] = {one: [] for one in get_args(Company)}

    def trouble(self, what: str) -> Trouble:
        """Something begins to fail: a worker's name, or `server`."""
        found = Trouble(what)
        self._troubles.append(found)
        return found

    def worker_died(self, name: str) -> Trouble:
        """Follow what it held."""
        trouble = self.trouble(name)
        self._deaths.append(_Death(trouble))
        return trouble

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            await asyncio.sleep(_RECOVERY_PERIOD_S)
            if not self._deaths:
                continue
            try:
                now = await pending(self._servers)
            except (RedisError, OSError):
                continue
            self._look(now, time.monotonic())

    def _look(self, now: dict[tuple[Lane, str], Held], at_s: float) -> None:
        deaths, self._deaths = self._deaths, []
        for death in deaths:
            if death.held is None:
                name = death.trouble.what
                death.held = {key: one for key, one in now.items() if one.consumer == name}
            left = {key: one for key, one in death.held.items() if now.get(key) == one}
            company = self._company(death.trouble, at_s)
            self.seconds[company] += [at_s - death.trouble.start_s] * (len(death.held) - len(left))
            death.held = left
            if left:
                self._deaths.append(death)

    def _company(self, own: Trouble, at_s: float) -> Company:
        meanwhile = {
            one.what
            for one in self._troubles
            if one is not own and one.start_s < at_s and one.end_s > own.start_s
        }
        if "server" in meanwhile:
            return "with the server"
        return "with other workers" if meanwhile else "alone"
