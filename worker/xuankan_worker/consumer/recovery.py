"""Takes over entries that their worker did not finish: together once, then one at a time.

Something among them may have killed that worker, and would kill this one. The first time they are taken back
together and run beside everything else, because most workers die for other reasons, and their requests
should not wait for one another. What does not survive that either is a suspect, and only one delivery may
count against a suspect: the one in which it ran alone. So before it is claimed, which counts as a delivery,
all batches that run are waited for; then nothing runs but rows of this entry, from that moment until it has
ended. If it kills the worker, its count has grown by one, and that of no other suspect. So a request that
kills every worker ends as `failed` after `max_deliveries`, and its neighbours are ranked at their third
delivery at the latest, however many such requests there are.

A worker may also die over and over for reasons of its own, and whatever runs alone just then is innocent. So
the suspect that was delivered least often comes first, and a worker whose predecessors died young one after
the other does not take back what they held, but leaves that to others for the length of a lease. A worker
that ends by its own fault hands back what it holds, which counts as no delivery at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Sequence
from typing import Final

from xuankan.logs import fields
from xuankan.protocol.keys import LANES, Lane
from xuankan.transport.server import end_tasks
from xuankan_worker.config import WorkerConfig
from xuankan_worker.consumer.leases import Leases
from xuankan_worker.dispatch.dispatcher import Dispatcher
from xuankan_worker.in_flight import FIRST_SUSPECT_DELIVERY, EntryKey
from xuankan_worker.queue.connection import Stopped
from xuankan_worker.queue.streams import Pending, Streams
from xuankan_worker.telemetry.metrics import WorkerMetrics

_log = logging.getLogger(__name__)
_TOGETHER: Final = 32
"""Entries taken back together at most: one that kills makes suspects of so many."""
_LONGEST_PERIOD_S: Final = 1.0
_SHORTEST_PAUSE_S: Final = 0.01
_LONGEST_GRACE_S: Final = 3.0
_RESTART_LOOP: Final = 2
"""So many predecessors that died young, one after the other, and what they held is left to others."""


class Recovery:
    """Finds entries that were given up and sees them to an end.

    Attributes:
        begun: set once it is known what became of this worker's predecessors.
        takes_back: whether it takes back at once what they held.
    """

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
        self._leases = Leases(config.lease_s)
        self._period_s = min(_LONGEST_PERIOD_S, config.lease_s / 3)
        self._not_before_s = 0.0
        # From looking to accepting: what one task has claimed and the dispatcher does not hold yet would
        # look to another like something that we lost sight of.
        self._claiming = asyncio.Lock()
        self.begun = asyncio.Event()
        self.takes_back = True

    def begin(self, died_young: int) -> None:
        """Hear how many predecessors died young, one after the other."""
        if died_young >= _RESTART_LOOP:
            self.takes_back = False
            _log.warning(
                "this worker dies over and over; what it held is left to others for the length of a lease",
                extra=fields(died_young=died_young, lease_s=self._config.lease_s),
            )
        self.begun.set()

    async def run(self, stopping: asyncio.Event) -> None:
        """Take over what was given up, until `stopping` is set; then wait to be cancelled."""
        watching = asyncio.create_task(self._watch(stopping))
        try:
            await self._take_over(stopping)
            await asyncio.get_running_loop().create_future()
        finally:
            await end_tasks(watching)

    async def _watch(self, stopping: asyncio.Event) -> None:
        """Go on looking while a suspect runs alone, so that nobody is given up any later for that."""
        with contextlib.suppress(Stopped):
            while not stopping.is_set():
                await asyncio.sleep(self._period_s)
                for lane in LANES:
                    await self._given_up(lane)

    async def _take_over(self, stopping: asyncio.Event) -> None:
        try:
            while not stopping.is_set():
                pause_s = self._period_s
                if time.monotonic() >= self._not_before_s:
                    for lane in LANES:
                        while await self._others(lane, stopping):
                            pass
                    pause_s = min(pause_s, self._leases.due_s())
                # Not in step with anybody's renewals, whose moment is the one in which a sign says nothing.
                await asyncio.sleep(max(_SHORTEST_PAUSE_S, pause_s * random.uniform(0.8, 1.0)))  # noqa: S311
        except Stopped:
            pass

    async def own(self, lane: Lane, stopping: asyncio.Event) -> bool:
        """Take back some entries that this worker held before and lost sight of; False if there are none.

        Raises:
            Stopped: `stopping` was set while the server was away.
        """
        async with self._claiming:
            found = await self._streams.own(lane, self._dispatcher.held, _TOGETHER)
            if fresh := [one for one in found if not _suspect(one)]:
                await self._claim(lane, fresh)
                return True
        # Suspects are looked for again, as waiting for the batches that run takes a while.
        return bool(found) and await self._alone(lane, stopping, own=True)

    def hold_off(self) -> None:
        """Take over nothing for a moment: the server was away, and others have yet to renew their leases."""
        self._not_before_s = time.monotonic() + min(_LONGEST_GRACE_S, self._config.lease_s)

    async def _others(self, lane: Lane, stopping: asyncio.Event) -> bool:
        async with self._claiming:
            found = await self._given_up(lane)
            if fresh := [one for one in found if not _suspect(one)][:_TOGETHER]:
                await self._claim(lane, fresh)
                return True
        return bool(found) and await self._alone(lane, stopping, own=False)

    async def _given_up(self, lane: Lane) -> list[Pending]:
        rows = await self._streams.pending(lane)
        return self._leases.look(lane, rows, self._dispatcher.held, time.monotonic())

    async def _alone(self, lane: Lane, stopping: asyncio.Event, *, own: bool) -> bool:
        """Run one suspect, and nothing beside it."""
        async with self._dispatcher.quarantine() as ended:
            async with self._claiming:
                if own:
                    found = await self._streams.own(lane, self._dispatcher.held, _TOGETHER)
                else:
                    found = await self._given_up(lane)
                suspects = [one for one in found if _suspect(one)]
                if not suspects or stopping.is_set():
                    return False
                keys = await self._claim(lane, [min(suspects, key=lambda one: one.deliveries)])
            for key in keys:
                await ended(key)
        return True

    async def _claim(self, lane: Lane, seen: Sequence[Pending]) -> list[EntryKey]:
        entries = await self._streams.claim(seen)
        self._metrics.recovered[lane].inc(len(entries))
        settled = await self._streams.settled(entries)
        self._dispatcher.accept(entries, settled)
        return [entry.key for entry in entries]


def _suspect(seen: Pending) -> bool:
    return seen.deliveries + 1 >= FIRST_SUSPECT_DELIVERY
