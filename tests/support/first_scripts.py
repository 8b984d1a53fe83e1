"""Submit and commit in the first form that protocol version 1 had: the same keys, arguments and commands.

Tickets had three words and no digest then, and nobody checked who owned an entry. A process that has not been
upgraded, or a producer written from those scripts, still calls them, so they have to get on with today's.
"""

from __future__ import annotations

from xuankan.protocol.lua import Key, script


@script("""
if redis.call('EXISTS', result) == 1 then return {'finished'} end
local known = redis.call('GET', ticket)
if known then return {'queued', known} end
-- XADD stands first: where the server's memory is full it fails before anything is written.
local entry = redis.call('XADD', stream, '*', 'id', request_id, 'request', request)
known = lane .. ' ' .. entry .. ' ' .. reply
redis.call('SET', ticket, known, 'PX', lifetime_ms)
return {'accepted', known}
""")
def submit(
    *,
    ticket: Key,
    result: Key,
    stream: Key,
    request_id: str,
    lane: str,
    reply: str,
    request: bytes,
    lifetime_ms: int,
) -> list[bytes]: ...


_END = """
local function now_ms()
  local now = redis.call('TIME')
  return string.format('%.3f', now[1] * 1000 + now[2] / 1000)
end
local function bury(stream, dead, entry, code, message, worker, lane, deliveries)
  local found = redis.call('XRANGE', stream, entry, entry)[1]
  local content, bytes = found and found[2] or {}, 0
  for _, part in ipairs(content) do bytes = bytes + #part end
  if #content > 32 or bytes > 1048576 then content = {} end
  redis.call('XADD', dead, 'MAXLEN', '~', 10000, '*', 'code', code, 'message', message,
    'worker', worker, 'lane', lane, 'deliveries', deliveries, 'entry', entry, 'buried_ms', now_ms(),
    'bytes', bytes, unpack(content))
end
"""


@script(
    """
local known = redis.call('GET', ticket)
-- A ticket for another entry: this one's request ended long ago, and its id was submitted again since.
local ours = not known or string.match(known, '^%S+ (%S+)') == entry
local written = 0
if ours and redis.call('EXISTS', result) == 0 then
  redis.call('HSET', result, 'body', body, 'committed_ms', now_ms())
  redis.call('PEXPIRE', result, lifetime_ms)
  if replies then
    redis.call('RPUSH', replies, request_id)
    redis.call('LTRIM', replies, -tonumber(max_replies), -1)
    redis.call('PEXPIRE', replies, replies_lifetime_ms)
  end
  if code then
    bury(stream, dead, entry, code, message, worker, lane, deliveries)
  end
  written = 1
end
redis.call('XACK', stream, group, entry)
redis.call('XDEL', stream, entry)
if ours then redis.call('DEL', ticket) end
return written
""",
    library=_END,
)
def commit(
    *,
    stream: Key,
    result: Key,
    ticket: Key,
    dead: Key,
    replies: Key | None,
    group: str,
    entry: str,
    request_id: str,
    body: bytes,
    lifetime_ms: int,
    max_replies: int,
    replies_lifetime_ms: int,
    code: str | None = None,
    message: str | None = None,
    worker: str | None = None,
    lane: str | None = None,
    deliveries: int | None = None,
) -> int: ...
