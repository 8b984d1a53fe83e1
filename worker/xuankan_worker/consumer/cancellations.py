"""Hears of cancelled requests."""

from __future__ import annotations

from xuankan_worker.config import WorkerConfig
from xuankan_worker.dispatch.dispatcher import Dispatcher
from xuankan_worker.queue.connection import QueueConnection


class Cancellations:
    """Listens for cancelled requests, so that they are dropped before they cost engine time.

    A message may be missed; then the work is wasted, and the commit finds the `cancelled` result.
    """

    def __init__(self, config: WorkerConfig, server: QueueConnection, dispatcher: Dispatcher) -> None:
        self._channel = config.keys.cancellations
        self._server = server
        self._dispatcher = dispatcher

    async def run(self) -> None:
        """Listen until cancelled."""
        await self._server.listen(
            self._channel, lambda name: self._dispatcher.cancel(name.decode(errors="replace"))
        )
