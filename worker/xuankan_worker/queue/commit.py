"""Makes outcomes visible: one atomic call each, sent again until the server has answered it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence

from redis.asyncio import Redis

from xuankan.logs import fields
from xuankan.protocol import delivery
from xuankan.protocol.lua import Call, send_all
from xuankan.protocol.sealing import is_sealed
from xuankan_worker.config import WorkerConfig
from xuankan_worker.in_flight import EntryOutcome
from xuankan_worker.queue.connection import QueueConnection, is_transient

_log = logging.getLogger(__name__)
_GATHERED = 64
"""Outcomes of bulk requests for which the others are not waited for any longer."""
_ROUND = 256
"""Outcomes sent in one round trip at most."""
_GATHER_S = 0.02
"""How long the outcome of a bulk request waits for others, so that they share a round trip."""


class Committer:
    """Owns the outcomes from the moment they are decided until the server has them.

    `on_committed(outcome, written, seconds)` is called for each once it is committed; `written` is None if
    the entry stays pending for another delivery: another worker holds it by now, or the server refused the
    outcome for good.

    Attributes:
        held_s: monotonic time at which the leases of all that is held were last known to be ours.
    """

    def __init__(
        self,
        server: QueueConnection,
        config: WorkerConfig,
        on_committed: Callable[[EntryOutcome, bool | None, float], None],
    ) -> None:
        self._server = server
        self._config = config
        self._on_committed = on_committed
        self._outcomes: deque[EntryOutcome] = deque()
        self._due = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._sending = 0
        self.held_s = time.monotonic()

    @property
    def backlog(self) -> int:
        """Outcomes that are not committed yet."""
        return len(self._outcomes) + self._sending

    def put(self, outcome: EntryOutcome) -> None:
        """Commit an outcome soon; that of an interactive request at once."""
        self._outcomes.append(outcome)
        if outcome.entry.key.lane == "interactive" or len(self._outcomes) >= _GATHERED:
            self._due.set()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_GATHER_S, self._due.set)

    async def run(self) -> None:
        """Commit until cancelled."""
        while True:
            await self._due.wait()
            self._due.clear()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            while self._outcomes:
                await self._round()

    async def _round(self) -> None:
        outcomes = [self._outcomes.popleft() for _ in range(min(_ROUND, len(self._outcomes)))]
        self._sending = len(outcomes)
        while outcomes:
            started_s = time.monotonic()
            replies = await self._send(outcomes)
            seconds = time.monotonic() - started_s
            again: list[EntryOutcome] = []
            for outcome, reply in zip(outcomes, replies, strict=True):
                if isinstance(reply, Exception) and is_transient(reply):
                    again.append(outcome)
                else:
                    self._on_committed(outcome, _written(outcome, reply), seconds)
            outcomes = again
            self._sending = len(outcomes)

    async def _send(self, outcomes: Sequence[EntryOutcome]) -> list[int | Exception]:
        """Send a round; waits while the server takes none of them for a reason that passes."""

        async def send(redis: Redis) -> list[int | Exception]:
            # Made anew for each attempt, which says for how long we have not heard of our leases.
            replies = await send_all(redis, [self._call(outcome) for outcome in outcomes])
            passing = [one for one in replies if isinstance(one, Exception) and is_transient(one)]
            if len(passing) == len(replies):
                raise passing[-1]
            return replies

        return await self._server.call("take outcomes", send)

    def _call(self, outcome: EntryOutcome) -> Call[int]:
        config, key, result = self._config, outcome.entry.key, outcome.result
        if result is None:
            assert outcome.burial is not None
            return delivery.discard(config.keys, key.entry, config.name, outcome.burial)
        body = result.encode()
        # Answered in kind, as other producers may have no keys yet. Failures tell nothing of a manuscript,
        # and stay readable where keys are what is wrong.
        if result.status == "ok" and is_sealed(outcome.entry.body):
            body = config.sealer.seal("result", result.id, body)
        return delivery.commit(
            config.keys,
            key.lane,
            key.entry,
            config.name,
            result.id,
            body,
            unsure_ms=(time.monotonic() - self.held_s) * 1000,
            reply=outcome.reply,
            burial=outcome.burial,
        )


def _written(outcome: EntryOutcome, reply: int | Exception) -> bool | None:
    """Whether its result was written; None if the entry stays pending."""
    key = outcome.entry.key
    if isinstance(reply, Exception):
        _log.error(
            "the server refused a result; it stays pending",
            extra=fields(entry=key.entry, reason=str(reply)),
        )
        return None
    if reply == -1:
        _log.warning(
            "not committed: another worker has taken it over", extra=fields(entry=key.entry, lane=key.lane)
        )
        return None
    return bool(reply)
