"""What the server tells of one shard at a moment: what waits, who works, how full its memory is.

Producers go by it before they submit, and everything that watches the queue shows it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

from redis import exceptions as faults
from redis.asyncio import Redis

from xuankan.protocol.heartbeat import WorkerStatus
from xuankan.protocol.keys import GROUP, LANES, Keys, Lane

_ROWS_PER_REQUEST: Final = 100.0
"""Assumed until workers have done some: the default number of candidates."""
_SILENT_S: Final = 30.0
"""A worker whose heartbeat did not change for so long is dead. It changes every second."""
_NOT_THERE: Final = ("NOGROUP", "no such key")
"""Errors that mean nothing yet: no worker has made the group, nobody has submitted."""


@dataclass(frozen=True, slots=True)
class LaneState:
    """One lane. None is what the user may not ask for.

    Attributes:
        length: requests on its stream, those at workers included.
        running: requests that workers hold.
        handed_out_ms: when the last request that was handed to a worker came (Unix time on the server's
            clock); 0 if none was.
    """

    length: int | None = 0
    running: int | None = 0
    handed_out_ms: float | None = None

    @property
    def queued(self) -> int | None:
        """Requests that no worker has read: all, where it is not known how many workers hold."""
        return None if self.length is None else max(0, self.length - (self.running or 0))


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


def _no_lanes() -> Mapping[Lane, LaneState]:
    return {lane: LaneState() for lane in LANES}


@dataclass(frozen=True, slots=True)
class QueueState:
    """A shard at one moment. None is what the user may not ask for, or what was not asked.

    Attributes:
        lanes: every lane.
        workers: those alive, by name.
        memory: the server's.
        dead: entries of the dead stream.
        now_ms: Unix time on the server's clock.
        forbidden: commands that the user may not run.
    """

    lanes: Mapping[Lane, LaneState] = field(default_factory=_no_lanes)
    workers: Sequence[WorkerStatus] | None = ()
    memory: Memory | None = None
    dead: int | None = None
    now_ms: float | None = None
    forbidden: Sequence[str] = ()

    def length(self, lane: Lane) -> int:
        """Requests on a lane's stream; 0 where that is not known."""
        return self.lanes[lane].length or 0

    def queued(self, lane: Lane) -> int:
        """Requests of a lane that no worker has read; 0 where that is not known."""
        return self.lanes[lane].queued or 0

    @property
    def waiting(self) -> int:
        """Requests of all lanes that no worker has read, as far as known."""
        return sum(self.queued(lane) for lane in LANES)

    @property
    def serving(self) -> Sequence[WorkerStatus]:
        """The workers that take requests, as far as known."""
        return [worker for worker in self.workers or () if not worker.draining]

    @property
    def rows_per_request(self) -> float:
        """As the live workers have seen it."""
        requests = sum(worker.requests_done for worker in self.workers or ())
        rows = sum(worker.rows_done for worker in self.workers or ())
        return max(1.0, rows / requests) if requests and rows else _ROWS_PER_REQUEST

    @property
    def rows_per_s(self) -> float | None:
        """What the workers can do; one that was never busy counts as the others' mean. None: none was."""
        known = [worker.capacity_rows_per_s for worker in self.serving if worker.capacity_rows_per_s > 0]
        return sum(known) / len(known) * len(self.serving) if known else None

    def expected_wait_s(self, lane: Lane, added: int = 0) -> float | None:
        """Seconds until a request that is submitted now gets its turn; None if no worker was measured yet.

        By Little's law: the rows ahead of it, by the rows a second that the workers do while rows wait.
        Interactive requests overtake bulk, but for what the workers have at hand. `added` requests of the
        lane came since this state was read.
        """
        ahead = self.queued(lane) if lane == "interactive" else self.waiting
        at_workers = sum(worker.waiting_rows for worker in self.workers or ())
        rows = (ahead + added) * self.rows_per_request + at_workers
        if not rows:
            return 0.0
        return None if (pace := self.rows_per_s) is None else rows / pace


class QueueReader:
    """Reads a shard's state in one round trip, or two when workers have come or gone since the last time.

    Args:
        keys: of the shard.
        for_operators: also read what producers have no leave for: dead letters, and how far each lane was
            handed out.
    """

    def __init__(self, keys: Keys, *, for_operators: bool = False) -> None:
        self._keys = keys
        self._for_operators = for_operators
        self._names: tuple[str, ...] = ()
        self._beats: dict[str, tuple[bytes, float]] = {}

    async def read(self, redis: Redis) -> QueueState:
        """The state now.

        Raises:
            redis.exceptions.RedisError, OSError: the server cannot be asked at all.
        """
        keys, names, forbidden = self._keys, self._names, dict[str, None]()
        commands: list[Sequence[str]] = [("TIME",), ("INFO", "memory"), ("SMEMBERS", keys.workers)]
        for lane in LANES:
            commands += [("XLEN", keys.stream(lane)), ("XPENDING", keys.stream(lane), GROUP)]
        if self._for_operators:
            commands += [("XINFO GROUPS", keys.stream(lane)) for lane in LANES]
            commands.append(("XLEN", keys.dead))
        if names:
            commands.append(_heartbeats(keys, names))
        answers = iter(await _ask(redis, commands, forbidden))
        time, info, members = next(answers), next(answers), next(answers)
        counts: dict[Lane, tuple[Any, Any]] = {lane: (next(answers), next(answers)) for lane in LANES}
        groups = {lane: next(answers) if self._for_operators else None for lane in LANES}
        dead = next(answers) if self._for_operators else None
        lanes: dict[Lane, LaneState] = {}
        for lane, (length, pending) in counts.items():
            running = None if pending is None else int(pending["pending"])
            lanes[lane] = LaneState(length, running, _handed_out_ms(groups[lane]))
        found = None if members is None else tuple(sorted(name.decode() for name in members))
        beats = next(answers) if names else ()
        if found is not None and found != names:
            beats = (await _ask(redis, [_heartbeats(keys, found)], forbidden))[0] if found else ()
        self._names = found or ()
        return QueueState(
            lanes=lanes,
            workers=None if found is None or beats is None else tuple(self._alive(found, beats)),
            memory=None if info is None else Memory.from_info(info),
            dead=dead,
            now_ms=None if time is None else int(time[0]) * 1000 + int(time[1]) / 1000,
            forbidden=tuple(forbidden),
        )

    def _alive(self, names: Sequence[str], beats: Sequence[bytes | None]) -> Iterator[WorkerStatus]:
        """The workers whose heartbeat is there and, as far as we have seen, changes.

        A server whose clock was set back keeps a dead worker's heartbeat for longer than it lives.
        """
        before, now_s = self._beats, time.monotonic()
        self._beats = {}
        for name, beat in zip(names, beats, strict=True):
            if beat is None:
                continue  # it died, and nobody has cleared its name away yet
            known, since_s = before.get(name, (b"", now_s))
            self._beats[name] = (beat, since_s if known == beat else now_s)
            if now_s - self._beats[name][1] < _SILENT_S:
                yield WorkerStatus.decode(beat, name)


def _heartbeats(keys: Keys, names: Sequence[str]) -> Sequence[str]:
    return ("MGET", *map(keys.worker, names))


def _handed_out_ms(groups: Sequence[Mapping[str, Any]] | None) -> float | None:
    if groups is None:
        return None
    for row in groups:
        if _text(row["name"]) == GROUP:
            return float(_text(row["last-delivered-id"]).partition("-")[0])
    return 0.0


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else name


async def _ask(redis: Redis, commands: Sequence[Sequence[str]], forbidden: dict[str, None]) -> list[Any]:
    """The answers; None for what this user may not ask, an empty one for what is not there yet."""
    pipeline = cast(Any, redis.pipeline(transaction=False))
    for command in commands:
        pipeline.execute_command(*command)
    answers = cast(list[Any], await pipeline.execute(raise_on_error=False))
    for place, (command, answer) in enumerate(zip(commands, answers, strict=True)):
        if isinstance(answer, faults.NoPermissionError):
            forbidden[command[0]] = None
            answers[place] = None
        elif isinstance(answer, Exception):
            if not str(answer).startswith(_NOT_THERE):
                raise answer
            answers[place] = {"pending": 0} if command[0] == "XPENDING" else ()
    return answers
