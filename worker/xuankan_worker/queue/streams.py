"""Reading stream entries: new ones, our own that we lost sight of, and those of workers that died."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast

from redis import exceptions
from redis.asyncio import Redis

from xuankan.errors import InputError
from xuankan.protocol import delivery
from xuankan.protocol.keys import (
    ENTRY_ID_FIELD,
    ENTRY_REPLY_FIELD,
    ENTRY_REQUEST_FIELD,
    GROUP,
    LANES,
    Keys,
    Lane,
)
from xuankan.protocol.wire import check_request_id, is_address
from xuankan_worker.in_flight import Entry, EntryKey
from xuankan_worker.queue.connection import Server

_Fields = dict[bytes, bytes] | None


class Pending(NamedTuple):
    """A pending entry as it was seen: whose it is, and how often it was delivered."""

    key: EntryKey
    owner: str
    deliveries: int


class Streams:
    """The lane streams of a shard, as one consumer sees them."""

    def __init__(self, server: Server, keys: Keys, consumer: str) -> None:
        self._server = server
        self._keys = keys
        self._consumer = consumer

    async def read_new(self, client: Redis, lane: Lane, count: int, block_ms: int | None) -> list[Entry]:
        """Up to `count` new entries of a lane, waiting for the first for `block_ms`; None does not wait."""
        block = () if block_ms is None else ("BLOCK", block_ms)
        reply = await self._in_group(
            lane,
            lambda: self._server.command(
                *("XREADGROUP", "GROUP", GROUP, self._consumer, "COUNT", count, *block),
                *("STREAMS", self._keys.stream(lane), ">"),
                client=client,
            ),
        )
        streams = cast(Sequence[tuple[bytes, Sequence[tuple[bytes, _Fields]]]], reply or ())
        return [_entry(lane, name, fields, 1) for _, found in streams for name, fields in found]

    async def abandoned(
        self, lane: Lane, held: set[EntryKey], idle_ms: int, count: int, consumer: str | None = None
    ) -> list[Pending]:
        """The oldest `count` pending entries that nobody touched for `idle_ms` and that are not `held`.

        With `consumer`, only of that consumer.
        """
        stream = self._keys.stream(lane)
        rows = cast(
            Sequence[Mapping[str, Any]],
            await self._in_group(
                lane,
                lambda: self._server.command(
                    *("XPENDING", stream, GROUP, "IDLE", idle_ms, "-", "+", count + len(held)),
                    *(() if consumer is None else (consumer,)),
                    parse_detail=True,
                ),
            ),
        )
        found = [
            Pending(
                EntryKey(lane, _text(row["message_id"])), _text(row["consumer"]), int(row["times_delivered"])
            )
            for row in rows
        ]
        return [one for one in found if one.key not in held][:count]

    async def claim(self, seen: Sequence[Pending], idle_ms: int) -> list[Entry]:
        """Take over those entries that are still as they were seen.

        Calling again after a broken connection counts no second delivery, if it is with the same `seen`.
        """
        calls = [
            delivery.claim(
                *(self._keys, one.key.lane, one.key.entry, self._consumer),
                owner=one.owner,
                deliveries=one.deliveries,
                idle_ms=idle_ms,
            )
            for one in seen
        ]
        entries: list[Entry] = []
        for one, reply in zip(seen, await self._server.calls(calls), strict=True):
            if isinstance(reply, Exception):
                raise reply
            if reply is not None:
                content = cast(Sequence[bytes], reply)
                fields = dict(zip(content[::2], content[1::2], strict=True))
                entries.append(_entry(one.key.lane, one.key.entry, fields, one.deliveries + 1))
        return entries

    async def retire(self, idle_ms: int) -> list[str]:
        """Delete consumers that did nothing for `idle_ms`, show no sign of life and hold nothing."""
        retired: list[str] = []
        for lane in LANES:
            for row in await self._consumers(lane):
                if row["pending"] or row["idle"] < idle_ms:
                    continue
                name = _text(row["name"])
                if await self._server.call(delivery.retire(self._keys, lane, name, idle_ms)):
                    retired.append(name)
        return retired

    async def _consumers(self, lane: Lane) -> Sequence[Mapping[str, Any]]:
        try:
            return await self._server.command("XINFO CONSUMERS", self._keys.stream(lane), GROUP)
        except exceptions.ResponseError as error:
            if str(error).startswith(("NOGROUP", "no such key")):
                return ()
            raise

    async def renew(self, held: Iterable[EntryKey]) -> list[EntryKey]:
        """Renew the leases of entries; returns those that another worker has taken over."""
        lost: list[EntryKey] = []
        for lane in LANES:
            if entries := [key.entry for key in held if key.lane == lane]:
                call = delivery.renew(self._keys, lane, self._consumer, entries)
                reply = cast(list[bytes], await self._in_group(lane, lambda c=call: self._server.call(c)))
                lost += [EntryKey(lane, _text(name)) for name in reply]
        return lost

    async def settled(self, entries: Sequence[Entry]) -> set[EntryKey]:
        """Which of the entries' requests have a result already."""
        named = [(entry.key, entry.request_id) for entry in entries if entry.request_id is not None]
        replies = await self._server.commands([("EXISTS", self._keys.result(name)) for _, name in named])
        return {key for (key, _), reply in zip(named, replies, strict=True) if reply}

    async def _in_group(self, lane: Lane, attempt: Callable[[], Awaitable[Any]]) -> Any:
        """Run a command that needs the group; make it if it is not there: a new or an emptied server."""
        try:
            return await attempt()
        except exceptions.ResponseError as error:
            if not str(error).startswith("NOGROUP"):
                raise
        await self._create_group(lane)
        return await attempt()

    async def _create_group(self, lane: Lane) -> None:
        await self._server.call(delivery.found(self._keys, lane))


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
