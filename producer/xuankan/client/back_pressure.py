"""A producer's eye on the queue: samples how full it is, and holds requests back while it is full.

Sampling is one round trip (two when a worker is new), about once a second while requests are submitted, and
beside them: a submission goes by the last look, and waits for a new one only if that was a bad one.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Final

from xuankan.client.limits import (
    Limits,
    OnFull,
    Pressure,
    decide,
    judge,
    length_full,
    longest,
    memory_full,
)
from xuankan.errors import QueueFull
from xuankan.protocol.keys import LANES, Keys, Lane
from xuankan.protocol.queue_state import QueueReader, QueueState
from xuankan.transport.server import Server

_log = logging.getLogger(__name__)
_PERIOD_S: Final = 1.0
"""How old a look may be: the time in which workers tell what they do."""


class BackPressure:
    """What one producer knows of the pressure on its shard. All of it runs in one event loop."""

    def __init__(self, server: Server, keys: Keys, limits: Limits) -> None:
        self._server = server
        self._reader = QueueReader(keys)
        self._limits = limits
        self._state: QueueState | None = None
        self._seen_s = 0.0
        self._unserved_since_s: float | None = None
        self._added: dict[Lane, int] = dict.fromkeys(LANES, 0)
        self._refused: dict[Lane, Pressure] = {}
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
                return longest(self._state, lane, self._limits, request_bytes)
            self._warn_once(lane, "waiting: %s", pressure.refusal())
            pause_s = _PERIOD_S * (0.5 + random.random())  # noqa: S311
            await asyncio.sleep(pause_s if left_s is None else min(pause_s, left_s))

    def pressure(self, lane: Lane) -> Pressure:
        """By the last look."""
        if (refused := self._refused.get(lane)) is not None:
            return refused
        if self._state is None:
            return Pressure(lane, None)
        unserved_s = 0.0
        if self._unserved_since_s is not None:
            unserved_s = asyncio.get_running_loop().time() - self._unserved_since_s
        return judge(self._state, lane, self._limits, unserved_s, self._added[lane])

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
        if self._state is None or self._is_old():
            await self.look()

    async def close(self) -> None:
        """Stop looking."""
        if self._sampling is not None:
            self._sampling.cancel()
            await asyncio.wait((self._sampling,))

    def _is_old(self) -> bool:
        return asyncio.get_running_loop().time() - self._seen_s >= _PERIOD_S / 2 or bool(self._refused)

    def _look_beside(self) -> None:
        if self._state is None or asyncio.get_running_loop().time() - self._seen_s >= _PERIOD_S:
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
        state = await self._server.call("tell how full the queue is", self._reader.read)
        now_s = asyncio.get_running_loop().time()
        if state.workers or state.workers is None or not state.waiting:
            self._unserved_since_s = None
        elif self._unserved_since_s is None or now_s - self._seen_s > self._limits.worker_grace_s:
            self._unserved_since_s = now_s  # workers may have come and gone while we did not look
        self._state, self._seen_s = state, now_s
        self._refused.clear()
        self._warned -= {lane for lane in LANES if self.pressure(lane).reason is None}
        for lane, count in added.items():
            self._added[lane] -= count  # what came while we asked may be in the answer or not: counted
        for command in state.forbidden:
            refused = "%s does not allow this user %s, so that limit is not checked"
            self._warn_once(command, refused, self._server.where, command)
        if state.memory is not None and state.memory.evicts:
            self._warn_once(
                "evicts",
                "%s deletes keys when its memory is full (maxmemory-policy %s), so accepted requests and "
                "rankings can be lost: set it to noeviction",
                self._server.where,
                state.memory.policy,
            )

    def _warn_once(self, topic: str, message: str, *args: object) -> None:
        if topic not in self._warned:
            self._warned.add(topic)
            _log.warning(message, *args)
