"""What the server does in one step: Lua scripts as typed functions.

Each script touches the keys of one shard only. Scripts are called by their hash and sent again when the
server does not know them (`NOSCRIPT`: a restart, a failover, SCRIPT FLUSH). Every script may run twice with
the same arguments and still have its effect once, because a client whose connection breaks cannot know
whether the server ran it.

The hash is also a script's version: while processes of two versions run side by side, each calls its own text
and the server keeps both. What both must agree on is the data, and that only ever grows: words at the end of
a ticket, fields of a hash or of an entry, keys that the older version leaves to their lifetime.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple, cast

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from xuankan.protocol.keys import GROUP, LANES, Keys, Lane

RESULT_TTL_MS: Final = 3_600_000
"""How long a result is kept, and so how long after its end a request id cannot be used again: 1 hour."""
TICKET_TTL_MS: Final = 7 * 86_400_000
"""How long a queued request is guarded against a second submission: 7 days, or until it ends."""
REPLY_TTL_MS: Final = 600_000
"""How long the replies of a producer that went away are kept: 10 minutes after the last one."""
MAX_REPLIES: Final = 10_000
"""Replies kept for one producer; older ones are dropped, and the producer finds those results by looking."""


class Script:
    """A Lua script. `text` is what the server runs, `sha` the name under which it keeps it."""

    def __init__(self, text: str) -> None:
        self.text = text.strip() + "\n"
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    async def __call__(self, redis: Redis, keys: Sequence[str], args: Sequence[str | bytes | int]) -> Any:
        """Run on the server and return its plain answer.

        Raises:
            redis.exceptions.RedisError: as for any command.
        """
        command = cast(Any, redis).execute_command
        try:
            return await command("EVALSHA", self.sha, len(keys), *keys, *args)
        except NoScriptError:
            return await command("EVAL", self.text, len(keys), *keys, *args)


SUBMIT: Final = Script("""
-- KEYS: ticket, result, stream
-- ARGV: id, lane, reply address or '', request, ticket lifetime in ms, [longest stream or 0, digest or '']
-- A negative longest takes nothing new, and tells of what is known.
local digest = ARGV[7] or ''
local function other(known) return digest ~= '' and known and known ~= '' and known ~= digest end
if redis.call('EXISTS', KEYS[2]) == 1 then
  return {other(redis.call('HGET', KEYS[2], 'digest')) and 'conflict' or 'finished'}
end
local ticket = redis.call('GET', KEYS[1])
if ticket then
  return {other(string.match(ticket, '^%S+ %S+ %S* (%S+)$')) and 'conflict' or 'queued', ticket}
end
local longest = tonumber(ARGV[6] or 0)
if longest ~= 0 and redis.call('XLEN', KEYS[3]) >= longest then return {'full'} end
-- XADD stands first: where the server's memory is full it fails before anything is written.
local reply = ARGV[3] ~= '' and {'reply', ARGV[3]} or {}
local entry = redis.call('XADD', KEYS[3], '*', 'id', ARGV[1], 'request', ARGV[4], unpack(reply))
ticket = ARGV[2] .. ' ' .. entry .. ' ' .. ARGV[3] .. ' ' .. digest
redis.call('SET', KEYS[1], ticket, 'PX', ARGV[5])
return {'accepted', ticket}
""")

FINISH: Final = Script("""#!lua flags=allow-oom
-- KEYS: ticket, result, stream, reply list, history
-- ARGV: id, start of the ticket (lane and entry id), entry id, group, result, result lifetime in ms,
--       reply address or '', replies kept, replies' lifetime in ms, channel of cancellations
local known = redis.call('HMGET', KEYS[2], 'body', 'committed_ms')
if known[1] then return {'finished', known[1], known[2]} end
-- The ticket is compared, not only looked for: its request may have ended and been submitted again since.
local ticket = redis.call('GET', KEYS[1]) or ''
if string.match(ticket, '^%S+ %S+') ~= ARGV[2] then return {'changed'} end
local now = redis.call('TIME')
local committed_ms = string.format('%.3f', now[1] * 1000 + now[2] / 1000)
redis.call('HSET', KEYS[2], 'body', ARGV[5], 'committed_ms', committed_ms,
  'digest', string.match(ticket, '^%S+ %S+ %S* (%S+)$') or '')
redis.call('PEXPIRE', KEYS[2], ARGV[6])
if ARGV[7] ~= '' then
  redis.call('RPUSH', KEYS[4], ARGV[1])
  redis.call('LTRIM', KEYS[4], -tonumber(ARGV[8]), -1)
  redis.call('PEXPIRE', KEYS[4], ARGV[9])
end
-- A worker that holds the entry finds the result when it commits, and so changes nothing.
redis.call('XACK', KEYS[3], ARGV[4], ARGV[3])
redis.call('XDEL', KEYS[3], ARGV[3])
redis.call('DEL', KEYS[1], KEYS[5])
redis.call('PUBLISH', ARGV[10], ARGV[1])
return {'done', ARGV[5], committed_ms}
""")


class QueuedAs(NamedTuple):
    """A ticket's content: `lane`, `entry` (id in the lane's stream), `reply` (the address, or empty).

    `digest` stands for what was asked, or is empty: submitters of other content under the same id are told.
    """

    lane: Lane
    entry: str
    reply: str
    digest: str = ""

    @classmethod
    def parse(cls, ticket: bytes) -> QueuedAs:
        """Read a ticket as `SUBMIT` wrote it: `lane entry reply digest`; older ones have no digest."""
        lane, entry, *rest = ticket.decode().split(" ")
        assert lane in LANES, lane
        return cls(lane, entry, *rest)


class Submitted(NamedTuple):
    """What became of a submission: `accepted` now, or `queued` or `finished` before under the same id.

    Nothing was written if the id stands for something else (`conflict`), or the lane's stream is as long as
    it may be (`full`).
    """

    state: Literal["accepted", "queued", "finished", "conflict", "full"]
    ticket: QueuedAs | None


class Kept(NamedTuple):
    """A result as the server keeps it: the encoded `Result`, and when it became visible (server time)."""

    body: bytes
    committed_ms: float


async def submit(
    redis: Redis,
    keys: Keys,
    request_id: str,
    lane: Lane,
    reply: str | None,
    body: bytes,
    *,
    longest: int = 0,
    digest: str = "",
) -> Submitted:
    """Put a request on its lane's stream unless its id is queued, running or finished already.

    At most `longest` entries may be on the stream, so that many producers together cannot overrun the server
    (0 for any number; -1 adds nothing, and tells whether the id is known). `digest` has no spaces and is
    equal for submissions that ask the same; empty compares nothing.

    Raises:
        redis.exceptions.RedisError: as for any command; calling again is safe.
    """
    answer = await SUBMIT(
        redis,
        [keys.ticket(request_id), keys.result(request_id), keys.stream(lane)],
        [request_id, lane, reply or "", body, TICKET_TTL_MS, longest, digest],
    )
    state = answer[0].decode()
    known = state in ("accepted", "queued")
    return Submitted(state, QueuedAs.parse(answer[1]) if known else None)


async def finish(redis: Redis, keys: Keys, request_id: str, result: bytes) -> tuple[bool, Kept] | None:
    """End a request from the producer's side: keep `result` unless there is one, and take the request off.

    Returns:
        Whether this call ended it, with the result that is kept; None if no such request is known.

    Raises:
        redis.exceptions.RedisError: as for any command; calling again is safe.
    """
    while True:
        _, kept, ticket = await look(redis, keys, request_id)
        if kept is not None:
            return False, kept
        if ticket is None:
            return None
        answer = await FINISH(
            redis,
            [
                keys.ticket(request_id),
                keys.result(request_id),
                keys.stream(ticket.lane),
                keys.reply(ticket.reply or "-"),
                keys.history(ticket.lane, ticket.entry),
            ],
            [
                request_id,
                f"{ticket.lane} {ticket.entry}",
                ticket.entry,
                GROUP,
                result,
                RESULT_TTL_MS,
                ticket.reply,
                MAX_REPLIES,
                REPLY_TTL_MS,
                keys.cancellations,
            ],
        )
        if answer[0] != b"changed":
            return answer[0] == b"done", Kept(answer[1], float(answer[2]))


class Seen(NamedTuple):
    """What the server knows of a request: its result, else its ticket, else neither."""

    request_id: str
    result: Kept | None
    ticket: QueuedAs | None


async def look_all(redis: Redis, keys: Keys, request_ids: Sequence[str]) -> list[Seen]:
    """What the server knows of each request, in one round trip.

    Raises:
        redis.exceptions.RedisError: as for any command.
    """
    pipeline = cast(Any, redis.pipeline(transaction=False))
    for request_id in request_ids:
        # In this order: a commit between the two commands deletes the ticket after it was seen, and is found.
        pipeline.get(keys.ticket(request_id))
        pipeline.hmget(keys.result(request_id), "body", "committed_ms")
    answers = cast(list[Any], await pipeline.execute())
    seen: list[Seen] = []
    for request_id, ticket, (body, committed_ms) in zip(
        request_ids, answers[::2], answers[1::2], strict=True
    ):
        kept = None if body is None else Kept(body, float(committed_ms))
        seen.append(Seen(request_id, kept, None if kept or ticket is None else QueuedAs.parse(ticket)))
    return seen


async def look(redis: Redis, keys: Keys, request_id: str) -> Seen:
    """What the server knows of one request.

    Raises:
        redis.exceptions.RedisError: as for any command.
    """
    return (await look_all(redis, keys, [request_id]))[0]
