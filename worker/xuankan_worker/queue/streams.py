"""Reading stream entries: new ones, our own that we lost sight of, and those of workers that died."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar, cast

from redis import exceptions
from redis.asyncio import Redis

from xuankan.errors import InputError
from xuankan.protocol import consumers, leases
from xuankan.protocol.keys import (
    ENTRY_ID_FIELD,
    ENTRY_REPLY_FIELD,
    ENTRY_REQUEST_FIELD,
    GROUP,
    LANES,
    Keys,
    Lane,
)
from xuankan.protocol.lua import first_error, send_all
from xuankan.protocol.wire import check_request_id, is_address
from xuankan.transport.server import Operation
from xuankan_worker.in_flight import Entry, EntryKey
from xuankan_worker.queue.connection import QueueConnection

T = TypeVar("T")
_Fields = dict[bytes, bytes] | None


class Pending(NamedTuple):
    """A pending entry as it was seen.

    Attributes:
        key: names it.
        owner: whose it is.
        deliveries: how often it was delivered.
        sign: changes when its lease is renewed; None where that does not matter.
        idle_s: since then, by the server's clock.
    """

    key: EntryKey
    owner: str
    deliveries: int
    sign: int | None = None
    idle_s: float = 0.0


class Streams:
    """The lane streams of a shard, as one consumer sees them. Every method waits for a server that is away.

    What finds work gives up when `stopping` is set, and raises Stopped; what keeps work does not.
    """

    def __init__(self, server: QueueConnection, keys: Keys, consumer: str, stopping: asyncio.Event) -> None:
        self._server = server
        self._keys = keys
        self._consumer = consumer
        self._stopping = stopping

    def reader(self, block_s: float) -> Redis:
        """A client for `read_new`, which may block for so long."""
        return self._server.open(block_s)

    async def read_new(
        self, client: Redis, lane: Lane, count: int, block_ms: int | None, broken: Callable[[], None]
    ) -> list[Entry]:
        """Up to `count` new entries of a lane, waiting for the first for `block_ms`; None does not wait.

        `broken` is called when an attempt fails, because the server may hand entries to it all the same.
        """
        block = () if block_ms is None else ("BLOCK", block_ms)
        command = ("XREADGROUP", "GROUP", GROUP, self._consumer, "COUNT", count, *block)

        async def read(redis: Redis) -> Any:
            try:
                return await _execute(redis, *command, "STREAMS", self._keys.stream(lane), ">")
            except exceptions.ResponseError:
                raise  # the server handed out nothing
            except (exceptions.RedisError, OSError):
                broken()
                raise

        reply = await self._in_group("hand out requests", lane, read, redis=client, stopping=self._stopping)
        streams = cast(Sequence[tuple[bytes, Sequence[tuple[bytes, _Fields]]]], reply or ())
        return [_entry(lane, name, fields, 1) for _, found in streams for name, fields in found]

    async def own(self, lane: Lane, held: Collection[EntryKey], count: int) -> list[Pending]:
        """The oldest `count` pending entries of this consumer that are not `held` at each attempt."""
        stream = self._keys.stream(lane)

        async def find(redis: Redis) -> list[Pending]:
            known = set(held)
            command = ("XPENDING", stream, GROUP, "-", "+", count + len(known), self._consumer)
            rows = cast(Sequence[Mapping[str, Any]], await _execute(redis, *command, parse_detail=True))
            found = [
                Pending(EntryKey(lane, _text(row["message_id"])), self._consumer, int(row["times_delivered"]))
                for row in rows
            ]
            return [one for one in found if one.key not in known][:count]

        return await self._in_group("tell what we held", lane, find, stopping=self._stopping)

    async def pending(self, lane: Lane) -> list[Pending]:
        """All pending entries of a lane, the oldest first."""
        call = leases.watch(self._keys, lane)
        rows = await self._in_group("tell what was given up", lane, call.send, stopping=self._stopping)
        return [
            Pending(EntryKey(lane, _text(entry)), _text(owner), deliveries, sign, idle_ms / 1000)
            for entry, owner, deliveries, idle_ms, sign in rows
        ]

    async def claim(self, seen: Sequence[Pending]) -> list[Entry]:
        """Take over those entries that are still as they were seen.

        It is sent again after a broken connection, which counts no second delivery: `seen` is the same.
        """
        calls = [
            leases.claim(
                *(self._keys, one.key.lane, one.key.entry, self._consumer),
                owner=one.owner,
                deliveries=one.deliveries,
                sign=one.sign,
            )
            for one in seen
        ]

        async def send(redis: Redis) -> list[list[bytes] | None]:
            return first_error(await send_all(redis, calls))

        replies = await self._server.call("hand over requests", send, stopping=self._stopping)
        entries: list[Entry] = []
        for one, reply in zip(seen, replies, strict=True):
            if reply is not None:
                fields = dict(zip(reply[::2], reply[1::2], strict=True))
                entries.append(_entry(one.key.lane, one.key.entry, fields, one.deliveries + 1))
        return entries

    async def settled(self, entries: Sequence[Entry]) -> set[EntryKey]:
        """Which of the entries' requests have a result already; reads the server's clock besides.

        Deadlines are judged next, and after a failover it is another clock.
        """
        named = [(entry.key, entry.request_id) for entry in entries if entry.request_id is not None]

        async def look(redis: Redis) -> list[int]:
            clock = self._server.clock
            pipeline = cast(Any, redis.pipeline(transaction=False))
            pipeline.time()
            for _, request_id in named:
                pipeline.exists(self._keys.result(request_id))
            before_s, doubts = clock.asking()
            (seconds, microseconds), *found = await pipeline.execute()
            clock.note(seconds, microseconds, before_s, doubts)
            return found

        replies = await self._server.call("tell of results", look, stopping=self._stopping)
        return {key for (key, _), reply in zip(named, replies, strict=True) if reply}

    async def renew(self, held: Iterable[EntryKey]) -> list[EntryKey]:
        """Renew the leases of entries; returns those that another worker has taken over."""
        lost: list[EntryKey] = []
        for lane in LANES:
            if entries := [key.entry for key in held if key.lane == lane]:
                call = leases.renew(self._keys, lane, self._consumer, entries)
                reply = await self._in_group("renew leases", lane, call.send)
                lost += [EntryKey(lane, _text(name)) for name in reply]
        return lost

    async def hand_back(self) -> None:
        """Give back all that is ours, as if it had never been, what is on its way to us included."""
        for lane in LANES:
            call = leases.hand_back(self._keys, lane, self._consumer)
            await self._in_group("take requests back", lane, call.send)

    async def delete_consumers(self, idle_ms: int) -> list[str]:
        """Delete consumers that did nothing for `idle_ms`, have no heartbeat and hold nothing."""
        deleted: list[str] = []
        for lane in LANES:
            for row in await self._consumers(lane):
                if row["pending"] or row["idle"] < idle_ms:
                    continue
                name = _text(row["name"])
                call = consumers.delete_consumer(self._keys, lane, name, idle_ms)
                if await self._server.call("delete a consumer", call.send):
                    deleted.append(name)
        return deleted

    async def _consumers(self, lane: Lane) -> Sequence[Mapping[str, Any]]:
        async def ask(redis: Redis) -> Sequence[Mapping[str, Any]]:
            try:
                return await _execute(redis, "XINFO CONSUMERS", self._keys.stream(lane), GROUP)
            except exceptions.ResponseError as error:
                if str(error).startswith(("NOGROUP", "no such key")):
                    return ()
                raise

        return await self._server.call("tell of consumers", ask)

    async def _in_group(
        self,
        what: str,
        lane: Lane,
        operation: Operation[T],
        *,
        redis: Redis | None = None,
        stopping: asyncio.Event | None = None,
    ) -> T:
        """Do what needs the group; make it if it is not there: a new or an emptied server."""

        async def attempt(redis: Redis) -> T:
            try:
                return await operation(redis)
            except exceptions.ResponseError as error:
                if not str(error).startswith("NOGROUP"):
                    raise
            await consumers.create_group(self._keys, lane).send(redis)
            return await operation(redis)

        return await self._server.call(what, attempt, redis=redis, stopping=stopping)


async def _execute(redis: Redis, *command: str | int, **parsing: object) -> Any:
    """Run one command; `parsing` are options of redis-py's reply parser."""
    return await cast(Any, redis).execute_command(*command, **parsing)


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else name


def _entry(lane: Lane, name: bytes | str, fields: _Fields, deliveries: int) -> Entry:
    fields = fields or {}
    try:
        request_id = check_request_id(fields.get(ENTRY_ID_FIELD, b"").decode())
    except (UnicodeDecodeError, InputError):
        request_id = None
    reply = fields.get(ENTRY_REPLY_FIELD, b"").decode(errors="replace")
    return Entry(
        key=EntryKey(lane, _text(name)),
        request_id=request_id,
        body=fields.get(ENTRY_REQUEST_FIELD, b""),
        deliveries=deliveries,
        reply=reply if is_address(reply) else None,
    )
