"""Reads the lane streams: one task and one connection for each lane, so that neither waits for the other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from redis.asyncio import Redis

from xuankan.protocol.keys import LANES, Lane
from xuankan_worker.config import WorkerConfig
from xuankan_worker.consumer.recovery import Recovery
from xuankan_worker.dispatch.dispatcher import Dispatcher
from xuankan_worker.in_flight import Entry
from xuankan_worker.queue.connection import Stopped
from xuankan_worker.queue.streams import Streams
from xuankan_worker.telemetry.metrics import WorkerMetrics

_MAX_ENTRIES = 32
_MAX_ENTRIES_FAR = 256
"""Entries of one read at most, which bounds what a flood of large entries can cost at once; from a server
that is far away as many more as are run meanwhile, up to the second number."""
_MARGIN_S = 1.0


class Intake:
    """Keeps the dispatcher supplied, but never with more than it has room for."""

    def __init__(
        self,
        config: WorkerConfig,
        streams: Streams,
        dispatcher: Dispatcher,
        recovery: Recovery,
        metrics: WorkerMetrics,
    ) -> None:
        self._config = config
        self._streams = streams
        self._dispatcher = dispatcher
        self._recovery = recovery
        self._metrics = metrics
        # Lanes in which entries may have been handed to us without our knowing: before a restart (unless that
        # was one of many), or when the connection broke before the reply.
        self._unsure: set[Lane] = set()
        # Until when the server may hand entries to a read whose connection broke without its noticing.
        self._orphan_until_s: dict[Lane, float] = dict.fromkeys(LANES, 0.0)
        self._rows_per_request = 100.0  # smoothed

    async def run(self, lane: Lane, stopping: asyncio.Event) -> None:
        """Read a lane until `stopping` is set, or in a burst until it is empty."""
        client = self._streams.reader(self._config.block_s)
        try:
            await _first(self._recovery.begun, stopping)
            if self._recovery.takes_back:
                self._unsure.add(lane)
            while not stopping.is_set():
                if lane in self._unsure and await self._recovery.own(lane, stopping):
                    continue
                if not self._dispatcher.room(lane):
                    await _first(self._dispatcher.has_room[lane], stopping)
                    continue
                entries = await self._read(client, lane)
                if entries:
                    await self._admit(entries)
                elif self._config.burst:
                    return
        except Stopped:
            pass  # what was read stays ours on the server, and is found again at the next start
        finally:
            await client.aclose()

    async def _read(self, client: Redis, lane: Lane) -> Sequence[Entry]:
        self._unsure.add(lane)  # until the reply is here
        block_ms = None if self._config.burst else max(1, round(self._config.block_s * 1000))
        entries = await self._streams.read_new(
            client, lane, self._count(lane), block_ms, lambda: self._broken(lane)
        )
        if time.monotonic() >= self._orphan_until_s[lane]:
            self._unsure.discard(lane)
        self._metrics.received[lane].inc(len(entries))
        return entries

    def _broken(self, lane: Lane) -> None:
        self._orphan_until_s[lane] = time.monotonic() + self._config.block_s + _MARGIN_S

    async def _admit(self, entries: Sequence[Entry]) -> None:
        """Put entries on the dispatcher, looking first whether their requests have a result already."""
        settled = await self._streams.settled(entries)
        self._dispatcher.accept(entries, settled)
        for entry in entries:
            if (job := self._dispatcher.held.get(entry.key)) is not None:
                self._rows_per_request += (len(job.lengths) - self._rows_per_request) * 0.1

    def _count(self, lane: Lane) -> int:
        meanwhile = int(self._dispatcher.rows_on_their_way / self._rows_per_request)
        most = min(_MAX_ENTRIES + meanwhile, _MAX_ENTRIES_FAR)
        return min(most, max(1, int(self._dispatcher.room(lane) / self._rows_per_request)))


async def _first(*events: asyncio.Event) -> None:
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
