"""The workers' consumer group of a lane: making it, and deleting consumers whose workers are gone."""

from __future__ import annotations

from xuankan.protocol.keys import GROUP, Keys, Lane
from xuankan.protocol.lua import Call, Key, script
from xuankan.protocol.scripts import ALLOW_OOM


@script(
    """
-- From id 0, so that what is queued already is served too, also where it fills the server.
local made = redis.pcall('XGROUP', 'CREATE', stream, group, '0', 'MKSTREAM')
if made.err and not string.find(made.err, 'BUSYGROUP', 1, true) then return made end
return 1
""",
    flags=ALLOW_OOM,
)
def _create_group(*, stream: Key, group: str) -> int: ...


def create_group(keys: Keys, lane: Lane) -> Call[int]:
    """Make the workers' group of a lane unless it is there."""
    return _create_group(stream=keys.stream(lane), group=GROUP)


@script("""
-- In one step, because deleting a consumer deletes what it holds: it may have come back and read meanwhile.
if redis.call('EXISTS', heartbeat) == 1 then return 0 end
local rows = redis.pcall('XINFO', 'CONSUMERS', stream, group)
for _, row in ipairs(rows.err and {} or rows) do
  local facts = {}
  for place = 1, #row, 2 do facts[row[place]] = row[place + 1] end
  if facts.name == consumer and facts.pending == 0 and facts.idle >= tonumber(idle_ms) then
    redis.call('XGROUP', 'DELCONSUMER', stream, group, consumer)
    return 1
  end
end
return 0
""")
def _delete_consumer(*, stream: Key, heartbeat: Key, group: str, consumer: str, idle_ms: int) -> int: ...


def delete_consumer(keys: Keys, lane: Lane, consumer: str, idle_ms: int) -> Call[int]:
    """Delete a consumer that has no heartbeat, did nothing for `idle_ms`, and holds nothing.

    The call returns 1 if it did so.
    """
    stream, heartbeat = keys.stream(lane), keys.worker(consumer)
    return _delete_consumer(
        stream=stream, heartbeat=heartbeat, group=GROUP, consumer=consumer, idle_ms=idle_ms
    )
