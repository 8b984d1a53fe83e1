"""Ending requests from the producer's side: cancelled, expired, or given up by whoever waited."""

from __future__ import annotations

import asyncio
from typing import Final, Literal

from xuankan.client.requests import Requests
from xuankan.errors import RequestExpired, ServerUnavailable, WaitTimeout
from xuankan.protocol.scripts import Kept
from xuankan.protocol.wire import Failure, Request

_GOODBYE_S: Final = 1.0
"""How long ending a request that nobody waits for any more may take."""


class Endings:
    """Ends requests. Those that were given up are ended beside everything else."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        self._goodbyes: set[asyncio.Task[None]] = set()

    async def cancel(self, request_id: str, catalogue: str) -> Literal["cancelled", "finished", "unknown"]:
        """Cancel a request; `catalogue` is this producer's.

        Raises:
            ServerUnavailable: the server was away for too long.
        """
        failure = Failure("cancelled", "it was cancelled")
        ended = await self._requests.end(request_id, "cancelled", failure, catalogue)
        if ended is None:
            return "unknown"
        return "cancelled" if ended[0] else "finished"

    async def expire(self, request: Request, deadline_s: float) -> Kept:
        """End a request whose deadline passed, so that everyone who asks hears the same of it.

        Raises:
            QueueFull, RequestExpired: it was never submitted.
            WaitTimeout: the server is away.
        """
        failure = Failure(
            "deadline_exceeded", f"its deadline of {deadline_s:g} s passed before it was ranked"
        )
        try:
            async with asyncio.timeout(_GOODBYE_S):
                ended = await self._requests.end(request.id, "expired", failure, request.catalogue)
        except (TimeoutError, ServerUnavailable) as error:
            raise WaitTimeout(
                f"request {request.id} has no result within {deadline_s:g} s: the server cannot be reached"
            ) from error
        if ended is None:
            raise self._requests.back_pressure.refusal(request.lane) or RequestExpired(
                request.id, failure.code, failure.message
            )
        return ended[1]

    def give_up(self, request: Request) -> None:
        """Cancel a request that nobody waits for any more, as far as that goes."""
        goodbye = asyncio.create_task(self._say_goodbye(request), name="xuankan-goodbye")
        self._goodbyes.add(goodbye)
        goodbye.add_done_callback(self._goodbyes.discard)

    async def close(self) -> None:
        """Wait a moment for those that were given up."""
        if self._goodbyes:
            await asyncio.wait(self._goodbyes, timeout=_GOODBYE_S)

    async def _say_goodbye(self, request: Request) -> None:
        try:
            async with asyncio.timeout(_GOODBYE_S):
                await self._requests.settle(_GOODBYE_S)  # it may still be on its way
                await self.cancel(request.id, request.catalogue)
        except (TimeoutError, ServerUnavailable):
            return
