"""What a worker does by the clock: renews leases, takes over abandoned requests, shows that it lives."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any, cast

from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from xuankan.protocol.keys import LANES
from xuankan_worker.config import WorkerConfig
from xuankan_worker.desk import Desk
from xuankan_worker.intake import Intake
from xuankan_worker.server import Server, Stopped
from xuankan_worker.status import WorkerStatus
from xuankan_worker.streams import Streams

_LONGEST_PERIOD_S = 1.0


class Keeper:
    """Runs until cancelled, also while the worker drains: what it still holds needs its leases."""

    def __init__(
        self,
        config: WorkerConfig,
        server: Server,
        streams: Streams,
        desk: Desk,
        intake: Intake,
        status: Callable[[], WorkerStatus],
    ) -> None:
        self._config = config
        self._server = server
        self._streams = streams
        self._desk = desk
        self._intake = intake
        self._status = status

    async def run(self, stopping: asyncio.Event) -> None:
        """Tick at least once a third of the lease."""
        await self._server.persist(self._forget_the_dead)
        period_s = min(_LONGEST_PERIOD_S, self._config.lease_s / 3)
        while True:
            started_s = time.monotonic()
            await self._server.persist(self._tick)
            if not stopping.is_set():
                with contextlib.suppress(Stopped):
                    await self._server.persist(lambda: self._take_over(stopping), stopping)
            await asyncio.sleep(max(0.0, period_s - (time.monotonic() - started_s)))

    async def sign_off(self) -> None:
        """Say that this worker is gone, if the server is there to listen."""
        keys, name = self._config.keys, self._config.name
        await self._server.commands([("DEL", keys.worker(name)), ("SREM", keys.workers, name)])

    async def _forget_the_dead(self) -> None:
        """Remove names whose heartbeat ran out; a worker that was only paused adds itself again."""
        keys = self._config.keys
        for name in cast(set[bytes], await self._server.command("SMEMBERS", keys.workers)):
            if not await self._server.command("EXISTS", keys.worker(name.decode())):
                await self._server.command("SREM", keys.workers, name)

    async def _tick(self) -> None:
        await self._server.synchronise()
        if lost := await self._streams.renew(list(self._desk.held)):
            self._desk.lose(lost)
        config = self._config
        ttl_ms = round(max(config.lease_s, 3 * _LONGEST_PERIOD_S) * 1000)
        await self._server.commands(
            [
                ("SET", config.keys.worker(config.name), self._status().to_json(), "PX", ttl_ms),
                ("SADD", config.keys.workers, config.name),
                ("PEXPIRE", config.keys.workers, ttl_ms),
            ]
        )
        self._desk.pump()  # deadlines pass also while nothing else happens

    async def _take_over(self, stopping: asyncio.Event) -> None:
        for lane in LANES:
            await self._intake.take_over(lane, stopping)


class Cancellations:
    """Listens for cancelled requests, so that they are dropped before they cost engine time.

    A message may be missed; then the work is wasted, and the commit finds the `cancelled` result.
    """

    def __init__(self, config: WorkerConfig, server: Server, desk: Desk) -> None:
        self._channel = config.keys.cancellations
        self._server = server
        self._desk = desk

    async def run(self) -> None:
        """Listen until cancelled."""
        while True:
            async with self._server.pubsub() as pubsub:
                await self._server.persist(lambda p=pubsub: p.subscribe(self._channel))
                try:
                    while True:
                        await self._hear(pubsub)
                except (RedisError, OSError):
                    continue  # subscribe again; `persist` says so if the server is away

    async def _hear(self, pubsub: PubSub) -> None:
        message = cast(
            dict[str, Any] | None,
            await pubsub.get_message(ignore_subscribe_messages=True, timeout=_LONGEST_PERIOD_S),
        )
        if message is not None:
            self._desk.cancel(message["data"].decode(errors="replace"))
