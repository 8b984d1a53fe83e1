"""What the server does in one step for a worker to end an entry; `leases` has the rest.

Each function returns a `Call`, so that a worker can send many in one round trip. Any call may be sent again.

An entry belongs to the consumer in whose pending list it stands, and only its owner may end it. A worker that
was paused beyond its lease still believes that it owns what another has taken over. If it ended that, what
becomes of the request would be decided by a worker that was given up, perhaps one of an older release, under
the hands of the one that scores it now. So every script that ends an entry looks at the owner first, in the
same step.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final

from xuankan.protocol.keys import GROUP, Keys, Lane
from xuankan.protocol.lua import Call, Key, script
from xuankan.protocol.scripts import ALLOW_OOM, MAX_REPLIES, REPLY_TTL_MS, RESULT_TTL_MS

MAX_DEAD: Final = 10_000
"""Entries that the dead stream keeps, about; the oldest go first."""
MAX_DEAD_BYTES: Final = 300_000
"""An entry of more bytes, or of more than 16 fields, is buried without its content. A request fits."""
DEAD_TTL_MS: Final = 7 * 86_400_000
"""How long an entry is kept on the dead stream: 7 days."""


@dataclass(frozen=True, slots=True)
class Burial:
    """Why an entry goes to the dead stream: a stable `code`, a sentence, who gave up after how many."""

    code: str
    message: str
    worker: str
    lane: Lane
    deliveries: int


_END: Final = (
    """
local function held(stream, group, entry)
  -- An error: there is no such group, because the server lost its data.
  local pending = redis.pcall('XPENDING', stream, group, entry, entry, 1)
  return not pending.err and pending[1] and pending[1][2]
end
local function server_ms()
  local now = redis.call('TIME')
  return string.format('%.3f', now[1] * 1000 + now[2] / 1000)
end
-- The entry is copied on the server, so that its bytes do not travel again.
local function bury(stream, dead, history, entry, now_ms, code, message, worker, lane, deliveries)
  local found = redis.call('XRANGE', stream, entry, entry)[1]
  local content, bytes = found and found[2] or {}, 0
  for _, part in ipairs(content) do bytes = bytes + #part end
  if #content > 32 or bytes > MAX_DEAD_BYTES then content = {} end
  local before = '[' .. table.concat(redis.call('LRANGE', history, 0, -1), ',') .. ']'
  redis.call('XADD', dead, 'MAXLEN', '~', MAX_DEAD, '*', 'code', code, 'message', message,
    'worker', worker, 'lane', lane, 'deliveries', deliveries, 'entry', entry, 'buried_ms', now_ms,
    'bytes', bytes, 'history', before, unpack(content))
  redis.call('PEXPIRE', dead, DEAD_TTL_MS)
end
""".replace("MAX_DEAD_BYTES", str(MAX_DEAD_BYTES))
    .replace("MAX_DEAD", str(MAX_DEAD))
    .replace("DEAD_TTL_MS", str(DEAD_TTL_MS))
)


@script(
    """
local owner, now_ms = held(stream, group, entry), server_ms()
if owner and owner ~= consumer then return -1 end
if not owner and tonumber(unsure_ms) > tonumber(lifetime_ms) then
  -- Nobody holds it. Either the server lost it, and our result is the only one; or it was ended. Its result
  -- tells us that below, but we were away for so long that the result may have come and gone.
  if #redis.call('XRANGE', stream, entry, entry) == 0 then return -1 end
end
local known = redis.call('GET', ticket)
-- A ticket for another entry: this one's request ended long ago, and its id was submitted again since.
local ours = not known or string.match(known, '^%S+ (%S+)') == entry
local written = 0
if ours and redis.call('EXISTS', result) == 0 then
  redis.call('HSET', result, 'body', body, 'committed_ms', now_ms,
    'digest', known and string.match(known, '^%S+ %S+ %S* (%S+)$') or '',
    unpack(code and {'failed ' .. now_ms, ''} or {}))
  redis.call('PEXPIRE', result, lifetime_ms)
  if replies then
    redis.call('RPUSH', replies, request_id)
    redis.call('LTRIM', replies, -tonumber(max_replies), -1)
    redis.call('PEXPIRE', replies, replies_lifetime_ms)
  end
  if code then
    -- At the time of the result, so that a retry can tell that this is the result to take back.
    bury(stream, dead, history, entry, now_ms, code, message, worker, lane, deliveries)
  end
  written = 1
end
redis.call('XACK', stream, group, entry)
redis.call('XDEL', stream, entry)
redis.call('DEL', history)
if ours then redis.call('DEL', ticket) end
return written
""",
    library=_END,
    flags=ALLOW_OOM,
)
def _commit(
    *,
    stream: Key,
    result: Key,
    ticket: Key,
    dead: Key,
    history: Key,
    replies: Key | None,
    group: str,
    consumer: str,
    entry: str,
    request_id: str,
    body: bytes,
    lifetime_ms: int,
    max_replies: int,
    replies_lifetime_ms: int,
    unsure_ms: float,
    code: str | None = None,
    message: str | None = None,
    worker: str | None = None,
    lane: str | None = None,
    deliveries: int | None = None,
) -> int: ...


def commit(
    keys: Keys,
    lane: Lane,
    entry: str,
    consumer: str,
    request_id: str,
    body: bytes,
    *,
    unsure_ms: float,
    reply: str | None = None,
    burial: Burial | None = None,
) -> Call[int]:
    """Make a result visible if the request has none, and acknowledge and delete its entry in any case.

    Nothing at all happens if another consumer holds the entry.

    Args:
        keys: of the shard.
        lane: the entry's.
        entry: its id.
        consumer: who commits.
        request_id: whose result.
        body: the encoded result.
        unsure_ms: for how long, by the consumer's monotonic clock, it has not known that it holds the entry.
        reply: the address of the producer that waits.
        burial: with it, the entry is also copied to the dead stream if the result was written.

    The call returns 1 if it wrote the result, 0 if there was one, -1 if the entry is not ours to end.
    """
    return _commit(
        stream=keys.stream(lane),
        result=keys.result(request_id),
        ticket=keys.ticket(request_id),
        dead=keys.dead,
        history=keys.history(lane, entry),
        replies=None if reply is None else keys.reply(reply),
        group=GROUP,
        consumer=consumer,
        entry=entry,
        request_id=request_id,
        body=body,
        lifetime_ms=RESULT_TTL_MS,
        max_replies=MAX_REPLIES,
        replies_lifetime_ms=REPLY_TTL_MS,
        unsure_ms=unsure_ms,
        **({} if burial is None else asdict(burial)),
    )


@script(
    """
local owner = held(stream, group, entry)
if owner and owner ~= consumer then return -1 end
if owner then
  bury(stream, dead, history, entry, server_ms(), code, message, worker, lane, deliveries)
end
redis.call('XACK', stream, group, entry)
redis.call('XDEL', stream, entry)
redis.call('DEL', history)
return owner and 1 or 0
""",
    library=_END,
    flags=ALLOW_OOM,
)
def _discard(
    *,
    stream: Key,
    dead: Key,
    history: Key,
    group: str,
    consumer: str,
    entry: str,
    code: str,
    message: str,
    worker: str,
    lane: str,
    deliveries: int,
) -> int: ...


def discard(keys: Keys, entry: str, consumer: str, burial: Burial) -> Call[int]:
    """Move an entry that names no request, and so can have no result, to the dead stream.

    The call returns 1 if it did so, 0 if somebody else had, -1 if another consumer holds the entry.
    """
    return _discard(
        stream=keys.stream(burial.lane),
        dead=keys.dead,
        history=keys.history(burial.lane, entry),
        group=GROUP,
        consumer=consumer,
        entry=entry,
        **asdict(burial),
    )
