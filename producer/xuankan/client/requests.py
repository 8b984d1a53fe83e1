"""A producer's requests on the server: submitting, looking, waiting, ending, letting go."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, NamedTuple, cast

from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError, ResponseError

from xuankan.client.back_pressure import BackPressure
from xuankan.client.limits import Limits, OnFull
from xuankan.client.replies import Replies, Waiter
from xuankan.errors import RequestConflict, ResultUnknown, ServerUnavailable, WaitTimeout
from xuankan.protocol import scripts
from xuankan.protocol.keys import GROUP, Keys, Lane
from xuankan.protocol.lua import KeyList, script
from xuankan.protocol.scripts import Kept, QueuedAs, Seen, Submitted
from xuankan.protocol.sealing import Sealer
from xuankan.protocol.wire import Failure, Request, Result, Status
from xuankan.transport.server import Server

_HINTED_LOOK_S: Final = 2.0
_FIRST_LOOK_S: Final = 0.05
_LONGEST_HINTED_LOOK_S, _LONGEST_LOOK_S = 5.0, 1.0
_RELEASED_MS: Final = 60_000
_RELEASE_S: Final = 2.0


# One call for all: a command for each would cost a backlog's producer as much as reading its row.
@script("for _, result in ipairs(results) do redis.call('PEXPIRE', result, left_ms) end")
def _shorten(*, results: KeyList, left_ms: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Ticket:
    """A submitted request.

    Attributes:
        request_id: what `result`, `status` and `cancel` want; keep it to fetch the ranking from another
            process.
        new: whether this submission added it. False: the id was known, or a broken connection made the client
            send the request twice.
        warnings: what may make the ranking worse than it could be.
    """

    request_id: str
    new: bool
    warnings: tuple[str, ...] = ()


class RequestStatus(NamedTuple):
    """How far a request is.

    Attributes:
        state: `queued`; `running`: a worker has it; `finished`: it has a ranking, or an error that says why
            not; `unknown`: no such request is queued, and no result of it is kept.
        lane: of a request that is queued or running; else None.
    """

    state: Literal["queued", "running", "finished", "unknown"]
    lane: Lane | None = None


@dataclass(frozen=True, slots=True)
class Submission:
    """A request on its way to the server.

    Attributes:
        request: what is asked, without a deadline.
        body: the same, encoded.
        digest: the same for every submission that asks the same under this id.
        chosen: whether the caller chose the id, so that the server may know it.
        on_full: what to do while the queue is full.
        until_s: the event loop's time of its deadline; None if it has none.
    """

    request: Request
    body: bytes
    digest: str
    chosen: bool
    on_full: OnFull = "wait"
    until_s: float | None = None


class Requests:
    """What one producer, to be replied to at `address`, has on the server and waits for there."""

    def __init__(
        self,
        url: str,
        keys: Keys,
        address: str,
        server_timeout_s: float,
        sealer: Sealer | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.server = Server(url, keys, server_timeout_s)
        self._keys = keys
        self._address = address
        self.sealer = Sealer.from_environment() if sealer is None else sealer
        self.replies = Replies(url, self.server, keys, address)
        self.back_pressure = BackPressure(self.server, keys, limits or Limits())

    async def open(self) -> None:
        """Reach the server and read its clock.

        Raises:
            ServerUnavailable: it is away, or refuses.
        """
        await self.server.call("tell the time", self.server.clock.measure)

    async def settle(self, timeout_s: float) -> None:
        """Wait until what was sent is answered."""
        await self.server.settle(timeout_s)

    async def close(self) -> None:
        """Close the connections."""
        await self.back_pressure.close()
        await self.replies.close()
        await self.server.close()

    async def submit(self, submission: Submission) -> Submitted:
        """Put a request, sealed if there are keys, on its lane's stream unless its id is known.

        Raises:
            QueueFull: it is not taken now, or not until `until_s`. A request that was known is not refused.
            RequestConflict: the id was used for something else.
            ServerUnavailable: the server was away for too long; it may have the request or not.
        """
        lane, back_pressure, size = submission.request.lane, self.back_pressure, len(submission.body)
        if submission.chosen and back_pressure.pressure(lane).reason is not None:
            known = await self._send(submission, -1)
            if known is not None and known.state != "full":
                return known
        while True:
            longest = await back_pressure.admit(lane, submission.on_full, submission.until_s, size)
            submitted = await self._send(submission, longest)
            if submitted is None:
                back_pressure.no_memory(lane)
            elif submitted.state == "full":
                back_pressure.too_long(lane, longest)
            else:
                if submitted.state == "accepted":
                    back_pressure.took(lane)
                return submitted

    async def _send(self, submission: Submission, longest: int) -> Submitted | None:
        """None: the server has no memory for it."""
        request = submission.request

        async def send(redis: Redis) -> Submitted | None:
            try:
                return await scripts.submit(
                    redis,
                    self._keys,
                    request.id,
                    request.lane,
                    self._address,
                    self.sealer.seal("request", request.id, await self._body(redis, submission)),
                    longest=longest,
                    # Whoever has a text could recognize it by its digest, which lies there in the clear.
                    digest="" if self.sealer.key_ids else submission.digest,
                )
            except OutOfMemoryError:
                return None

        submitted = await self.server.call("take the request", send)
        if submitted is not None and submitted.state == "conflict":
            raise RequestConflict(
                "request_id",
                f"{request.id!r} was used for another manuscript or other options, and stays "
                "taken until an hour after that ranking: choose another id",
            )
        return submitted

    async def _body(self, redis: Redis, submission: Submission) -> bytes:
        """The encoded request, with its deadline by the clock of the server that is there at this moment."""
        if submission.until_s is None:
            return submission.body
        clock = self.server.clock
        await clock.ensure(redis)
        left_s = submission.until_s - asyncio.get_running_loop().time()
        return replace(submission.request, deadline_ms=int(clock.now_ms() + left_s * 1000)).encode()

    async def look(self, request_id: str) -> Seen:
        """What the server knows of a request.

        Raises:
            ServerUnavailable: the server was away for too long.
        """
        return await self.server.call(
            "tell of a result", lambda redis: scripts.look(redis, self._keys, request_id)
        )

    async def status(self, request_id: str) -> RequestStatus:
        """How far a request is.

        Raises:
            ServerUnavailable: the server was away for too long.
        """

        async def ask(redis: Redis) -> RequestStatus:
            seen = await scripts.look(redis, self._keys, request_id)
            if seen.result is not None:
                return RequestStatus("finished")
            if seen.ticket is None:
                return RequestStatus("unknown")
            running = await self._is_pending(redis, seen.ticket)
            return RequestStatus("running" if running else "queued", seen.ticket.lane)

        return await self.server.call("tell how far a request is", ask)

    async def _is_pending(self, redis: Redis, ticket: QueuedAs) -> bool:
        stream, entry = self._keys.stream(ticket.lane), ticket.entry
        try:
            command = cast(Any, redis).execute_command
            return bool(await command("XPENDING", stream, GROUP, entry, entry, 1, parse_detail=True))
        except ResponseError as error:
            if not str(error).startswith("NOGROUP"):
                raise
            return False  # no worker has ever been there

    async def release(self, request_ids: Sequence[str]) -> None:
        """Let results go after a minute, if the server is there; else they go when their hour is over."""
        if not request_ids:
            return
        call = _shorten(results=[self._keys.result(one) for one in request_ids], left_ms=_RELEASED_MS)
        with contextlib.suppress(ServerUnavailable, TimeoutError):
            async with asyncio.timeout(_RELEASE_S):
                await self.server.call("take lifetimes", call.send)

    async def wait(
        self, request_id: str, waiter: Waiter, submitted: Submitted, again: Submission | None = None
    ) -> Kept:
        """The result, by its reply or by looking: often where the reply goes to another producer.

        A server that restarted without its data, or failed over to a replica that lagged, may have lost the
        request. Then it is submitted again, if `again` says what.

        Raises:
            QueueFull: it was to be submitted again, and is not taken.
            ResultUnknown: the server lost the request, and `again` is None.
            ServerUnavailable: the server was away for too long.
        """
        while True:
            ours = submitted.ticket is not None and submitted.ticket.reply == self._address
            longest_s = _LONGEST_HINTED_LOOK_S if ours else _LONGEST_LOOK_S
            pause_s = 0.0 if submitted.state == "finished" else _HINTED_LOOK_S if ours else _FIRST_LOOK_S
            while True:
                await asyncio.wait((waiter,), timeout=pause_s)
                if waiter.done():
                    return waiter.result()
                seen = await self.look(request_id)
                if seen.result is not None:
                    return seen.result
                if seen.ticket is None:
                    break
                pause_s = min(1.5 * pause_s + 0.01, longest_s)
            if again is None:
                raise ResultUnknown(f"the server has lost request {request_id}: submit it again")
            submitted = await self.submit(again)

    async def result(self, request_id: str, timeout_s: float | None) -> Kept:
        """The result of a request, submitted here or elsewhere; a `timeout_s` of 0 looks once.

        Raises:
            ResultUnknown: no such request is queued, and no result of it is kept.
            WaitTimeout: there is none within `timeout_s`.
            ServerUnavailable: the server was away for too long.
        """
        with self.replies.expect(request_id) as waiter:
            seen = await self.look(request_id)
            if seen.result is not None:
                return seen.result
            if seen.ticket is None:
                raise ResultUnknown(f"request {request_id} is not queued, and no result of it is kept")
            timeout = asyncio.timeout(timeout_s)
            try:
                async with timeout:
                    return await self.wait(request_id, waiter, Submitted("queued", seen.ticket))
            except TimeoutError:
                if timeout_s is None or not timeout.expired():
                    raise
                raise WaitTimeout(f"request {request_id} has no result within {timeout_s:g} s") from None

    async def end(
        self, request_id: str, status: Status, failure: Failure, catalogue: str
    ) -> tuple[bool, Kept] | None:
        """End a request without a ranking unless it has ended: whether this did it, and how it ended.

        None: no such request.

        Raises:
            ServerUnavailable: the server was away for too long.
        """
        body = Result(
            id=request_id,
            status=status,
            release="",
            catalogue=catalogue,
            worker="",
            completed_ms=self.server.clock.now_ms(),
            failure=failure,
            deliveries=0,
        ).encode()
        return await self.server.call(
            "end the request", lambda redis: scripts.finish(redis, self._keys, request_id, body)
        )
