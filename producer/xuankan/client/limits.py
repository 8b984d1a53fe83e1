"""When the queue is full: the wait ahead, by what is measured, and what a producer does about it. Pure.

A queue that takes everything moves the problem to the server's memory and to whoever waits in vain. So a
producer looks at it now and then (`back_pressure`) and holds a request back, or refuses it, while

- the work ahead of it takes longer than a limit: rows that wait, divided by the rows a second that the live
  workers are seen to do while rows wait (Little's law);
- the lane's stream holds as many requests as it may, which the server itself checks too (`scripts.SUBMIT`);
- the server's memory is used up to a share of its `maxmemory`;
- requests wait and no worker has been alive for a while.

What is not known (no worker has been measured yet, INFO is not allowed) holds nothing back.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, cast, get_args

from xuankan.errors import InputError, QueueFull
from xuankan.protocol.keys import LANES, Lane

OnFull = Literal["wait", "raise"]
ON_FULL: tuple[OnFull, ...] = get_args(OnFull)
Reason = Literal["wait", "length", "memory", "no_workers"]

_ROWS_PER_REQUEST: Final = 100.0
"""Assumed until workers have done some: the default number of candidates."""
_OVERHEAD_BYTES: Final = 1024
"""What a queued request takes on the server beside its bytes: its ticket and their keys."""


@dataclass(frozen=True, slots=True)
class Limits:
    """From when on the queue counts as full.

    Attributes:
        interactive_wait_s, bulk_wait_s: work that may lie ahead of a request of the lane, in seconds.
        max_queued: requests on a lane's stream, those at workers included. Checked on the server in one step
            with the submission, so that many producers together keep it. 100,000 requests of 200 tokens and
            100 candidates take about 240 MB.
        memory_share: of the server's `maxmemory`. The rest is for results, and for what is on its way.
        worker_grace_s: how long requests may wait with no worker alive until the queue counts as full, so
            that a restart of the workers, or a start from none, refuses nothing.

    Raises:
        InputError: a limit out of its range.
    """

    interactive_wait_s: float = 60.0
    bulk_wait_s: float = 600.0
    max_queued: int = 100_000
    memory_share: float = 0.8
    worker_grace_s: float = 60.0

    def __post_init__(self) -> None:
        for name in ("interactive_wait_s", "bulk_wait_s"):
            if not getattr(self, name) > 0:
                raise InputError(name, f"must be greater than 0 seconds, not {getattr(self, name)}")
        if self.max_queued < 1:
            raise InputError("max_queued", f"must be at least 1 request, not {self.max_queued}")
        if not 0 < self.memory_share <= 1:
            raise InputError("memory_share", f"must be greater than 0 and at most 1, not {self.memory_share}")
        if not self.worker_grace_s >= 0:
            raise InputError("worker_grace_s", f"must be 0 seconds or more, not {self.worker_grace_s}")

    def wait_s(self, lane: Lane) -> float:
        """Work that may lie ahead of a request of the lane."""
        return self.interactive_wait_s if lane == "interactive" else self.bulk_wait_s


@dataclass(frozen=True, slots=True)
class WorkerPace:
    """What a live worker says of its work.

    Attributes:
        state: `starting`, `running` or `draining`; only the first two will do more.
        capacity_rows_per_s: rows a second while rows waited; 0 if that was never so.
        waiting_rows: rows that it has read and not begun.
        requests_done, rows_done: since its start.
    """

    state: str
    capacity_rows_per_s: float = 0.0
    waiting_rows: float = 0.0
    requests_done: float = 0.0
    rows_done: float = 0.0

    @classmethod
    def from_json(cls, text: bytes) -> WorkerPace:
        """Read a heartbeat, whatever the worker's version: what is missing or senseless counts as 0."""
        try:
            loaded: object = json.loads(text)
        except ValueError:
            loaded = None
        facts: Mapping[str, Any] = cast(Any, loaded) if isinstance(loaded, dict) else {}
        return cls(
            state=str(facts.get("state", "running")),
            capacity_rows_per_s=_number(facts.get("capacity_rows_per_s")),
            waiting_rows=_number(facts.get("waiting_rows")),
            requests_done=_number(facts.get("requests_done")),
            rows_done=_number(facts.get("rows_done")),
        )


@dataclass(frozen=True, slots=True)
class Memory:
    """The server's memory. `max_bytes` is 0 where it has no bound; `policy` is its `maxmemory-policy`."""

    used_bytes: int
    max_bytes: int
    policy: str

    @classmethod
    def from_info(cls, facts: Mapping[str, Any]) -> Memory:
        """Read the answer to `INFO memory`."""
        policy = str(facts.get("maxmemory_policy", ""))
        return cls(int(facts.get("used_memory", 0)), int(facts.get("maxmemory", 0)), policy)

    @property
    def evicts(self) -> bool:
        """Whether the server deletes keys when it is full: tickets and results, so rankings get lost."""
        return self.max_bytes > 0 and self.policy not in ("noeviction", "")


@dataclass(frozen=True, slots=True)
class Load:
    """What the server and the workers had to do at one moment.

    Attributes:
        length: of each lane's stream: requests that wait or are at a worker.
        queued: requests of each lane that no worker has read.
        workers: those alive.
        memory: None where it may not be asked for.
    """

    length: Mapping[Lane, int]
    queued: Mapping[Lane, int]
    workers: Sequence[WorkerPace] = ()
    memory: Memory | None = None

    @property
    def rows_per_request(self) -> float:
        """As the live workers have seen it."""
        requests = sum(worker.requests_done for worker in self.workers)
        rows = sum(worker.rows_done for worker in self.workers)
        return max(1.0, rows / requests) if requests and rows else _ROWS_PER_REQUEST

    @property
    def rows_per_s(self) -> float | None:
        """What the workers can do; one that was never busy counts as the others' mean. None: none was."""
        staying = [worker for worker in self.workers if worker.state != "draining"]
        known = [worker.capacity_rows_per_s for worker in staying if worker.capacity_rows_per_s > 0]
        return sum(known) / len(known) * len(staying) if known else None


@dataclass(frozen=True, slots=True)
class Pressure:
    """How full the queue is for a lane.

    Attributes:
        lane: the lane.
        expected_wait_s: until a request that is submitted now gets its turn; None if not known.
        reason: why it counts as full; None if it does not.
        message: the same for people, with the way out; empty if it is not full.
    """

    lane: Lane
    expected_wait_s: float | None
    reason: Reason | None = None
    message: str = ""

    def refusal(self) -> QueueFull:
        """The error of a request that is not taken."""
        return QueueFull(self.lane, self.reason or "wait", self.expected_wait_s, self.message)


def expected_wait_s(load: Load, lane: Lane, added: int = 0) -> float | None:
    """Seconds until a request that is submitted now gets its turn; None if no worker was measured yet.

    Interactive requests overtake bulk, but for what the workers have at hand. `added` requests of the lane
    came since `load` was taken.
    """
    ahead = load.queued[lane] if lane == "interactive" else sum(load.queued.values())
    rows = (ahead + added) * load.rows_per_request + sum(worker.waiting_rows for worker in load.workers)
    if not rows:
        return 0.0
    return None if (pace := load.rows_per_s) is None else rows / pace


def judge(load: Load, lane: Lane, limits: Limits, unserved_s: float = 0.0, added: int = 0) -> Pressure:
    """Whether the queue is full for a lane, and why.

    Args:
        load: as seen last.
        lane: of the request to submit.
        limits: from when on it is full.
        unserved_s: for how long requests have been waiting with no worker alive.
        added: requests of the lane that were submitted since `load` was taken.
    """
    memory, wait_s = load.memory, expected_wait_s(load, lane, added)
    if (
        memory is not None
        and memory.max_bytes
        and memory.used_bytes >= limits.memory_share * memory.max_bytes
    ):
        used = f"{_mib(memory.used_bytes)} of its maxmemory of {_mib(memory.max_bytes)}"
        return memory_full(lane, wait_s, f"uses {used}, and may use {limits.memory_share:.0%}")
    if (length := load.length[lane] + added) >= limits.max_queued:
        return length_full(lane, wait_s, length, limits)
    if not load.workers and sum(load.queued.values()) and unserved_s >= limits.worker_grace_s:
        return Pressure(
            lane,
            None,
            "no_workers",
            f"no worker has been alive for {unserved_s:.0f} s, and {sum(load.queued.values()):,} requests "
            "wait: start one (`xuankan worker run`), and check that it uses the same server and namespace",
        )
    if wait_s is not None and wait_s > limits.wait_s(lane):
        return Pressure(
            lane,
            wait_s,
            "wait",
            f"the work ahead of it takes about {wait_s:.0f} s, and the limit is {limits.wait_s(lane):g} s: "
            f"try again later, add workers, or raise Limits.{lane}_wait_s",
        )
    return Pressure(lane, wait_s)


def memory_full(lane: Lane, wait_s: float | None, what: str) -> Pressure:
    """The server has no memory left; `what` completes "the Redis/Valkey server ..."."""
    message = f"the Redis/Valkey server {what}: wait until results run out, or raise `maxmemory` there"
    return Pressure(lane, wait_s, "memory", message)


def length_full(lane: Lane, wait_s: float | None, length: int, limits: Limits) -> Pressure:
    """The lane's stream holds as many requests as it may."""
    message = (
        f"it holds {length:,} requests, and the limit is {limits.max_queued:,}: "
        "try again later, add workers, or raise Limits.max_queued"
    )
    return Pressure(lane, wait_s, "length", message)


def decide(pressure: Pressure, on_full: OnFull, left_s: float | None) -> Literal["ok", "wait", "refuse"]:
    """What to do with a request, of whose deadline `left_s` are left (None: it has none)."""
    if pressure.reason is None:
        return "ok"
    if on_full == "raise" or (left_s is not None and left_s <= 0):
        return "refuse"
    return "wait"


def longest(load: Load | None, lane: Lane, limits: Limits, request_bytes: int) -> int:
    """How long the server may let the lane's stream become, for it to check as it takes a request.

    A look at the memory may be a second old, and other producers submit meanwhile. Each counts on half of
    what was free then, for this lane; the stream's length, which is exact, keeps them together within it.
    """
    if load is None or load.memory is None or not load.memory.max_bytes:
        return limits.max_queued
    free_bytes = max(0.0, limits.memory_share * load.memory.max_bytes - load.memory.used_bytes)
    fits = int(free_bytes / len(LANES) / (2 * request_bytes + _OVERHEAD_BYTES))
    return max(1, min(limits.max_queued, load.length[lane] + fits))


def _number(value: object) -> float:
    if isinstance(value, int | float) and math.isfinite(value) and value > 0:
        return float(value)
    return 0.0


def _mib(count: int) -> str:
    return f"{count / 2**20:,.0f} MiB"
