"""What the server does in one step for a worker, beside `scripts`: ending an entry, or keeping it.

Each function returns a `Call`, so that a worker can send many in one round trip. Any call may be sent again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from xuankan.protocol.keys import GROUP, Keys, Lane
from xuankan.protocol.scripts import MAX_REPLIES, REPLY_TTL_MS, RESULT_TTL_MS, Script

MAX_DEAD: Final = 10_000
"""Entries that the dead stream keeps, about."""
MAX_DEAD_BYTES: Final = 1024 * 1024
"""An entry of more bytes, or of more than 16 fields, is buried without its content."""


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


# The entry is copied on the server, so that its bytes do not travel again.
_BURY: Final = """
local function now_ms()
  local now = redis.call('TIME')
  return string.format('%.3f', now[1] * 1000 + now[2] / 1000)
end
local function bury(stream, dead, entry, code, message, worker, lane, deliveries)
  local found = redis.call('XRANGE', stream, entry, entry)[1]
  local content, bytes = found and found[2] or {}, 0
  for _, part in ipairs(content) do bytes = bytes + #part end
  if #content > 32 or bytes > %MAX_DEAD_BYTES% then content = {} end
  redis.call('XADD', dead, 'MAXLEN', '~', %MAX_DEAD%, '*', 'code', code, 'message', message,
    'worker', worker, 'lane', lane, 'deliveries', deliveries, 'entry', entry, 'buried_ms', now_ms(),
    'bytes', bytes, unpack(content))
end
""".replace("%MAX_DEAD_BYTES%", str(MAX_DEAD_BYTES)).replace("%MAX_DEAD%", str(MAX_DEAD))

_COMMIT: Final = Script(
    _BURY
    + """
-- KEYS: stream, result, ticket, dead stream, [reply list]
-- ARGV: group, entry id, request id, result, result lifetime in ms, replies kept, replies' lifetime in ms,
--       [code, message, worker, lane, deliveries]
local ticket = redis.call('GET', KEYS[3])
-- A ticket for another entry: this one's request ended long ago, and its id was submitted again since.
local ours = not ticket or string.match(ticket, '^%S+ (%S+)') == ARGV[2]
local written = 0
if ours and redis.call('EXISTS', KEYS[2]) == 0 then
  redis.call('HSET', KEYS[2], 'body', ARGV[4], 'committed_ms', now_ms())
  redis.call('PEXPIRE', KEYS[2], ARGV[5])
  if KEYS[5] then
    redis.call('RPUSH', KEYS[5], ARGV[3])
    redis.call('LTRIM', KEYS[5], -tonumber(ARGV[6]), -1)
    redis.call('PEXPIRE', KEYS[5], ARGV[7])
  end
  if ARGV[8] then
    bury(KEYS[1], KEYS[4], ARGV[2], ARGV[8], ARGV[9], ARGV[10], ARGV[11], ARGV[12])
  end
  written = 1
end
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
redis.call('XDEL', KEYS[1], ARGV[2])
if ours then redis.call('DEL', KEYS[3]) end
return written
"""
)


def commit(
    keys: Keys,
    lane: Lane,
    entry: str,
    request_id: str,
    body: bytes,
    reply: str | None = None,
    burial: Burial | None = None,
) -> Call:
    """Make a result visible if the request has none; in every case the entry is acknowledged and deleted.

    With `burial`, the entry is also copied to the dead stream if the result was written. The call returns 1
    if it wrote the result, 0 if there was one.
    """
    names = [keys.stream(lane), keys.result(request_id), keys.ticket(request_id), keys.dead]
    if reply is not None:
        names.append(keys.reply(reply))
    args = (GROUP, entry, request_id, body, RESULT_TTL_MS, MAX_REPLIES, REPLY_TTL_MS)
    return Call(_COMMIT, tuple(names), (*args, *(() if burial is None else burial.args())))


_DISCARD: Final = Script(
    _BURY
    + """
-- KEYS: stream, dead stream
-- ARGV: group, entry id, code, message, worker, lane, deliveries
local acknowledged = redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
if acknowledged == 1 then
  bury(KEYS[1], KEYS[2], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7])
end
redis.call('XDEL', KEYS[1], ARGV[2])
return acknowledged
"""
)


def discard(keys: Keys, entry: str, burial: Burial) -> Call:
    """Move an entry that names no request, and so can have no result, to the dead stream.

    The call returns 1 if it did so, 0 if somebody else had.
    """
    return Call(_DISCARD, (keys.stream(burial.lane), keys.dead), (GROUP, entry, *burial.args()))


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
