"""What the server does in one step for a producer, and what every script keeps to.

Each script touches the keys of one shard only. Scripts are called by their hash and sent again when the
server does not know them (`NOSCRIPT`: a restart, a failover, SCRIPT FLUSH). Every script may run twice with
the same arguments and still have its effect once, because a client whose connection breaks cannot know
whether the server ran it.

The hash is also a script's version: while processes of two versions run side by side, each calls its own text
and the server keeps both. What both must agree on is the data, and that only ever grows: words at the end of
a ticket, fields of a hash or of an entry, keys that the older version leaves to their lifetime.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple, cast

from redis.asyncio import Redis

from xuankan.protocol.keys import GROUP, LANES, Keys, Lane
from xuankan.protocol.lua import Key, script

RESULT_TTL_MS: Final = 3_600_000
"""How long a result is kept, and so how long after its end a request id cannot be used again: 1 hour."""
TICKET_TTL_MS: Final = 7 * 86_400_000
"""How long a queued request is guarded against a second submission: 7 days, or until it ends."""
REPLY_TTL_MS: Final = 600_000
"""How long the replies of a producer that went away are kept: 10 minutes after the last one."""
MAX_REPLIES: Final = 10_000
"""Replies kept for one producer; older ones are dropped, and the producer finds those results by looking."""
ALLOW_OOM: Final = "allow-oom"
"""The flag of scripts that free more than they take: a full server must be able to drain."""


@script("""
-- A negative longest takes nothing new, and tells of what is known. Longest and digest may be left out.
local function other(known)
  return (digest or '') ~= '' and known and known ~= '' and known ~= digest
end
if redis.call('EXISTS', result) == 1 then
  return {other(redis.call('HGET', result, 'digest')) and 'conflict' or 'finished'}
end
local known = redis.call('GET', ticket)
if known then
  return {other(string.match(known, '^%S+ %S+ %S* (%S+)$')) and 'conflict' or 'queued', known}
end
local bound = tonumber(longest or 0)
if bound ~= 0 and redis.call('XLEN', stream) >= bound then return {'full'} end
-- XADD stands first: where the server's memory is full it fails before anything is written.
local answer_to = reply ~= '' and {'reply', reply} or {}
local entry = redis.call('XADD', stream, '*', 'id', request_id, 'request', request, unpack(answer_to))
known = lane .. ' ' .. entry .. ' ' .. reply .. ' ' .. (digest or '')
redis.call('SET', ticket, known, 'PX', lifetime_ms)
return {'accepted', known}
""")
def _submit(
    *,
    ticket: Key,
    result: Key,
    stream: Key,
    request_id: str,
    lane: str,
    reply: str,
    request: bytes,
    lifetime_ms: int,
    longest: int,
    digest: str,
) -> list[bytes]: ...


@script(
    """
local kept = redis.call('HMGET', result, 'body', 'committed_ms')
if kept[1] then return {'finished', kept[1], kept[2]} end
-- The ticket is compared, not only looked for: its request may have ended and been submitted again since.
local known = redis.call('GET', ticket) or ''
if string.match(known, '^%S+ %S+') ~= queued_as then return {'changed'} end
local now = redis.call('TIME')
local committed_ms = string.format('%.3f', now[1] * 1000 + now[2] / 1000)
redis.call('HSET', result, 'body', body, 'committed_ms', committed_ms,
  'digest', string.match(known, '^%S+ %S+ %S* (%S+)$') or '')
redis.call('PEXPIRE', result, lifetime_ms)
if reply ~= '' then
  redis.call('RPUSH', replies, request_id)
  redis.call('LTRIM', replies, -tonumber(max_replies), -1)
  redis.call('PEXPIRE', replies, replies_lifetime_ms)
end
-- A worker that holds the entry finds the result when it commits, and so changes nothing.
redis.call('XACK', stream, group, entry)
redis.call('XDEL', stream, entry)
redis.call('DEL', ticket, history)
redis.call('PUBLISH', cancellations, request_id)
return {'done', body, committed_ms}
""",
    flags=ALLOW_OOM,
)
def _finish(
    *,
    ticket: Key,
    result: Key,
    stream: Key,
    replies: Key,
    history: Key,
    request_id: str,
    queued_as: str,
    entry: str,
    group: str,
    body: bytes,
    lifetime_ms: int,
    reply: str,
    max_replies: int,
    replies_lifetime_ms: int,
    cancellations: str,
) -> list[bytes]: ...


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
        """Read a ticket as submit wrote it: `lane entry reply digest`; older ones have no digest."""
        lane, entry, *rest = ticket.decode().split(" ")
        assert lane in LANES, lane
        return cls(lane, entry, *rest)


SubmitState = Literal["accepted", "queued", "finished", "conflict", "full"]


class Submitted(NamedTuple):
    """What became of a submission: `accepted` now, or `queued` or `finished` before under the same id.

    Nothing was written if the id stands for something else (`conflict`), or the lane's stream is as long as
    it may be (`full`).
    """

    state: SubmitState
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
    answer = await _submit(
        ticket=keys.ticket(request_id),
        result=keys.result(request_id),
        stream=keys.stream(lane),
        request_id=request_id,
        lane=lane,
        reply=reply or "",
        request=body,
        lifetime_ms=TICKET_TTL_MS,
        longest=longest,
        digest=digest,
    ).send(redis)
    state = cast(SubmitState, answer[0].decode())
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
        answer = await _finish(
            ticket=keys.ticket(request_id),
            result=keys.result(request_id),
            stream=keys.stream(ticket.lane),
            replies=keys.reply(ticket.reply or "-"),
            history=keys.history(ticket.lane, ticket.entry),
            request_id=request_id,
            queued_as=f"{ticket.lane} {ticket.entry}",
            entry=ticket.entry,
            group=GROUP,
            body=result,
            lifetime_ms=RESULT_TTL_MS,
            reply=ticket.reply,
            max_replies=MAX_REPLIES,
            replies_lifetime_ms=REPLY_TTL_MS,
            cancellations=keys.cancellations,
        ).send(redis)
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
