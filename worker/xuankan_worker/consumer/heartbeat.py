"""What a worker does by the clock: renews leases, shows that it lives, clears away what gone workers left."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

from prometheus_client import Gauge
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
_YOUNG_LEASES = 2
"""A worker that dies within so many leases of its start died young."""
_TELL_AGAIN_S = 60.0
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
        shared: Gauge,
    ) -> None:
        self._config = config
        self._server = server
        self._streams = streams
        self._dispatcher = dispatcher
        self._recovery = recovery
        self._status = status
        self._shared = shared
        self._died_young = 0
        self._told_s = -math.inf

    async def run(self) -> None:
        """Tick at least once a third of the lease, until cancelled."""
        period_s = min(_LONGEST_PERIOD_S, self._config.lease_s / 3)
        clear_s = 0.0
        await self._tick()
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

    def _share_name(self, other: WorkerStatus | None) -> None:
        """Say that another worker uses our name, if so: each then takes away what the other holds."""
        self._shared.set(other is not None)
        if other is not None and time.monotonic() - self._told_s >= _TELL_AGAIN_S:
            self._told_s = time.monotonic()
            _log.error(
                "another worker has the same name, and each takes what the other holds: give them names of "
                "their own (--name)",
                extra=fields(name=self._config.name, host=other.host, pid=other.pid),
            )

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
        oldest_ms = round(self._server.clock.now_ms()) - delivery.DEAD_TTL_MS
        await command("XTRIM", keys.dead, "MINID", oldest_ms)

    async def _tick(self) -> None:
        await self._server.synchronise()
        # Before the leases are renewed, however long that takes.
        asked_s = time.monotonic()
        if lost := await self._streams.renew(list(self._dispatcher.held)):
            self._dispatcher.lose(lost)
        self._dispatcher.committer.held_s = asked_s
        ttl_ms = round(max(self._config.lease_s, 3 * _LONGEST_PERIOD_S) * 1000)
        status = replace(self._status(), died_young=self._died_young)
        call = heartbeat(self._config.keys, status, ttl_ms)
        answer = await self._server.call("hear the heartbeat", call.send)
        before = None if answer is None else WorkerStatus.decode(answer)
        other = before is not None and before.incarnation != status.incarnation
        if not self._recovery.begun.is_set():
            if before is not None and other:
                young = before.up_s < _YOUNG_LEASES * self._config.lease_s
                self._died_young = before.died_young + 1 if young else 0
            self._recovery.begin(self._died_young)
        else:
            self._share_name(before if other else None)
        self._dispatcher.pump()  # deadlines pass also while nothing else happens
