"""A producer's requests on the server: submitting, waiting, ending."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final, cast

from redis.asyncio import Redis

from xuankan.connection import Server
from xuankan.errors import ResultUnknown
from xuankan.protocol import scripts
from xuankan.protocol.keys import Keys, Lane
from xuankan.protocol.scripts import Kept, Seen, Submitted
from xuankan.protocol.wire import Failure, Result, Status
from xuankan.replies import Replies, Waiter

_HINTED_LOOK_S: Final = 2.0
_FIRST_LOOK_S: Final = 0.05
_LONGEST_HINTED_LOOK_S, _LONGEST_LOOK_S = 5.0, 1.0


class Requests:
    """What one producer, to be replied to at `address`, has on the server and waits for there."""

    def __init__(self, url: str, keys: Keys, address: str, server_timeout_s: float) -> None:
        self._server = Server(url, server_timeout_s)
        self._keys = keys
        self._address = address
        self._clock_offset_ms = 0.0
        self.replies = Replies(url, self._server, keys, address)

    async def open(self) -> None:
        """Reach the server and read its clock.

        Raises:
            ServerUnavailable: it is away, or refuses.
        """

        async def read_clock(redis: Redis) -> None:
            before_ms = now_ms()
            seconds, microseconds = cast(tuple[int, int], await cast(Any, redis).time())
            self._clock_offset_ms = seconds * 1000 + microseconds / 1000 - (before_ms + now_ms()) / 2

        await self._server.call("tell the time", read_clock)

    async def settle(self, timeout_s: float) -> None:
        """Wait until what was sent is answered."""
        await self._server.settle(timeout_s)

    async def close(self) -> None:
        """Close the connections."""
        await self.replies.close()
        await self._server.close()

    def server_now_ms(self) -> float:
        """Unix time on the server's clock, which deadlines are measured by."""
        return now_ms() + self._clock_offset_ms

    async def submit(self, request_id: str, lane: Lane, body: bytes) -> Submitted:
        """Put a request on its lane's stream unless its id is known.

        Raises:
            ServerUnavailable: the server was away for too long; it may have the request or not.
        """
        return await self._server.call(
            "take the request",
            lambda redis: scripts.submit(redis, self._keys, request_id, lane, self._address, body),
        )

    async def look(self, request_id: str) -> Seen:
        """What the server knows of a request.

        Raises:
            ServerUnavailable: the server was away for too long.
        """
        return await self._server.call(
            "tell of a result", lambda redis: scripts.look(redis, self._keys, request_id)
        )

    async def wait(
        self, request_id: str, waiter: Waiter, submitted: Submitted, again: tuple[Lane, bytes] | None = None
    ) -> Kept:
        """The result, by its reply or by looking: often where the reply goes to another producer.

        A server that restarted without its data, or failed over to a replica that lagged, may have lost the
        request. Then it is submitted again, if `again` says what.

        Raises:
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
                raise ResultUnknown(f"request {request_id} is gone: the server lost it; submit it again")
            submitted = await self.submit(request_id, *again)

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
            completed_ms=self.server_now_ms(),
            failure=failure,
            deliveries=0,
        ).encode()
        return await self._server.call(
            "end the request", lambda redis: scripts.finish(redis, self._keys, request_id, body)
        )


def now_ms() -> float:
    """Unix time on our clock."""
    return time.time() * 1000
