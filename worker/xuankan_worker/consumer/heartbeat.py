"""What a worker does by the clock: renews leases, shows that it lives, clears away what gone workers left."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, cast

from redis.asyncio import Redis

from xuankan.logs import fields
from xuankan.protocol import delivery
from xuankan.protocol.heartbeat import WorkerStatus, heartbeat
from xuankan_worker.config import WorkerConfig
from xuankan_worker.consumer.recovery import Recovery
from xuankan_worker.dispatch.dispatcher import Dispatcher
from xuankan_worker.queue.connection import QueueConnection
from xuankan_worker.queue.streams import Streams

_log = logging.getLogger(__name__)

_LONGEST_PERIOD_S = 1.0
GONE_AFTER_LEASES = 10
"""After so many leases without a heartbeat, a worker's consumer is deleted if it holds nothing."""


class Heartbeat:
    """Runs until cancelled, also while the worker drains: what it still holds needs its leases."""

    def __init__(
        self,
        config: WorkerConfig,
        server: QueueConnection,
        streams: Streams,
        dispatcher: Dispatcher,
        recovery: Recovery,
        status: Callable[[], WorkerStatus],
    ) -> None:
        self._config = config
        self._server = server
        self._streams = streams
        self._dispatcher = dispatcher
        self._recovery = recovery
        self._status = status

    async def run(self) -> None:
        """Tick at least once a third of the lease, until cancelled."""
        period_s = min(_LONGEST_PERIOD_S, self._config.lease_s / 3)
        clear_s = 0.0
        while True:
            started_s = time.monotonic()
            await self._tick()
            if time.monotonic() - started_s > self._config.lease_s / 3:
                self._recovery.hold_off()
            if started_s >= clear_s:
                await self._clear_away()
                clear_s = started_s + GONE_AFTER_LEASES * self._config.lease_s
            await asyncio.sleep(max(0.0, period_s - (time.monotonic() - started_s)))

    async def sign_off(self) -> None:
        """Say that this worker is gone, if the server is there to listen."""
        keys, name = self._config.keys, self._config.name
        pipeline = cast(Any, self._server.redis.pipeline(transaction=False))
        pipeline.delete(keys.worker(name))
        pipeline.srem(keys.workers, name)
        await pipeline.execute()

    async def _clear_away(self) -> None:
        """Remove what gone workers left, and what lay on the dead stream for too long."""
        # A worker that was only paused is a consumer again by its next read, and named by its next tick.
        idle_ms = round(GONE_AFTER_LEASES * self._config.lease_s * 1000)
        for name in await self._streams.delete_consumers(idle_ms):
            _log.info("deleted the consumer of a worker that is gone", extra=fields(name=name))
        await self._server.call("forget workers that are gone", self._forget)

    async def _forget(self, redis: Redis) -> None:
        keys, command = self._config.keys, cast(Any, redis).execute_command
        for name in cast(set[bytes], await command("SMEMBERS", keys.workers)):
            if not await command("EXISTS", keys.worker(name.decode())):
                await command("SREM", keys.workers, name)
        oldest_ms = round(self._server.now_ms()) - delivery.DEAD_TTL_MS
        await command("XTRIM", keys.dead, "MINID", oldest_ms)

    async def _tick(self) -> None:
        await self._server.synchronise()
        # Before the leases are renewed, however long that takes.
        asked_ms = self._server.now_ms()
        if lost := await self._streams.renew(list(self._dispatcher.held)):
            self._dispatcher.lose(lost)
        self._dispatcher.committer.held_ms = asked_ms
        ttl_ms = round(max(self._config.lease_s, 3 * _LONGEST_PERIOD_S) * 1000)
        call = heartbeat(self._config.keys, self._status(), ttl_ms)
        await self._server.call("hear the heartbeat", call.send)
        self._dispatcher.pump()  # deadlines pass also while nothing else happens
