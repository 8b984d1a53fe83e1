"""Requests that no worker could finish: inspect, retry or purge them.

For operators. The dead stream holds at most about 10,000 of them, each for 7 days.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, Self, cast

from redis.asyncio import Redis

from xuankan.errors import DeadLetterUnknown, InputError, ProtocolError
from xuankan.protocol.keys import ENTRY_ID_FIELD, ENTRY_REPLY_FIELD, ENTRY_REQUEST_FIELD, LANES, Keys, Lane
from xuankan.protocol.lua import Key, script
from xuankan.protocol.scripts import TICKET_TTL_MS
from xuankan.protocol.sealing import Sealer
from xuankan.protocol.wire import Request, check_request_id
from xuankan.transport.server import Server

_PAGE: Final = 20
_DEAD_ID = re.compile(r"\d{1,20}-\d{1,20}")

Retried = Literal["accepted", "queued", "finished", "gone"]


@script("""
if redis.call('EXISTS', ticket) == 1 then return 'queued' end
local found = #redis.call('XRANGE', dead, letter, letter) == 1
-- Only the result that was written with this dead entry is taken back; any other one stands. It has a field
-- of that name, so that operators need no leave to read results, which tell where manuscripts go.
local failed = found and redis.call('HEXISTS', result, 'failed ' .. taken_back_ms) == 1
if not failed and redis.call('EXISTS', result) == 1 then return 'finished' end
if not found then return 'gone' end
local answer_to = reply ~= '' and {'reply', reply} or {}
local entry = redis.call('XADD', stream, '*', 'id', request_id, 'request', request, unpack(answer_to))
redis.call('SET', ticket, lane .. ' ' .. entry .. ' ' .. reply, 'PX', lifetime_ms)
redis.call('DEL', result)
redis.call('XDEL', dead, letter)
return 'accepted'
""")
def _retry(
    *,
    dead: Key,
    ticket: Key,
    result: Key,
    stream: Key,
    letter: str,
    request_id: str,
    lane: str,
    reply: str,
    request: bytes,
    lifetime_ms: int,
    taken_back_ms: str,
) -> bytes: ...


@dataclass(frozen=True, slots=True)
class EarlierDelivery:
    """A delivery that did not end a request.

    Attributes:
        delivery: 1 for the first.
        worker: who held it.
        seen_ms: when its lease was renewed last; Unix time on the server's clock.
    """

    delivery: int
    worker: str
    seen_ms: float


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An entry of the dead stream.

    Attributes:
        id: names it here.
        request_id: None if the entry named no request, which then has no result either.
        code, message: why it was given up, as in the result that its producer got.
        lane: where it was queued.
        entry: its id there; the first half is the Unix time in ms at which the server received it.
        worker: who gave it up.
        deliveries: how often it was handed to a worker.
        history: deliveries before the last, the oldest first, as far as known.
        buried_ms: Unix time, on the server's clock.
        bytes: size of the entry.
        reply: address of the producer that waited.
        payload: the encoded, maybe sealed request; None if it was too large to keep or there was none.
    """

    id: str
    request_id: str | None
    code: str
    message: str
    lane: Lane
    entry: str
    worker: str
    deliveries: int
    history: tuple[EarlierDelivery, ...]
    buried_ms: float
    bytes: int
    reply: str | None
    payload: bytes | None


@dataclass(frozen=True, slots=True)
class Filter:
    """Which dead letters are meant; what is None does not matter.

    Attributes:
        code: of the failure.
        lane: `interactive` or `bulk`.
        older_than_s, newer_than_s: age since burial.
    """

    code: str | None = None
    lane: Lane | None = None
    older_than_s: float | None = None
    newer_than_s: float | None = None

    def takes(self, letter: DeadLetter) -> bool:
        """Whether a letter is meant, its age aside."""
        return self.code in (None, letter.code) and self.lane in (None, letter.lane)


class DeadLetters:
    """The dead letters of a deployment; use it as an asynchronous context manager.

    Args:
        url: of the Redis/Valkey server.
        namespace: the deployment's.
        sealer: opens sealed payloads; by default as the environment says.
        server_timeout_s: how long the server may be away before a call fails.

    Raises, in all methods:
        ServerUnavailable: the server was away for too long, or refuses.
    """

    def __init__(
        self,
        url: str,
        *,
        namespace: str = "xuankan",
        sealer: Sealer | None = None,
        server_timeout_s: float = 30.0,
    ) -> None:
        self._keys = Keys(namespace)
        self._server = Server(url, self._keys, server_timeout_s)
        self._sealer = Sealer.from_environment() if sealer is None else sealer

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.close()

    async def list(self, wanted: Filter | None = None) -> AsyncGenerator[DeadLetter]:
        """The letters that a filter takes, the oldest first, read in small pages."""
        wanted = wanted or Filter()
        seconds, _ = await self._command("TIME")
        now_ms = int(seconds) * 1000
        first = "-" if wanted.newer_than_s is None else _time_id(now_ms, wanted.newer_than_s)
        last = "+" if wanted.older_than_s is None else _time_id(now_ms, wanted.older_than_s)
        while page := await self._command("XRANGE", self._keys.dead, first, last, "COUNT", _PAGE):
            for name, fields in page:
                if wanted.takes(letter := _letter(name, fields)):
                    yield letter
            first = f"({page[-1][0].decode()}"

    async def get(self, name: str) -> DeadLetter:
        """The letter of this id, or the latest of this request id.

        Raises:
            DeadLetterUnknown: there is none.
        """
        dead = self._keys.dead
        if _DEAD_ID.fullmatch(name):
            for found, fields in await self._command("XRANGE", dead, name, name):
                return _letter(found, fields)
        last = "+"
        while page := await self._command("XREVRANGE", dead, last, "-", "COUNT", _PAGE):
            for found, fields in page:
                if _fields(fields).get(ENTRY_ID_FIELD) == name.encode():
                    return _letter(found, fields)
            last = f"({page[-1][0].decode()}"
        raise DeadLetterUnknown(f"{name}: no dead letter has this id or belongs to this request")

    def request(self, letter: DeadLetter) -> Request:
        """What was asked.

        Raises:
            InputError: the letter holds no request that can be read.
        """
        if letter.payload is None:
            raise InputError(
                "dead letter", f"{letter.id} holds no request ({letter.bytes} bytes, {letter.code})"
            )
        try:
            return Request.decode(self._sealer.open("request", letter.request_id or "", letter.payload))
        except ProtocolError as error:
            raise InputError("dead letter", f"the request in {letter.id} cannot be read: {error}") from None

    async def retry(self, letter: DeadLetter, request_id: str | None = None) -> Retried:
        """Queue a dead request again, without its deadline; the letter goes.

        Under its own id, its failed result goes in the same step, and what the retry gives becomes visible.
        It cannot be retried twice: the letter is gone then.

        Args:
            letter: what to retry.
            request_id: a new id for it; the failed result under the old one stays.

        Returns:
            `accepted`: it is queued. Otherwise nothing was changed. `queued`: its id is queued already, by an
            earlier retry or by its producer. `finished`: its id has another result by now. `gone`: the letter
            was retried or purged meanwhile.

        Raises:
            InputError: the letter holds no request that can be read, or `request_id` cannot be one.
        """
        asked = self.request(letter)
        own = request_id in (None, asked.id)
        named = asked.id if request_id is None else check_request_id(request_id)
        body = self._sealer.seal("request", named, replace(asked, id=named, deadline_ms=None).encode())
        keys = self._keys
        call = _retry(
            dead=keys.dead,
            ticket=keys.ticket(named),
            result=keys.result(named),
            stream=keys.stream(letter.lane),
            letter=letter.id,
            request_id=named,
            lane=letter.lane,
            reply=asked.reply or "",
            request=body,
            lifetime_ms=TICKET_TTL_MS,
            taken_back_ms=f"{letter.buried_ms:.3f}" if own else "",
        )
        return cast(Retried, (await self._server.call("retry the request", call.send)).decode())

    async def purge(self, letters: Sequence[DeadLetter]) -> int:
        """Delete letters with their payloads for good; returns how many were still there."""
        if not letters:
            return 0
        return int(await self._command("XDEL", self._keys.dead, *(letter.id for letter in letters)))

    async def _command(self, *command: str | int) -> Any:
        async def send(redis: Redis) -> Any:
            return await cast(Any, redis).execute_command(*command)

        return await self._server.call("show its dead letters", send)


def _time_id(now_ms: int, age_s: float) -> str:
    return str(max(0, now_ms - round(age_s * 1000)))


def _fields(fields: Any) -> dict[bytes, bytes]:
    return cast(dict[bytes, bytes], fields or {})


def _letter(name: bytes, raw: Any) -> DeadLetter:
    fields = _fields(raw)

    def text(field: bytes) -> str:
        return fields.get(field, b"").decode(errors="replace")

    lane = text(b"lane")
    return DeadLetter(
        id=name.decode(),
        request_id=text(ENTRY_ID_FIELD) or None,
        code=text(b"code"),
        message=text(b"message"),
        lane=lane if lane in LANES else "interactive",
        entry=text(b"entry"),
        worker=text(b"worker"),
        deliveries=int(text(b"deliveries") or 0),
        history=tuple(
            EarlierDelivery(int(one["delivery"]), str(one["worker"]), float(one["seen_ms"]))
            for one in json.loads(text(b"history") or "[]")
        ),
        buried_ms=float(text(b"buried_ms") or 0),
        bytes=int(text(b"bytes") or 0),
        reply=text(ENTRY_REPLY_FIELD) or None,
        payload=fields.get(ENTRY_REQUEST_FIELD),
    )
