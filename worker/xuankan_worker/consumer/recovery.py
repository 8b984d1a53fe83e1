"""Takes over entries that their worker did not finish: together once, then one at a time.

Something among them may have killed that worker, and would kill this one. The first time they are taken back
together and run beside everything else, because most workers die for other reasons, and their requests
should not wait for one another. What does not survive that either is a suspect, and only one delivery may
count against a suspect: the one in which it ran alone. So before it is claimed, which counts as a delivery,
all batches that run are waited for; then nothing runs but rows of this entry until it has ended. If it kills
the worker, its count has grown by one, and that of no other suspect. So a request that kills every worker
ends as `failed` after `max_deliveries`, and its neighbours are ranked at their third delivery at the latest,
however many such requests there are.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from xuankan.protocol.keys import LANES, Lane
from xuankan_worker.config import WorkerConfig
from xuankan_worker.dispatch.dispatcher import Dispatcher
from xuankan_worker.in_flight import FIRST_SUSPECT_DELIVERY, EntryKey
from xuankan_worker.queue.connection import Stopped
from xuankan_worker.queue.streams import Pending, Streams
from xuankan_worker.telemetry.metrics import WorkerMetrics

_TOGETHER = 32
"""Entries taken back together at most: one that kills makes suspects of so many."""
_LONGEST_PERIOD_S = 1.0
_LONGEST_GRACE_S = 3.0


class Recovery:
    """Finds entries that were given up and sees them to an end."""

    def __init__(
        self,
        config: WorkerConfig,
        streams: Streams,
        dispatcher: Dispatcher,
        metrics: WorkerMetrics,
    ) -> None:
        self._config = config
        self._streams = streams
        self._dispatcher = dispatcher
        self._metrics = metrics
        self._not_before_s = 0.0
        # From looking to accepting: what one task has claimed and the dispatcher does not hold yet would
        # look to another like something that we lost sight of.
        self._claiming = asyncio.Lock()

    async def run(self, stopping: asyncio.Event) -> None:
        """Take over what other workers gave up, until `stopping` is set; then wait to be cancelled."""
        period_s = min(_LONGEST_PERIOD_S, self._config.lease_s / 3)
        lease_ms = round(self._config.lease_s * 1000)
        try:
            while not stopping.is_set():
                if time.monotonic() >= self._not_before_s:
                    for lane in LANES:
                        while await self._some(lane, lease_ms, None, stopping):
                            pass
                await asyncio.sleep(period_s)
        except Stopped:
            pass
        await asyncio.get_running_loop().create_future()

    async def own(self, lane: Lane, stopping: asyncio.Event) -> bool:
        """Take back some entries that this worker held before and lost sight of; False if there are none.

        Raises:
            Stopped: `stopping` was set while the server was away.
        """
        return await self._some(lane, 0, self._config.name, stopping)

    def hold_off(self) -> None:
        """Take over nothing for a moment: the server was away, and others have yet to renew their leases."""
        self._not_before_s = time.monotonic() + min(_LONGEST_GRACE_S, self._config.lease_s)

    async def _some(self, lane: Lane, idle_ms: int, consumer: str | None, stopping: asyncio.Event) -> bool:
        looked = (lane, self._dispatcher.held, idle_ms, _TOGETHER, consumer)
        async with self._claiming:
            found = await self._streams.abandoned(*looked)
            if fresh := [one for one in found if not _suspect(one)]:
                await self._claim(lane, fresh, idle_ms)
                return True
        if not found:
            return False
        async with self._dispatcher.quarantine() as ended:
            async with self._claiming:
                # Again, because waiting for the batches that ran took a while, and others look for the same.
                seen = [one for one in await self._streams.abandoned(*looked) if _suspect(one)][:1]
                if not seen or stopping.is_set():
                    return False
                keys = await self._claim(lane, seen, idle_ms)
            for key in keys:
                await ended(key)
        return True

    async def _claim(self, lane: Lane, seen: Sequence[Pending], idle_ms: int) -> list[EntryKey]:
        entries = await self._streams.claim(seen, idle_ms)
        self._metrics.recovered[lane].inc(len(entries))
        settled = await self._streams.settled(entries)
        self._dispatcher.accept(entries, settled)
        return [entry.key for entry in entries]


def _suspect(seen: Pending) -> bool:
    return seen.deliveries + 1 >= FIRST_SUSPECT_DELIVERY
