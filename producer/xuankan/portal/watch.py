"""How far requests are, looked at for all event streams together: a quiet one costs nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Generator, Sequence
from typing import Final

from xuankan.client.producer import Producer
from xuankan.client.requests import RequestStatus
from xuankan.errors import ServerUnavailable
from xuankan.protocol.keys import GROUP, LANES, Keys, Lane
from xuankan.protocol.lua import Key, KeyList, script
from xuankan.transport.client import backoff_s

_PERIOD_S: Final = 0.25
"""Between looks while few are followed. A look is one call for `_AT_ONCE` of them, and many take turns."""
_AT_ONCE: Final = 128
_NOTABLE_S: Final = 1.0
_NOTABLE_SHARE: Final = 0.1
"""By so much a wait has to change to be told again."""


@script("""
-- Two keys of each request: its ticket and its result.
local told = {}
for place = 1, #requests, 2 do
  local known = redis.call('GET', requests[place])
  local state = 'unknown'
  if redis.call('EXISTS', requests[place + 1]) == 1 then
    state = 'finished'
  elseif known then
    local lane, entry = string.match(known, '^(%S+) (%S+)')
    local pending = redis.pcall('XPENDING', lane == 'bulk' and bulk or interactive, group, entry, entry, 1)
    state = ((pending.err or #pending == 0) and 'queued ' or 'running ') .. lane
  end
  told[#told + 1] = state
end
return told
""")
def _states(*, interactive: Key, bulk: Key, requests: KeyList, group: str) -> list[bytes]: ...


class Followed:
    """One request that is followed.

    Attributes:
        status: as last seen; None before the first look.
        wait_s: until a worker has it, at most; None if that is not known.
        changed: set when either is worth telling.
    """

    def __init__(self) -> None:
        self.status: RequestStatus | None = None
        self.wait_s: float | None = None
        self.changed = asyncio.Event()

    def see(self, status: RequestStatus, wait_s: float | None) -> None:
        """Take note of a look."""
        if status == self.status and not _notable(self.wait_s, wait_s):
            return
        # What came behind it does not hold it up, though the queue is longer by it.
        known = None not in (self.wait_s, wait_s) and status == self.status
        self.wait_s = min(self.wait_s or 0.0, wait_s or 0.0) if known else wait_s
        self.status = status
        self.changed.set()


def _notable(before_s: float | None, now_s: float | None) -> bool:
    if before_s is None or now_s is None:
        return before_s is not now_s
    return before_s - now_s > max(_NOTABLE_S, _NOTABLE_SHARE * before_s)


class Watch:
    """Looks at what is followed, as long as something is."""

    def __init__(self, producer: Producer, keys: Keys) -> None:
        self._producer = producer
        self._keys = keys
        self._followed: dict[str, set[Followed]] = {}
        self._task: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def following(self, request_id: str) -> Generator[Followed]:
        """Follow a request."""
        one = Followed()
        self._followed.setdefault(request_id, set()).add(one)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look(), name="xuankan-watch")
        try:
            yield one
        finally:
            self._followed[request_id].discard(one)
            if not self._followed[request_id]:
                del self._followed[request_id]

    async def close(self) -> None:
        """Stop looking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    async def _look(self) -> None:
        failures = 0
        while self._followed:
            turn = tuple(self._followed)
            for start in range(0, len(turn), _AT_ONCE):
                try:
                    await self._see(turn[start : start + _AT_ONCE])
                    failures = 0
                except ServerUnavailable:  # whoever waits goes on waiting
                    failures += 1
                await asyncio.sleep(_PERIOD_S + backoff_s(failures))

    async def _see(self, request_ids: Sequence[str]) -> None:
        keys = [key for one in request_ids for key in (self._keys.ticket(one), self._keys.result(one))]
        call = _states(
            interactive=self._keys.stream("interactive"),
            bulk=self._keys.stream("bulk"),
            requests=keys,
            group=GROUP,
        )
        told = await self._producer.server.call("tell how far requests are", call.send)
        waits: dict[Lane, float | None] = {}
        for request_id, state in zip(request_ids, told, strict=True):
            status = _STATUSES[state]
            wait_s: float | None = 0.0
            if status.state == "queued" and status.lane is not None:
                if status.lane not in waits:
                    waits[status.lane] = (await self._producer.pressure(status.lane)).expected_wait_s
                wait_s = waits[status.lane]
            for one in self._followed.get(request_id, ()):
                one.see(status, wait_s)


_STATUSES: Final = {b"finished": RequestStatus("finished"), b"unknown": RequestStatus("unknown")} | {
    f"{status.state} {lane}".encode(): status
    for lane in LANES
    for status in (RequestStatus("queued", lane), RequestStatus("running", lane))
}
