"""What a worker does by the clock: renews leases, shows that it lives, clears away what gone workers left."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import cast

from xuankan.logs import fields
from xuankan.protocol import delivery
from xuankan_worker.config import WorkerConfig
from xuankan_worker.consumer.recovery import Recovery
from xuankan_worker.dispatch.dispatcher import Dispatcher
from xuankan_worker.queue.connection import Server
from xuankan_worker.queue.streams import Streams
from xuankan_worker.status import WorkerStatus

_log = logging.getLogger(__name__)

_LONGEST_PERIOD_S = 1.0
GONE_AFTER_LEASES = 10
"""After so many leases without a sign of life, a worker's consumer is deleted if it holds nothing."""


class Heartbeat:
    """Runs until cancelled, also while the worker drains: what it still holds needs its leases."""

    def __init__(
        self,
        config: WorkerConfig,
        server: Server,
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
            await self._server.persist(self._tick)
            if time.monotonic() - started_s > self._config.lease_s / 3:
                self._recovery.hold_off()
            if started_s >= clear_s:
                await self._server.persist(self._clear_away)
                clear_s = started_s + GONE_AFTER_LEASES * self._config.lease_s
            await asyncio.sleep(max(0.0, period_s - (time.monotonic() - started_s)))

    async def sign_off(self) -> None:
        """Say that this worker is gone, if the server is there to listen."""
        keys, name = self._config.keys, self._config.name
        await self._server.commands([("DEL", keys.worker(name)), ("SREM", keys.workers, name)])

    async def _clear_away(self) -> None:
        """Remove what gone workers left, and what lay on the dead stream for too long."""
        keys = self._config.keys
        # A worker that was only paused is a consumer again by its next read, and named by its next tick.
        for name in await self._streams.retire(round(GONE_AFTER_LEASES * self._config.lease_s * 1000)):
            _log.info("deleted the consumer of a worker that is gone", extra=fields(name=name))
        for name in cast(set[bytes], await self._server.command("SMEMBERS", keys.workers)):
            if not await self._server.command("EXISTS", keys.worker(name.decode())):
                await self._server.command("SREM", keys.workers, name)
        oldest_ms = round(self._server.now_ms()) - delivery.DEAD_TTL_MS
        await self._server.command("XTRIM", keys.dead, "MINID", oldest_ms)

    async def _tick(self) -> None:
        await self._server.synchronise()
        asked_ms = self._server.now_ms()
        if lost := await self._streams.renew(list(self._dispatcher.held)):
            self._dispatcher.lose(lost)
        self._dispatcher.committer.held_ms = asked_ms
        config = self._config
        ttl_ms = round(max(config.lease_s, 3 * _LONGEST_PERIOD_S) * 1000)
        await self._server.call(delivery.sign(config.keys, config.name, self._status().to_json(), ttl_ms))
        self._dispatcher.pump()  # deadlines pass also while nothing else happens
