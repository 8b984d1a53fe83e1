"""A producer's eye on the queue: samples how full it is, and holds requests back while it is full.

Sampling is one round trip (two when a worker is new), about once a second while requests are submitted, and
beside them: a submission goes by the last look, and waits for a new one only if that was a bad one.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence
from typing import Any, Final, cast

from redis import exceptions as faults
from redis.asyncio import Redis

from xuankan.client.limits import (
    Limits,
    Load,
    Memory,
    OnFull,
    Pressure,
    WorkerPace,
    decide,
    judge,
    length_full,
    longest,
    memory_full,
)
from xuankan.errors import QueueFull
from xuankan.protocol.keys import GROUP, LANES, Keys, Lane
from xuankan.transport.client import is_passing
from xuankan.transport.server import Server

_log = logging.getLogger(__name__)
_PERIOD_S: Final = 1.0
"""How old a look may be: the time in which workers tell what they do."""


class BackPressure:
    """What one producer knows of the pressure on its shard. All of it runs in one event loop."""

    def __init__(self, server: Server, keys: Keys, limits: Limits) -> None:
        self._server = server
        self._keys = keys
        self._limits = limits
        self._load: Load | None = None
        self._seen_s = 0.0
        self._unserved_since_s: float | None = None
        self._added: dict[Lane, int] = dict.fromkeys(LANES, 0)
        self._refused: dict[Lane, Pressure] = {}
        self._names: tuple[str, ...] = ()
        self._sampling: asyncio.Task[None] | None = None
        self._warned: set[str] = set()

    async def admit(self, lane: Lane, on_full: OnFull, until_s: float | None, request_bytes: int) -> int:
        """Let one request pass, now or when there is room: how long the lane's stream may be for it.

        `until_s` is the event loop's time at which a wait ends.

        Raises:
            QueueFull: there is no room, or none until then.
            ServerUnavailable: the server was away for too long while we waited for room.
        """
        loop = asyncio.get_running_loop()
        while True:
            pressure = self.pressure(lane)
            if pressure.reason is not None and self._is_old():
                await self.look()
                pressure = self.pressure(lane)
            left_s = None if until_s is None else until_s - loop.time()
            decision = decide(pressure, on_full, left_s)
            if decision == "refuse":
                raise pressure.refusal()
            if decision == "ok":
                self._look_beside()
                return longest(self._load, lane, self._limits, request_bytes)
            self._warn_once(lane, "waiting: %s", pressure.refusal())
            pause_s = _PERIOD_S * (0.5 + random.random())  # noqa: S311
            await asyncio.sleep(pause_s if left_s is None else min(pause_s, left_s))

    def pressure(self, lane: Lane) -> Pressure:
        """By the last look."""
        if (refused := self._refused.get(lane)) is not None:
            return refused
        if self._load is None:
            return Pressure(lane, None)
        unserved_s = 0.0
        if self._unserved_since_s is not None:
            unserved_s = asyncio.get_running_loop().time() - self._unserved_since_s
        return judge(self._load, lane, self._limits, unserved_s, self._added[lane])

    def refusal(self, lane: Lane) -> QueueFull | None:
        """Why requests of a lane are held back, if they are."""
        pressure = self.pressure(lane)
        return None if pressure.reason is None else pressure.refusal()

    def took(self, lane: Lane) -> None:
        """The server took a request of ours."""
        self._added[lane] += 1

    def no_memory(self, lane: Lane) -> None:
        """The server refused a request because its memory is full; that counts until the next look."""
        wait_s = self.pressure(lane).expected_wait_s
        self._refused[lane] = memory_full(lane, wait_s, "has no memory left: its maxmemory is reached (OOM)")

    def too_long(self, lane: Lane, bound: int) -> None:
        """The server refused a request because the stream has `bound` entries; until the next look."""
        wait_s = self.pressure(lane).expected_wait_s
        if bound < self._limits.max_queued:
            share = f"{self._limits.memory_share:.0%} of its maxmemory"
            self._refused[lane] = memory_full(lane, wait_s, f"has no room left within {share}")
        else:
            self._refused[lane] = length_full(lane, wait_s, bound, self._limits)

    async def look(self) -> None:
        """Look now, together with whoever else does.

        Raises:
            ServerUnavailable: the server was away for too long.
        """
        await asyncio.shield(self._begin())

    async def look_if_old(self) -> None:
        """Look unless that was done a moment ago.

        Raises:
            ServerUnavailable: the server was away for too long.
        """
        if self._load is None or self._is_old():
            await self.look()

    async def close(self) -> None:
        """Stop looking."""
        if self._sampling is not None:
            self._sampling.cancel()
            await asyncio.wait((self._sampling,))

    def _is_old(self) -> bool:
        return asyncio.get_running_loop().time() - self._seen_s >= _PERIOD_S / 2 or bool(self._refused)

    def _look_beside(self) -> None:
        if self._load is None or asyncio.get_running_loop().time() - self._seen_s >= _PERIOD_S:
            self._begin()

    def _begin(self) -> asyncio.Task[None]:
        if self._sampling is None:
            self._sampling = asyncio.create_task(self._sample(), name="xuankan-back_pressure")
            self._sampling.add_done_callback(self._sampled)
        return self._sampling

    def _sampled(self, task: asyncio.Task[None]) -> None:
        self._sampling = None
        if not task.cancelled():
            task.exception()  # whoever waits gets it; a look beside a submission may fail

    async def _sample(self) -> None:
        added = dict(self._added)
        load = await self._server.call("tell how full the queue is", self._ask)
        now_s = asyncio.get_running_loop().time()
        if load.workers or not sum(load.queued.values()):
            self._unserved_since_s = None
        elif self._unserved_since_s is None or now_s - self._seen_s > self._limits.worker_grace_s:
            self._unserved_since_s = now_s  # workers may have come and gone while we did not look
        self._load, self._seen_s = load, now_s
        self._refused.clear()
        self._warned -= {lane for lane in LANES if self.pressure(lane).reason is None}
        for lane, count in added.items():
            self._added[lane] -= count  # what came while we asked may be in the answer or not: counted
        if load.memory is not None and load.memory.evicts:
            self._warn_once(
                "evicts",
                "%s deletes keys when its memory is full (maxmemory-policy %s), so accepted requests and "
                "rankings can be lost: set it to noeviction",
                self._server.where,
                load.memory.policy,
            )

    async def _ask(self, redis: Redis) -> Load:
        keys, names = self._keys, self._names
        commands: list[Sequence[str]] = [("SMEMBERS", keys.workers), ("INFO", "memory")]
        for lane in LANES:
            commands += [("XLEN", keys.stream(lane)), ("XPENDING", keys.stream(lane), GROUP)]
        if names:
            commands.append(("MGET", *map(keys.worker, names)))
        known, info, *answers = await self._answers(redis, commands)
        now = tuple(sorted(name.decode() for name in cast(set[bytes], known or ())))
        beats: Sequence[bytes | None] = answers.pop() if names else ()
        if now != names:
            beats = (await self._answers(redis, [("MGET", *map(keys.worker, now))]))[0] if now else ()
        self._names = now
        length: dict[Lane, int] = {lane: int(answers[2 * place] or 0) for place, lane in enumerate(LANES)}
        pending = {lane: _pending(answers[2 * place + 1]) for place, lane in enumerate(LANES)}
        return Load(
            length=length,
            queued={lane: max(0, length[lane] - pending[lane]) for lane in LANES},
            workers=tuple(WorkerPace.from_json(beat) for beat in beats or () if beat is not None),
            memory=None if info is None else Memory.from_info(cast(dict[str, Any], info)),
        )

    async def _answers(self, redis: Redis, commands: Sequence[Sequence[str]]) -> list[Any]:
        """The answers, None for what this user may not ask and for a group that no worker has made yet."""
        pipeline = cast(Any, redis.pipeline(transaction=False))
        for command in commands:
            pipeline.execute_command(*command)
        answers = cast(list[Any], await pipeline.execute(raise_on_error=False))
        for place, (command, answer) in enumerate(zip(commands, answers, strict=True)):
            if not isinstance(answer, Exception):
                continue
            if isinstance(answer, faults.NoPermissionError):
                what = f"{self._server.where} does not allow this user %s, so that limit is not checked"
                self._warn_once(command[0], what, command[0])
            elif is_passing(answer) or not str(answer).startswith("NOGROUP"):
                raise answer
            answers[place] = None
        return answers

    def _warn_once(self, topic: str, message: str, *args: object) -> None:
        if topic not in self._warned:
            self._warned.add(topic)
            _log.warning(message, *args)


def _pending(summary: Any) -> int:
    return 0 if summary is None else int(summary["pending"])
