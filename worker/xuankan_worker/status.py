"""What a worker tells of itself through the server, and the view over all of them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any, cast

from redis import exceptions

from xuankan.protocol.keys import GROUP, LANES, Keys, Lane
from xuankan_worker.server import Server


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """One live worker.

    Attributes:
        name: of its consumer.
        state: `starting`, `running` or `draining`.
        host, pid: where it runs.
        version: of Xuankan.
        release, template, catalogue: fingerprints of what it serves.
        engine, device, contexts, max_batch: what it runs on.
        started_ms: Unix time of its start on the server's clock.
        in_flight: requests that it holds.
        waiting_rows: rows read that no batch has taken yet.
        requests_done, rows_done: since its start.
        rows_per_s: smoothed over about ten seconds.
    """

    name: str
    state: str
    host: str
    pid: int
    version: str
    release: str
    template: str
    catalogue: str
    engine: str
    device: str
    contexts: int
    max_batch: int
    started_ms: float
    in_flight: int
    waiting_rows: int
    requests_done: int
    rows_done: int
    rows_per_s: float

    def to_json(self) -> str:
        """As the server keeps it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: bytes) -> WorkerStatus | None:
        """Read what another worker wrote; None if it is of another version and lacks something."""
        known = {field.name for field in fields(cls)}
        try:
            values = {name: value for name, value in json.loads(text).items() if name in known}
            return cls(**values)
        except (ValueError, TypeError, AttributeError):
            return None


@dataclass(frozen=True, slots=True)
class LaneStatus:
    """One lane: `queued` requests that no worker has read, and `running` ones that workers hold."""

    lane: Lane
    queued: int
    running: int


@dataclass(frozen=True, slots=True)
class ShardStatus:
    """Everything that serves one shard. `dead` counts the entries of the dead stream."""

    workers: tuple[WorkerStatus, ...]
    lanes: tuple[LaneStatus, ...]
    dead: int

    def to_json(self) -> str:
        """For programs."""
        return json.dumps(asdict(self), indent=2)


async def read_status(server: Server, keys: Keys) -> ShardStatus:
    """Look at a shard.

    Raises:
        redis.exceptions.RedisError: the server cannot be asked.
    """
    names = sorted(name.decode() for name in cast(set[bytes], await server.command("SMEMBERS", keys.workers)))
    bodies = [await server.command("GET", keys.worker(name)) for name in names]
    workers = [status for body in bodies if body and (status := WorkerStatus.from_json(body)) is not None]
    lanes: list[LaneStatus] = []
    for lane in LANES:
        length = int(await server.command("XLEN", keys.stream(lane)))
        running = await _pending(server, keys.stream(lane))
        lanes.append(LaneStatus(lane, max(0, length - running), running))
    return ShardStatus(tuple(workers), tuple(lanes), int(await server.command("XLEN", keys.dead)))


async def _pending(server: Server, stream: str) -> int:
    try:
        summary: Any = await server.command("XPENDING", stream, GROUP)
    except exceptions.ResponseError as error:
        if str(error).startswith("NOGROUP"):  # no worker has served this shard yet
            return 0
        raise
    return int(summary["pending"])
