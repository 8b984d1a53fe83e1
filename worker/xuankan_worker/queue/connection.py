"""A worker's connection to the Redis/Valkey server: waits as long as it takes, knows the time there."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

from redis import exceptions
from redis.asyncio import Redis

from xuankan.logs import fields
from xuankan.protocol.keys import Keys
from xuankan.transport.client import COMMAND_TIMEOUT_S, is_passing, is_refusal, open_client
from xuankan.transport.server import Operation, Server

T = TypeVar("T")
_log = logging.getLogger(__name__)
_LISTEN_S: Final = 1.0
"""How long a subscription is listened to at once."""
_QUIET: Final = 5
"""After so many times in which nothing was heard, the server is asked for a sign of life..."""
_SILENT: Final = _QUIET + round(COMMAND_TIMEOUT_S / _LISTEN_S)
"""... and after so many it has given none."""


class Stopped(Exception):
    """The wait for the server was given up because the worker stops."""


class QueueConnection(Server):
    """Waits for the server while it is away, without end, and says once when that changes.

    `up` is False until the first success, and from a failure until the next success. `on_change` is called
    with its new value.
    """

    def __init__(self, url: str, keys: Keys, on_change: Callable[[bool], None] = lambda _up: None) -> None:
        super().__init__(url, keys, math.inf)
        self._url, self._keys = url, keys
        self._on_change = on_change
        self._down_since_s = 0.0
        self.up = False

    async def call(
        self,
        what: str,
        operation: Operation[T],
        *,
        redis: Redis | None = None,
        stopping: asyncio.Event | None = None,
    ) -> T:
        """Do an operation, see `Server.call`.

        Raises:
            Stopped: `stopping` was set while the server was away.
            ServerUnavailable: the server refuses, and waiting will not change that.
        """
        if stopping is None:
            return await super().call(what, operation, redis=redis)

        async def pause(seconds: float) -> None:
            try:
                await asyncio.wait_for(stopping.wait(), seconds)
            except TimeoutError:
                return
            raise Stopped

        return await self._persist(what, operation, redis, pause)

    def open(self, block_s: float) -> Redis:
        """A client of its own for commands that block; where it connects anew, the clock may be another."""
        return open_client(self._url, self._keys, block_s=block_s, connected=self.clock.doubt)

    async def listen(self, channel: str, hear: Callable[[bytes], None]) -> None:
        """Hand a channel's messages to `hear` until cancelled, not those sent while the server is away."""
        while True:
            pubsub = cast(Any, self.redis.pubsub())  # pyright: ignore[reportUnknownMemberType]
            try:
                await self.call("take a subscription", lambda _, p=pubsub: _subscribe(p, channel))
                await _hear_out(pubsub, hear)
            except (exceptions.RedisError, OSError):
                continue  # subscribe again, which says so if the server is away
            finally:
                await pubsub.aclose()

    async def synchronise(self) -> None:
        """Read the server's clock.

        Raises:
            ServerUnavailable: the server refuses, and waiting will not change that.
        """
        await self.call("tell the time", self.clock.measure)

    def answered(self, who: object) -> None:
        """Take note of a success."""
        super().answered(who)
        if not self.up and not self._away:
            self.up = True
            self._on_change(True)

    def _passes(self, error: Exception) -> bool:
        return is_transient(error)

    def _went_away(self, error: Exception) -> None:
        self._down_since_s = time.monotonic()
        reason = str(error) or type(error).__name__
        _log.warning("server unavailable; waiting for it", extra=fields(server=self.where, reason=reason))
        self.up = False
        self._on_change(False)

    def _came_back(self) -> None:
        away_s = round(time.monotonic() - self._down_since_s, 3)
        _log.warning("server available again", extra=fields(server=self.where, away_s=away_s))


async def _subscribe(pubsub: Any, channel: str) -> None:
    await pubsub.subscribe(channel)
    if await pubsub.get_message(timeout=COMMAND_TIMEOUT_S) is None:
        await pubsub.connection.disconnect()
        raise exceptions.TimeoutError("a subscription gets no answer")


async def _hear_out(pubsub: Any, hear: Callable[[bytes], None]) -> None:
    """Return never, but raise once the connection is broken or nothing answers any more."""
    quiet = 0
    while True:
        message = cast(dict[str, Any] | None, await pubsub.get_message(timeout=_LISTEN_S))
        if message is None:
            quiet += 1
            if quiet == _QUIET:
                await pubsub.ping()
            elif quiet > _SILENT:
                raise exceptions.TimeoutError("a subscription no longer gets answers")
            continue
        quiet = 0
        if message["type"] == "message":
            hear(message["data"])


def is_transient(error: Exception) -> bool:
    """Whether a worker waits: also for an operator who fixes a password or an ACL."""
    return is_passing(error) or is_refusal(error)
