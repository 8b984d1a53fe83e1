"""Reading stream entries: new ones, our own that we lost sight of, and those of workers that died."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from redis import exceptions
from redis.asyncio import Redis

from xuankan.errors import InputError
from xuankan.protocol import delivery
from xuankan.protocol.keys import ENTRY_ID_FIELD, ENTRY_REQUEST_FIELD, GROUP, LANES, Keys, Lane
from xuankan.protocol.wire import check_request_id
from xuankan_worker.jobs import Entry, EntryKey
from xuankan_worker.server import Server

_Fields = dict[bytes, bytes] | None


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

    async def claim(
        self, lane: Lane, count: int, held: set[EntryKey], idle_ms: int, consumer: str | None = None
    ) -> list[Entry]:
        """Take over up to `count` pending entries that nobody touched for `idle_ms` and that are not `held`.

        With `consumer`, only of that consumer. This is XAUTOCLAIM in two steps, because the delivery counts
        are wanted too; XCLAIM checks the idle time again, so two workers never get the same entry.
        """
        stream = self._keys.stream(lane)
        pending = cast(
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
        deliveries = {_text(row["message_id"]): int(row["times_delivered"]) for row in pending}
        wanted = [entry for entry in deliveries if EntryKey(lane, entry) not in held][:count]
        if not wanted:
            return []
        claimed = cast(
            Sequence[tuple[bytes, _Fields]],
            await self._server.command("XCLAIM", stream, GROUP, self._consumer, idle_ms, *wanted),
        )
        # Entries that were deleted while pending come back as nil from servers older than 7.0.
        return [_entry(lane, name, fields, deliveries[_text(name)] + 1) for name, fields in claimed if name]

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
        # From id 0, so that what is queued already is served too.
        try:
            await self._server.command("XGROUP", "CREATE", self._keys.stream(lane), GROUP, "0", "MKSTREAM")
        except exceptions.ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else name


def _entry(lane: Lane, name: bytes, fields: _Fields, deliveries: int) -> Entry:
    fields = fields or {}
    try:
        request_id = check_request_id(fields.get(ENTRY_ID_FIELD, b"").decode())
    except (UnicodeDecodeError, InputError):
        request_id = None
    return Entry(EntryKey(lane, _text(name)), request_id, fields.get(ENTRY_REQUEST_FIELD, b""), deliveries)
