"""What every call goes through: who calls, how often, and the one producer behind all of them."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import uuid
from collections.abc import AsyncGenerator, Callable
from typing import Final

from starlette.requests import ClientDisconnect, Request

from xuankan.catalogue import Catalogue
from xuankan.client.producer import Producer
from xuankan.errors import ServerUnavailable
from xuankan.portal.addresses import household
from xuankan.portal.api_keys import Caller, KeyRing
from xuankan.portal.limiter import Counted, Limiter
from xuankan.portal.metrics import PortalMetrics
from xuankan.portal.problems import CallProblem, retry_after, unavailable
from xuankan.portal.reading_order import ReadingOrder
from xuankan.portal.settings import PortalSettings
from xuankan.portal.shares import Shares
from xuankan.portal.watch import Watch
from xuankan.protocol.keys import Keys
from xuankan.transport.client import backoff_s

_log = logging.getLogger("xuankan.portal")

MAX_JSON_BYTES: Final = 1024 * 1024
"""100,000 characters, each escaped as JSON may, take 600 KB."""
_BODY_S: Final = 30.0
_OVERRUN_BYTES: Final = 32 * 1024 * 1024
"""Taken off the connection beyond what is read: a caller who is cut off while sending sees no answer."""
_READY_S: Final = 3.0
_MAX_UPLOAD_BYTES: Final = 128 * 1024 * 1024
"""Of files that are held in memory at a time, while they arrive, wait and are read."""
_MAX_STREAMS: Final = 1000
_STREAMS_EACH: Final = 250
_MAX_FILES: Final = 64
FILES_EACH: Final = 8
"""Of one caller, that arrive, wait or are read at a time."""
READING_AT_ONCE: Final = 3
GONE: Final = 499
"""The status, in logs and metrics only, of calls whose caller went away (nginx's number)."""
SHORTEST_FREE_KEY: Final = 16
"""Characters of an idempotency key from somebody without an API key."""


class Gateway:
    """Holds what calls share. Open it for as long as the portal runs.

    Raises:
        InputError: settings that cannot be used.
        CatalogueError: the package's catalogue cannot be read.
    """

    def __init__(self, settings: PortalSettings) -> None:
        self.settings = settings
        self.catalogue = settings.catalogue or Catalogue.default()
        self.metrics = PortalMetrics()
        self.draining = asyncio.Event()
        self._tried = asyncio.Event()
        self.streams = Shares(_MAX_STREAMS, _STREAMS_EACH)
        self.uploads = Shares(_MAX_UPLOAD_BYTES, _MAX_UPLOAD_BYTES // 2)
        self.files = Shares(_MAX_FILES, FILES_EACH)
        self.reading = ReadingOrder(READING_AT_ONCE)
        self.key_ring = KeyRing(settings.keys_file)
        self._producer = Producer(
            settings.url,
            namespace=settings.namespace,
            catalogue=self.catalogue,
            first_stage=settings.first_stage,
            server_timeout_s=settings.server_timeout_s,
        )
        self._reached = False
        keys = Keys(settings.namespace)
        self._limiter = Limiter(self._producer.server, keys)
        self.watch = Watch(self._producer, keys)

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncGenerator[None]:
        """Reach the server, now or as soon as it is there.

        Raises:
            ReleaseError: a file of the package cannot be read.
        """
        opening = asyncio.create_task(self._open(), name="xuankan-portal-open")
        try:
            tried = asyncio.create_task(self._tried.wait())
            await asyncio.wait((opening, tried), return_when=asyncio.FIRST_COMPLETED)
            tried.cancel()
            if opening.done():
                opening.result()
            yield
        finally:
            self.draining.set()
            opening.cancel()
            await asyncio.gather(opening, return_exceptions=True)
            await self.watch.close()
            await self._producer.close()

    @property
    def producer(self) -> Producer:
        """The producer that enqueues.

        Raises:
            CallProblem: the server has not been reached yet.
        """
        if not self._reached:
            raise unavailable("the portal has not reached its queue yet: try again in a few seconds")
        return self._producer

    async def not_ready(self) -> str | None:
        """Why no traffic should come here, or None if it should."""
        if self.draining.is_set():
            return "draining"
        if not self._reached:
            return "the Redis/Valkey server has not been reached yet"
        try:
            async with asyncio.timeout(_READY_S):
                await self._producer.pressure()
        except (ServerUnavailable, TimeoutError):
            return "the Redis/Valkey server cannot be reached"
        return None

    async def admit(self, request: Request, counted: Counted | None) -> Caller:
        """Who calls, if they may, and not too often.

        Raises:
            CallProblem: they may not, or not now.
            ServerUnavailable: the server, which counts calls, was away for too long.
        """
        key = _key_of(request)
        if (caller := self.key_ring.caller(key)) is None:
            detail = "this API key is unknown" if key else "send `Authorization: Bearer KEY`"
            raise CallProblem("unauthorized", detail, headers={"WWW-Authenticate": 'Bearer realm="xuankan"'})
        request.state.caller = caller.name
        self.metrics.key_requests.labels(caller.name).inc()
        if counted is not None:
            await self.charge(request, caller, counted)
        return caller

    async def charge(self, request: Request, caller: Caller, counted: Counted, count: float = 1) -> None:
        """Count a call as so many rankings or looks.

        Raises:
            CallProblem: there were too many.
            ServerUnavailable: the server was away for too long.
        """
        address = request.client.host if request.client else ""
        if (verdict := await self._limiter.take(caller, address, counted, count)) is None:
            return
        request.state.headers = verdict.headers()
        if not verdict.allowed:
            retry_s = retry_after(verdict.retry_s)
            allowed = f"{verdict.limit} {verdict.what}s in {verdict.window_s} s are allowed"
            detail = f"{allowed}: try again in {retry_s} s"
            raise CallProblem("rate_limited", detail, headers={"Retry-After": retry_s})

    @contextlib.asynccontextmanager
    async def body(self, request: Request, caller: Caller, max_bytes: int) -> AsyncGenerator[bytes]:
        """The body of a call, which counts as held for as long as the context is open.

        Raises:
            CallProblem: as of `read_body`; too much is held already; or the portal drains.
        """
        name, held = whose(request, caller), 0

        def hold(size_bytes: int) -> None:
            nonlocal held
            if not self.uploads.take(name, size_bytes):
                raise unavailable("too much is being sent at a time: try again in a few seconds")
            held += size_bytes

        reading = asyncio.create_task(read_body(request, max_bytes, hold))
        draining = asyncio.create_task(self.draining.wait())
        try:
            await asyncio.wait((reading, draining), return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                raise unavailable("the portal is shutting down: try again in a few seconds")
            yield reading.result()
        finally:
            for task in (reading, draining):
                task.cancel()
            await asyncio.gather(reading, draining, return_exceptions=True)
            self.uploads.give_back(name, held)

    def request_id(self, caller: Caller, idempotency_key: str | None) -> str:
        """The id of a new ranking: the caller's alone, and always the same for the same idempotency key.

        Raises:
            CallProblem: a key that others would easily come upon too, from somebody without an API key.
        """
        if idempotency_key is None:
            return f"{caller.name}.{uuid.uuid4().hex}"
        if caller.anonymous and len(idempotency_key) < SHORTEST_FREE_KEY:
            raise CallProblem(
                "unusable",
                f"without an API key it must have at least {SHORTEST_FREE_KEY} characters, such as a "
                "UUID: anyone who has it can read the ranking",
                "Idempotency-Key",
            )
        text = f"{caller.name}\0{idempotency_key}"
        return f"{caller.name}.{hashlib.sha256(text.encode()).hexdigest()[:32]}"

    def owned(self, caller: Caller, request_id: str) -> str:
        """The id of a ranking, if it is the caller's.

        Raises:
            CallProblem: it is not. That somebody else has it is not told.
        """
        owner, _, rest = request_id.partition(".")
        if owner != caller.name or len(rest) != 32 or not rest.isascii() or not rest.isalnum():
            raise CallProblem("not_found", "you have no ranking with this id", "id")
        return request_id

    async def _open(self) -> None:
        failures = 0
        while not self._reached:
            try:
                await self._producer.open()
            except ServerUnavailable as error:
                failures += 1
                self._tried.set()
                _log.warning("not ready: %s", error)
                await asyncio.sleep(backoff_s(failures))
            else:
                self._reached = True
                _log.info("ready: %d journals, catalogue %s", len(self.catalogue), self.catalogue.version)


def whose(request: Request, caller: Caller) -> str:
    """Who shares what callers share: a key, or without one the household of an address."""
    address = request.client.host if request.client else ""
    return f"{caller.name} {household(address)}" if caller.anonymous else caller.name


async def read_body(request: Request, max_bytes: int, hold: Callable[[int], None] | None = None) -> bytes:
    """The body of a call; `hold` is told of each piece how many bytes it has, and may refuse it by raising.

    Raises:
        CallProblem: it is larger, or takes too long to arrive.
    """
    body, read = bytearray(), 0
    try:
        async with asyncio.timeout(_BODY_S):
            async for part in request.stream():
                read += len(part)
                if read <= max_bytes:
                    if hold is not None:
                        hold(len(part))
                    body += part
                elif read > max_bytes + _OVERRUN_BYTES:
                    break
    except TimeoutError:
        detail = f"the body did not arrive within {_BODY_S:g} s"
        raise CallProblem("body_timeout", detail, headers={"Connection": "close"}) from None
    if read > max_bytes:
        detail = f"at most {max_bytes:,} bytes are read"
        raise CallProblem("too_large", detail, headers={"Connection": "close"})
    return bytes(body)


async def hung_up(request: Request) -> None:
    """Return when the caller has closed the connection. Only after the body was read."""
    with contextlib.suppress(ClientDisconnect):
        while (await request.receive())["type"] != "http.disconnect":
            pass


def _key_of(request: Request) -> str | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return request.headers.get("x-api-key") or None
