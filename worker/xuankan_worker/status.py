"""What a worker tells of itself through the server, and the view over all of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, cast

from redis import exceptions

from xuankan.protocol.keys import GROUP, LANES, Keys, Lane
from xuankan_worker.queue.connection import Server

_SMOOTHED_OVER_S: Final = 10.0
_SHORTEST_S: Final = 0.5


class Speed:
    """How fast a worker is, and how fast it is while it has enough to do. Pure: times come in."""

    def __init__(self, now_s: float) -> None:
        self._since_s = now_s
        self._rows = 0
        self._had_waiting = False
        self.rows_per_s = 0.0
        self.capacity_rows_per_s = 0.0

    def look(self, now_s: float, rows_done: int, waiting_rows: int) -> None:
        """Take note of the rows done since the start, and of those that wait."""
        seconds = now_s - self._since_s
        if seconds < _SHORTEST_S:
            return
        fresh, weight = (rows_done - self._rows) / seconds, min(1.0, seconds / _SMOOTHED_OVER_S)
        self.rows_per_s += (fresh - self.rows_per_s) * weight
        if self._had_waiting and waiting_rows:
            known = self.capacity_rows_per_s
            self.capacity_rows_per_s = known + (fresh - known) * weight if known else fresh
        elif self.capacity_rows_per_s:
            self.capacity_rows_per_s = max(self.capacity_rows_per_s, self.rows_per_s)
        self._since_s, self._rows, self._had_waiting = now_s, rows_done, waiting_rows > 0


@dataclass(frozen=True, slots=True)
class GpuLoad:
    """A GPU at one moment. None: this GPU or this driver does not tell.

    Attributes:
        index: the driver's number for it.
        name: what it is.
        busy: share of the driver's last sampling period, up to a second, in which some kernel ran; 0 to 1.
        used_bytes, memory_bytes: in use by all processes, and total.
        watts: electric power that it draws.
        celsius: its temperature.
        clock_hz: of its multiprocessors; a GPU at its power limit lowers it.
    """

    index: int
    name: str
    busy: float | None
    used_bytes: int
    memory_bytes: int
    watts: float | None
    celsius: float | None
    clock_hz: float | None


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
        capacity_rows_per_s: the same while rows waited, which is what producers foresee waits by; 0 until
            that was so for half a second.
        batches_done, tokens_done, padding_tokens: since its start; a batch runs both kinds of tokens.
        busy_contexts: contexts that have a batch at this moment.
        gpu: None on the CPU, and where the driver cannot be asked.
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
    capacity_rows_per_s: float = 0.0
    batches_done: int = 0
    tokens_done: int = 0
    padding_tokens: int = 0
    busy_contexts: int = 0
    gpu: GpuLoad | None = None

    def to_json(self) -> str:
        """As the server keeps it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: bytes) -> WorkerStatus | None:
        """Read what another worker wrote; None if it is of another version and lacks something."""
        try:
            values = _known(cls, json.loads(text))
            if values.get("gpu") is not None:
                values["gpu"] = GpuLoad(**_known(GpuLoad, values["gpu"]))
            return cls(**values)
        except (ValueError, TypeError, AttributeError):
            return None


def _known(kind: type[WorkerStatus | GpuLoad], values: Mapping[str, Any]) -> dict[str, Any]:
    """What of the values this version knows."""
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in values.items() if name in names}


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
        """Print JSON, for programs."""
        return json.dumps(asdict(self), indent=2)


async def read_status(server: Server, keys: Keys) -> ShardStatus:
    """Look at a shard.

    Raises:
        redis.exceptions.RedisError: the server does not answer.
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
