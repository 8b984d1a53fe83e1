"""The heartbeat: what a worker says of itself every second, by which producers and operators know it.

Written and read here only, so that everybody counts the same workers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, cast

from xuankan.protocol.keys import Keys
from xuankan.protocol.lua import Call, Key, script
from xuankan.protocol.scripts import ALLOW_OOM

_LARGEST: Final = 2.0**53
"""Beyond it a number of JSON is not exact, and no count of ours gets there."""


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
        state: `starting`, `running` or `draining`; only the first two will take more.
        host, pid: where it runs.
        incarnation: another one at each start.
        up_s: since then, so that it is never the same twice.
        died_young: predecessors of its name that died soon after their start, one after the other.
        version: of Xuankan.
        release, template, catalogue: fingerprints of what it serves; empty if it does not say.
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

    name: str = ""
    state: str = "running"
    host: str = ""
    pid: int = 0
    incarnation: str = ""
    up_s: float = 0.0
    died_young: int = 0
    version: str = ""
    release: str = ""
    template: str = ""
    catalogue: str = ""
    engine: str = ""
    device: str = ""
    contexts: int = 0
    max_batch: int = 0
    started_ms: float = 0.0
    in_flight: int = 0
    waiting_rows: int = 0
    requests_done: int = 0
    rows_done: int = 0
    rows_per_s: float = 0.0
    capacity_rows_per_s: float = 0.0
    batches_done: int = 0
    tokens_done: int = 0
    padding_tokens: int = 0
    busy_contexts: int = 0
    gpu: GpuLoad | None = None

    def encode(self) -> bytes:
        """As the server keeps it: a JSON object."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, data: bytes, name: str = "") -> WorkerStatus:
        """Read a heartbeat of any version, and of any content: what has one is a live worker.

        Args:
            data: what the server keeps. What is missing or makes no sense counts as the default, what is
                not known is ignored.
            name: of the worker whose key it is, should the heartbeat not say.
        """
        try:
            loaded: object = json.loads(data)
        except (ValueError, RecursionError):
            loaded = None
        facts = _object(loaded) or {}
        values = {field.name: _plain(field.default, facts.get(field.name)) for field in fields(cls)}
        values["name"] = values["name"] or name
        values["gpu"] = _gpu(facts.get("gpu"))
        return cls(**values)

    @property
    def draining(self) -> bool:
        """Whether it takes no more requests."""
        return self.state == "draining"


@script(
    """
local before = redis.call('SET', heartbeat, status, 'PX', lifetime_ms, 'GET')
redis.call('SADD', workers, name)
redis.call('PEXPIRE', workers, lifetime_ms)
return before
""",
    flags=ALLOW_OOM,
)
def _heartbeat(
    *, heartbeat: Key, workers: Key, name: str, status: bytes, lifetime_ms: int
) -> bytes | None: ...


def heartbeat(keys: Keys, status: WorkerStatus, lifetime_ms: int) -> Call[bytes | None]:
    """Show for `lifetime_ms` that a worker lives, also on a full server.

    The call returns the last heartbeat of that name, if it is not over: our own, that of a predecessor that
    did not sign off, or that of another worker of the same name.
    """
    return _heartbeat(
        heartbeat=keys.worker(status.name),
        workers=keys.workers,
        name=status.name,
        status=status.encode(),
        lifetime_ms=lifetime_ms,
    )


def _plain(default: object, value: object) -> Any:
    """The value if it is of its default's kind, else the default."""
    if isinstance(default, str):
        return value if isinstance(value, str) else default
    number = _number(value)
    if number is None:
        return default
    return number if isinstance(default, float) else int(number)


def _number(value: object) -> float | None:
    """Amounts are 0 or more, and finite, which JSON as Python reads it need not be."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value <= _LARGEST and math.isfinite(value) else None


def _gpu(value: object) -> GpuLoad | None:
    if (facts := _object(value)) is None:
        return None
    name = facts.get("name")
    return GpuLoad(
        index=int(_number(facts.get("index")) or 0),
        name=name if isinstance(name, str) else "",
        busy=_number(facts.get("busy")),
        used_bytes=int(_number(facts.get("used_bytes")) or 0),
        memory_bytes=int(_number(facts.get("memory_bytes")) or 0),
        watts=_number(facts.get("watts")),
        celsius=_number(facts.get("celsius")),
        clock_hz=_number(facts.get("clock_hz")),
    )


def _object(value: object) -> Mapping[str, Any] | None:
    return cast(Mapping[str, Any], value) if isinstance(value, dict) else None
