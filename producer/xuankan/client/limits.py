"""When the queue is full: the wait ahead, by what is measured, and what a producer does about it. Pure.

A queue that takes everything moves the problem to the server's memory and to whoever waits in vain. So a
producer looks at it now and then (`back_pressure`) and holds a request back, or refuses it, while

- the work ahead of it takes longer than a limit: rows that wait, divided by the rows a second that the live
  workers are seen to do while rows wait (Little's law);
- the lane's stream holds as many requests as it may, which the server itself checks too (`scripts.submit`);
- the server's memory is used up to a share of its `maxmemory`;
- requests wait and no worker has been alive for a while.

What is not known (no worker has been measured yet, INFO is not allowed) holds nothing back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

from xuankan.errors import InputError, QueueFull
from xuankan.protocol.keys import LANES, Lane
from xuankan.protocol.queue_state import QueueState

OnFull = Literal["wait", "raise"]
ON_FULL: tuple[OnFull, ...] = get_args(OnFull)
Reason = Literal["wait", "length", "memory", "no_workers"]

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


def judge(state: QueueState, lane: Lane, limits: Limits, unserved_s: float = 0.0, added: int = 0) -> Pressure:
    """Whether the queue is full for a lane, and why.

    Args:
        state: as read last.
        lane: of the request to submit.
        limits: from when on it is full.
        unserved_s: for how long requests have been waiting with no worker alive.
        added: requests of the lane that were submitted since `state` was read.
    """
    memory, wait_s = state.memory, state.expected_wait_s(lane, added)
    if (
        memory is not None
        and memory.max_bytes
        and memory.used_bytes >= limits.memory_share * memory.max_bytes
    ):
        used = f"{_mib(memory.used_bytes)} of its maxmemory of {_mib(memory.max_bytes)}"
        return memory_full(lane, wait_s, f"uses {used}, and may use {limits.memory_share:.0%}")
    if (length := state.length(lane) + added) >= limits.max_queued:
        return length_full(lane, wait_s, length, limits)
    nobody = state.workers is not None and not state.workers
    if nobody and state.waiting and unserved_s >= limits.worker_grace_s:
        return Pressure(
            lane,
            None,
            "no_workers",
            f"no worker has been alive for {unserved_s:.0f} s, and {state.waiting:,} requests "
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


def longest(state: QueueState | None, lane: Lane, limits: Limits, request_bytes: int) -> int:
    """How long the server may let the lane's stream become, for it to check as it takes a request.

    A look at the memory may be a second old, and other producers submit meanwhile. Each counts on half of
    what was free then, for this lane; the stream's length, which is exact, keeps them together within it.
    """
    if state is None or state.memory is None or not state.memory.max_bytes:
        return limits.max_queued
    free_bytes = max(0.0, limits.memory_share * state.memory.max_bytes - state.memory.used_bytes)
    fits = int(free_bytes / len(LANES) / (2 * request_bytes + _OVERHEAD_BYTES))
    return max(1, min(limits.max_queued, state.length(lane) + fits))


def _mib(count: int) -> str:
    return f"{count / 2**20:,.0f} MiB"
