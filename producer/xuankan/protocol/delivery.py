"""What the server does in one step for a worker, beside `scripts`: ending an entry, keeping it, taking over.

Each function returns a `Call`, so that a worker can send many in one round trip. Any call may be sent again.

An entry belongs to the consumer in whose pending list it stands, and only its owner may end it. A worker that
was paused beyond its lease still believes that it owns what another has taken over. If it ended that, what
becomes of the request would be decided by a worker that was given up, perhaps one of an older release, under
the hands of the one that scores it now. So every script that ends an entry looks at the owner first, in the
same step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from xuankan.protocol.keys import GROUP, Keys, Lane
from xuankan.protocol.scripts import MAX_REPLIES, REPLY_TTL_MS, RESULT_TTL_MS, Script

MAX_DEAD: Final = 10_000
"""Entries that the dead stream keeps, about; the oldest go first."""
MAX_DEAD_BYTES: Final = 300_000
"""An entry of more bytes, or of more than 16 fields, is buried without its content. A request fits."""
DEAD_TTL_MS: Final = 7 * 86_400_000
"""How long an entry is kept on the dead stream: 7 days."""
HISTORY_TTL_MS: Final = 7 * 86_400_000
"""How long it is known who held an unfinished entry before: 7 days, or until it ends."""


@dataclass(frozen=True, slots=True)
class Call:
    """A script with its keys and arguments, ready to send."""

    script: Script
    keys: tuple[str, ...]
    args: tuple[str | bytes | int, ...]

    def by_hash(self) -> tuple[str | bytes | int, ...]:
        """The EVALSHA command."""
        return ("EVALSHA", self.script.sha, len(self.keys), *self.keys, *self.args)

    def by_text(self) -> tuple[str | bytes | int, ...]:
        """The EVAL command, which also teaches the server the script."""
        return ("EVAL", self.script.text, len(self.keys), *self.keys, *self.args)


@dataclass(frozen=True, slots=True)
class Burial:
    """Why an entry goes to the dead stream: a stable `code`, a sentence, who gave up after how many."""

    code: str
    message: str
    worker: str
    lane: Lane
    deliveries: int

    def args(self) -> tuple[str | int, ...]:
        """As the scripts take them."""
        return (self.code, self.message, self.worker, self.lane, self.deliveries)


# allow-oom: what ends a request frees more than it takes, and a full server must be able to drain.
_END: Final = (
    """#!lua flags=allow-oom
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

_COMMIT: Final = Script(
    _END
    + """
-- KEYS: stream, result, ticket, dead stream, history, [reply list]
-- ARGV: group, consumer, entry id, request id, result, result lifetime in ms, replies kept,
--       replies' lifetime in ms, server time at which the consumer held it for sure,
--       [code, message, worker, lane, deliveries]
local owner, now_ms = held(KEYS[1], ARGV[1], ARGV[3]), server_ms()
if owner and owner ~= ARGV[2] then return -1 end
if not owner and now_ms - ARGV[9] > tonumber(ARGV[6]) then
  -- Nobody holds it. Either the server lost it, and our result is the only one; or it was ended. Its result
  -- tells us that below, but we were away for so long that the result may have come and gone.
  if #redis.call('XRANGE', KEYS[1], ARGV[3], ARGV[3]) == 0 then return -1 end
end
local ticket = redis.call('GET', KEYS[3])
-- A ticket for another entry: this one's request ended long ago, and its id was submitted again since.
local ours = not ticket or string.match(ticket, '^%S+ (%S+)') == ARGV[3]
local written = 0
if ours and redis.call('EXISTS', KEYS[2]) == 0 then
  redis.call('HSET', KEYS[2], 'body', ARGV[5], 'committed_ms', now_ms,
    'digest', ticket and string.match(ticket, '^%S+ %S+ %S* (%S+)$') or '')
  redis.call('PEXPIRE', KEYS[2], ARGV[6])
  if KEYS[6] then
    redis.call('RPUSH', KEYS[6], ARGV[4])
    redis.call('LTRIM', KEYS[6], -tonumber(ARGV[7]), -1)
    redis.call('PEXPIRE', KEYS[6], ARGV[8])
  end
  if ARGV[10] then
    -- At the time of the result, so that a retry can tell that this is the result to take back.
    bury(KEYS[1], KEYS[4], KEYS[5], ARGV[3], now_ms, ARGV[10], ARGV[11], ARGV[12], ARGV[13], ARGV[14])
  end
  written = 1
end
redis.call('XACK', KEYS[1], ARGV[1], ARGV[3])
redis.call('XDEL', KEYS[1], ARGV[3])
redis.call('DEL', KEYS[5])
if ours then redis.call('DEL', KEYS[3]) end
return written
"""
)


def commit(
    keys: Keys,
    lane: Lane,
    entry: str,
    consumer: str,
    request_id: str,
    body: bytes,
    *,
    held_ms: float,
    reply: str | None = None,
    burial: Burial | None = None,
) -> Call:
    """Make a result visible if the request has none, and acknowledge and delete its entry in any case.

    Nothing at all happens if another consumer holds the entry.

    Args:
        keys: of the shard.
        lane: the entry's.
        entry: its id.
        consumer: who commits.
        request_id: whose result.
        body: the encoded result.
        held_ms: server time at which the consumer last knew that it held the entry.
        reply: the address of the producer that waits.
        burial: with it, the entry is also copied to the dead stream if the result was written.

    The call returns 1 if it wrote the result, 0 if there was one, -1 if the entry is not ours to end.
    """
    names = [
        *(keys.stream(lane), keys.result(request_id), keys.ticket(request_id)),
        *(keys.dead, keys.history(lane, entry)),
    ]
    if reply is not None:
        names.append(keys.reply(reply))
    lifetimes = (RESULT_TTL_MS, MAX_REPLIES, REPLY_TTL_MS, f"{held_ms:.3f}")
    args = (GROUP, consumer, entry, request_id, body, *lifetimes)
    return Call(_COMMIT, tuple(names), (*args, *(() if burial is None else burial.args())))


_DISCARD: Final = Script(
    _END
    + """
-- KEYS: stream, dead stream, history
-- ARGV: group, consumer, entry id, code, message, worker, lane, deliveries
local owner = held(KEYS[1], ARGV[1], ARGV[3])
if owner and owner ~= ARGV[2] then return -1 end
if owner then
  bury(KEYS[1], KEYS[2], KEYS[3], ARGV[3], server_ms(), ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8])
end
redis.call('XACK', KEYS[1], ARGV[1], ARGV[3])
redis.call('XDEL', KEYS[1], ARGV[3])
redis.call('DEL', KEYS[3])
return owner and 1 or 0
"""
)


def discard(keys: Keys, entry: str, consumer: str, burial: Burial) -> Call:
    """Move an entry that names no request, and so can have no result, to the dead stream.

    The call returns 1 if it did so, 0 if somebody else had, -1 if another consumer holds the entry.
    """
    names = (keys.stream(burial.lane), keys.dead, keys.history(burial.lane, entry))
    return Call(_DISCARD, names, (GROUP, consumer, entry, *burial.args()))


_RENEW: Final = Script("""
-- KEYS: stream    ARGV: group, consumer, entry ids
-- The owner is looked at first: a bare XCLAIM would steal back what another worker took over while we were
-- paused. JUSTID, because any other XCLAIM counts as a delivery.
local lost = {}
for i = 3, #ARGV do
  local pending = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1)[1]
  if pending and pending[2] == ARGV[2] then
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], 'JUSTID')
  elseif pending then
    lost[#lost + 1] = ARGV[i]
  end
end
return lost
""")


def renew(keys: Keys, lane: Lane, consumer: str, entries: Sequence[str]) -> Call:
    """Renew the leases of the entries that `consumer` holds.

    The call returns the entries that another consumer holds now. One that nobody holds is not among them: it
    is committed already, or the server lost it, and committing it again is right in both cases.
    """
    return Call(_RENEW, (keys.stream(lane),), (GROUP, consumer, *entries))


_CLAIM: Final = Script("""#!lua flags=allow-oom
-- KEYS: stream, history
-- ARGV: group, consumer, entry id, its owner, its deliveries, shortest idle time in ms, history's lifetime
-- The delivery is counted once, however often this is sent: if the count is one more than was seen and the
-- entry is ours, then only the answer was lost.
local row = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1)[1]
if not row then return false end
local again = row[2] == ARGV[2] and row[4] == ARGV[5] + 1
if not again then
  if row[2] ~= ARGV[4] or row[4] ~= tonumber(ARGV[5]) or row[3] < tonumber(ARGV[6]) then return false end
  local now = redis.call('TIME')
  local seen_ms = now[1] * 1000 + math.floor(now[2] / 1000) - row[3]
  redis.call('RPUSH', KEYS[2], cjson.encode({delivery = row[4], worker = row[2], seen_ms = seen_ms}))
  redis.call('LTRIM', KEYS[2], -32, -1)
  redis.call('PEXPIRE', KEYS[2], ARGV[7])
  redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[3])
end
local found = redis.call('XRANGE', KEYS[1], ARGV[3], ARGV[3])[1]
if not found then redis.call('XACK', KEYS[1], ARGV[1], ARGV[3]) end  -- deleted by hand while pending
return found and found[2]
""")


def claim(
    keys: Keys, lane: Lane, entry: str, consumer: str, *, owner: str, deliveries: int, idle_ms: int
) -> Call:
    """Take over a pending entry that `owner` let lie for `idle_ms`, seen after so many `deliveries`.

    Counts as a delivery, and keeps who held it until when. The call returns the entry's fields, or nil if it
    is not as it was seen any more.
    """
    names = (keys.stream(lane), keys.history(lane, entry))
    return Call(_CLAIM, names, (GROUP, consumer, entry, owner, deliveries, idle_ms, HISTORY_TTL_MS))


_RETIRE: Final = Script("""
-- KEYS: stream, the worker's sign of life    ARGV: group, consumer, shortest idle time in ms
-- In one step, because deleting a consumer deletes what it holds: it may have come back and read meanwhile.
if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
local rows = redis.pcall('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])
for _, row in ipairs(rows.err and {} or rows) do
  local facts = {}
  for place = 1, #row, 2 do facts[row[place]] = row[place + 1] end
  if facts.name == ARGV[2] and facts.pending == 0 and facts.idle >= tonumber(ARGV[3]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
    return 1
  end
end
return 0
""")


def retire(keys: Keys, lane: Lane, consumer: str, idle_ms: int) -> Call:
    """Delete a consumer that shows no sign of life, did nothing for `idle_ms`, and holds nothing.

    The call returns 1 if it did so.
    """
    return Call(_RETIRE, (keys.stream(lane), keys.worker(consumer)), (GROUP, consumer, idle_ms))


_FOUND: Final = Script("""#!lua flags=allow-oom
-- KEYS: stream    ARGV: group
-- From id 0, so that what is queued already is served too, also where it fills the server.
local made = redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
if made.err and not string.find(made.err, 'BUSYGROUP', 1, true) then return made end
return 1
""")


def found(keys: Keys, lane: Lane) -> Call:
    """Make the workers' group of a lane unless it is there."""
    return Call(_FOUND, (keys.stream(lane),), (GROUP,))


_SIGN: Final = Script("""#!lua flags=allow-oom
-- KEYS: the worker's sign of life, names of workers    ARGV: name, status, lifetime in ms
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('SADD', KEYS[2], ARGV[1])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return 1
""")


def sign(keys: Keys, worker: str, status: str, lifetime_ms: int) -> Call:
    """Show for `lifetime_ms` that a worker lives, also on a full server."""
    return Call(_SIGN, (keys.worker(worker), keys.workers), (worker, status, lifetime_ms))
