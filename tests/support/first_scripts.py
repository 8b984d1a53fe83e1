"""Submit and commit in the first form that protocol version 1 had, word for word.

Tickets had three words and no digest then, and nobody checked who owned an entry. A process that has not been
upgraded, or a producer written from those scripts, still calls them, so they have to get on with today's.
"""

from __future__ import annotations

from xuankan.protocol.scripts import Script

SUBMIT = Script("""
-- KEYS: ticket, result, stream    ARGV: id, lane, reply address or '', request, ticket lifetime in ms
if redis.call('EXISTS', KEYS[2]) == 1 then return {'finished'} end
local ticket = redis.call('GET', KEYS[1])
if ticket then return {'queued', ticket} end
-- XADD stands first: where the server's memory is full it fails before anything is written.
local entry = redis.call('XADD', KEYS[3], '*', 'id', ARGV[1], 'request', ARGV[4])
ticket = ARGV[2] .. ' ' .. entry .. ' ' .. ARGV[3]
redis.call('SET', KEYS[1], ticket, 'PX', ARGV[5])
return {'accepted', ticket}
""")

COMMIT = Script("""
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
""")
