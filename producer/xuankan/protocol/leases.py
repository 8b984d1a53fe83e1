"""What the server does in one step for a worker to keep an entry, to see what others hold, to take it over.

Each function returns a `Call`. Any call may be sent again.

A lease is not a time that the server counts. XPENDING tells by the server's wall clock how long ago an entry
was delivered. Set back by an hour, that clock would keep what dead workers hold for an hour; set forward, it
would take everything away from the living. So a renewal is a sign: it changes when the entry was delivered to
whatever the server believes to be now. Whoever watches an entry sees whether the sign changes, and counts by
a clock of its own for how long it did not (`xuankan_worker.consumer.leases`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from xuankan.protocol.keys import GROUP, Keys, Lane
from xuankan.protocol.lua import Call, Key, script
from xuankan.protocol.scripts import ALLOW_OOM

HISTORY_TTL_MS: Final = 7 * 86_400_000
"""How long it is known who held an unfinished entry before: 7 days, or until it ends."""
NOBODY: Final = "~"
"""The consumer of entries that were handed back: no worker's name, and anybody may take from it at once."""
SAME_SIGN_MS: Final = 5
"""Two signs that differ by less are the same: Redis 7.0 reads the clock more than once within a script."""
MAX_WATCHED: Final = 10_000
"""Pending entries of a lane that are looked at; the oldest, which those that were given up are among."""

_SIGN: Final = """
-- When a pending entry was delivered or renewed. -1: in the future, as XPENDING says 0 then, after the clock
-- was set back. (Or in this very millisecond, which no entry is at every look.)
local function sign_of(idle_ms)
  local now = redis.call('TIME')
  return idle_ms > 0 and now[1] * 1000 + math.floor(now[2] / 1000) - idle_ms or -1
end
"""


@script("""
-- The owner is looked at first: a bare XCLAIM would steal back what another worker took over while we were
-- paused. JUSTID, because any other XCLAIM counts as a delivery.
local lost = {}
for _, entry in ipairs(entries) do
  local pending = redis.call('XPENDING', stream, group, entry, entry, 1)[1]
  if pending and pending[2] == consumer then
    redis.call('XCLAIM', stream, group, consumer, 0, entry, 'JUSTID')
  elseif pending then
    lost[#lost + 1] = entry
  end
end
return lost
""")
def _renew(*, stream: Key, group: str, consumer: str, entries: Sequence[str]) -> list[bytes]: ...


def renew(keys: Keys, lane: Lane, consumer: str, entries: Sequence[str]) -> Call[list[bytes]]:
    """Renew the leases of the entries that `consumer` holds.

    The call returns the entries that another consumer holds now. One that nobody holds is not among them: it
    is committed already, or the server lost it, and committing it again is right in both cases.
    """
    return _renew(stream=keys.stream(lane), group=GROUP, consumer=consumer, entries=entries)


@script(
    """
local found = {}
for _, row in ipairs(redis.call('XPENDING', stream, group, '-', '+', count)) do
  found[#found + 1] = {row[1], row[2], row[4], row[3], sign_of(row[3])}
end
return found
""",
    library=_SIGN,
)
def _watch(*, stream: Key, group: str, count: int) -> list[tuple[bytes, bytes, int, int, int]]: ...


def watch(keys: Keys, lane: Lane) -> Call[list[tuple[bytes, bytes, int, int, int]]]:
    """Look at all pending entries of a lane.

    The call returns of each its id, its owner, how often it was delivered, its idle time in ms by the
    server's clock, and its sign, which changes when its lease is renewed.
    """
    return _watch(stream=keys.stream(lane), group=GROUP, count=MAX_WATCHED)


@script(
    """
-- The delivery is counted once, however often this is sent: if the count is one more than was seen and the
-- entry is ours, then only the answer was lost.
local row = redis.call('XPENDING', stream, group, entry, entry, 1)[1]
if not row then return false end
local again = row[2] == consumer and row[4] == deliveries + 1
if not again then
  if row[2] ~= owner or row[4] ~= tonumber(deliveries) then return false end
  local sign = sign_of(row[3])
  if seen_sign and math.abs(sign - seen_sign) > tonumber(same_sign_ms) then return false end
  if owner ~= nobody then
    local now = redis.call('TIME')
    local seen_ms = now[1] * 1000 + math.floor(now[2] / 1000) - row[3]
    redis.call('RPUSH', history, cjson.encode({delivery = row[4], worker = owner, seen_ms = seen_ms}))
    redis.call('LTRIM', history, -32, -1)
    redis.call('PEXPIRE', history, history_lifetime_ms)
  end
  redis.call('XCLAIM', stream, group, consumer, 0, entry)
end
local found = redis.call('XRANGE', stream, entry, entry)[1]
if not found then redis.call('XACK', stream, group, entry) end  -- deleted by hand while pending
return found and found[2]
""",
    library=_SIGN,
    flags=ALLOW_OOM,
)
def _claim(
    *,
    stream: Key,
    history: Key,
    group: str,
    consumer: str,
    entry: str,
    owner: str,
    deliveries: int,
    nobody: str,
    history_lifetime_ms: int,
    same_sign_ms: int,
    seen_sign: int | None = None,
) -> list[bytes] | None: ...


def claim(
    keys: Keys, lane: Lane, entry: str, consumer: str, *, owner: str, deliveries: int, sign: int | None
) -> Call[list[bytes] | None]:
    """Take over a pending entry of `owner`, seen after so many `deliveries` and with this `sign`.

    Counts as a delivery, and keeps who held it until when. Without a sign it is not looked at: what one held
    oneself. The call returns the entry's fields, or nil if it is not as it was seen any more.
    """
    return _claim(
        stream=keys.stream(lane),
        history=keys.history(lane, entry),
        group=GROUP,
        consumer=consumer,
        entry=entry,
        owner=owner,
        deliveries=deliveries,
        nobody=NOBODY,
        history_lifetime_ms=HISTORY_TTL_MS,
        same_sign_ms=SAME_SIGN_MS,
        seen_sign=sign,
    )


@script(
    """
for _, row in ipairs(redis.call('XPENDING', stream, group, '-', '+', count, consumer)) do
  redis.call('XCLAIM', stream, group, nobody, 0, row[1], 'RETRYCOUNT', math.max(0, row[4] - 1), 'JUSTID')
end
return 1
""",
    flags=ALLOW_OOM,
)
def _hand_back(*, stream: Key, group: str, consumer: str, nobody: str, count: int) -> int: ...


def hand_back(keys: Keys, lane: Lane, consumer: str) -> Call[int]:
    """Give what `consumer` holds to whoever wants it, as if it had never been delivered to it.

    For a worker that ends by a fault of its own, which must not count against what it held.
    """
    return _hand_back(
        stream=keys.stream(lane), group=GROUP, consumer=consumer, nobody=NOBODY, count=MAX_WATCHED
    )
