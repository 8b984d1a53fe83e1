"""How far a request is, as the server knows it: unknown, queued, with a worker, or ended."""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple, cast

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from xuankan.protocol.keys import GROUP, Keys, Lane
from xuankan.protocol.scripts import look
from xuankan.transport.server import Server

Status = Literal["queued", "running", "ended"]


class Stage(NamedTuple):
    """How far a request is; `lane` is None once it has ended."""

    status: Status
    lane: Lane | None


class Stages:
    """Looks at requests without waiting for them."""

    def __init__(self, server: Server, keys: Keys) -> None:
        self._server = server
        self._keys = keys

    async def look(self, request_id: str) -> Stage | None:
        """How far a request is; None if it is neither queued nor kept.

        Raises:
            ServerUnavailable: the server was away for too long.
        """

        async def ask(redis: Redis) -> Stage | None:
            seen = await look(redis, self._keys, request_id)
            if seen.result is not None:
                return _ENDED
            if seen.ticket is None:
                return None
            lane, entry = seen.ticket.lane, seen.ticket.entry
            try:
                held: list[Any] = await cast(Any, redis).execute_command(
                    "XPENDING", self._keys.stream(lane), GROUP, entry, entry, 1, parse_detail=True
                )
            except ResponseError as error:
                if not str(error).startswith("NOGROUP"):
                    raise
                held = []  # no worker has ever been there
            return Stage("running" if held else "queued", lane)

        return await self._server.call("tell how far a request is", ask)


_ENDED: Final = Stage("ended", None)
