"""The connections to the Redis/Valkey server, and riding through its absences."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar, cast

from redis import exceptions
from redis.asyncio import Redis

from xuankan.errors import ServerUnavailable
from xuankan.logs import fields
from xuankan.protocol.delivery import Call
from xuankan.protocol.keys import Keys
from xuankan.transport.client import (
    COMMAND_TIMEOUT_S,
    backoff_s,
    describe,
    is_passing,
    is_refusal,
    open_client,
)

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


def connect(url: str, keys: Keys | None = None, block_s: float = 0.0) -> Redis:
    """A client whose commands may block for `block_s`. It retries nothing by itself; `Server.persist` does.

    Raises:
        InputError: not a URL of a Redis/Valkey server.
    """
    return open_client(url, keys, block_s=block_s)


class Server:
    """One server: runs commands, waits for it while it is away, and says once when that changes.

    `up` is False until the first success, and from a failure until the next success. `on_change` is called
    with its new value.
    """

    def __init__(self, url: str, keys: Keys, on_change: Callable[[bool], None] = lambda _up: None) -> None:
        self._on_change = on_change
        self._address = describe(url)
        self._failing: set[object] = set()  # calls of `persist` that wait for the server
        self._commands = connect(url, keys)
        self._clock_offset_ms = time.time() * 1000 - time.monotonic() * 1000
        self._down_since_s: float | None = None
        self.up = False

    async def listen(self, channel: str, hear: Callable[[bytes], None]) -> None:
        """Hand a channel's messages to `hear` until cancelled, not those sent while the server is away."""
        while True:
            pubsub = cast(Any, self._commands.pubsub())  # pyright: ignore[reportUnknownMemberType]
            try:
                await self.persist(lambda p=pubsub: _subscribe(p, channel))
                await _hear_out(pubsub, hear)
            except (exceptions.RedisError, OSError):
                continue  # subscribe again; `persist` says so if the server is away
            finally:
                await pubsub.aclose()

    async def command(
        self, *command: str | bytes | float, client: Redis | None = None, **parsing: object
    ) -> Any:
        """Run one command; `parsing` are options of redis-py's reply parser."""
        return await cast(Any, client or self._commands).execute_command(*command, **parsing)

    async def commands(self, commands: Sequence[Sequence[str | bytes | int]]) -> list[Any]:
        """Run commands in one round trip, without a transaction.

        Raises:
            redis.exceptions.RedisError: of the first that failed; the others were run.
        """
        replies = await self._replies(commands)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    async def calls(self, calls: Sequence[Call]) -> list[Any]:
        """Run scripts in one round trip; one that fails gives its error."""
        replies = await self._replies([call.by_hash() for call in calls])
        for place, reply in enumerate(replies):
            if isinstance(reply, exceptions.NoScriptError):
                (replies[place],) = await self._replies([calls[place].by_text()])
        return replies

    async def call(self, call: Call) -> Any:
        """Run one script.

        Raises:
            redis.exceptions.RedisError: it failed.
        """
        (reply,) = await self.calls([call])
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def persist(self, attempt: Callable[[], Awaitable[T]], stopping: asyncio.Event | None = None) -> T:
        """Run `attempt` until the server lets it succeed, with growing, jittered pauses.

        Raises:
            Stopped: `stopping` was set while the server was away.
            ServerUnavailable: the server refuses, and waiting will not change that.
        """
        failures, ourselves = 0, object()
        try:
            while True:
                try:
                    result = await attempt()
                except (exceptions.RedisError, OSError) as error:
                    if not is_transient(error):
                        raise ServerUnavailable(f"{self._address} refuses: {error}") from error
                    failures += 1
                    # The first failure may be a connection that died while idle: try a fresh one at once.
                    if failures > 1:
                        self._failing.add(ourselves)
                        self._went_down(error)
                        await self._pause(failures - 2, stopping)
                else:
                    self._failing.discard(ourselves)
                    self._came_up()
                    return result
        finally:
            self._failing.discard(ourselves)

    async def synchronise(self) -> None:
        """Read the server's clock."""
        if not self.up:
            await self.command("PING")  # connecting takes time of its own
        before_s = time.monotonic()
        seconds, microseconds = cast(tuple[int, int], await self.command("TIME"))
        middle_s = (before_s + time.monotonic()) / 2
        self._clock_offset_ms = int(seconds) * 1000 + int(microseconds) / 1000 - middle_s * 1000

    def now_ms(self) -> float:
        """Unix time on the server's clock, estimated; on ours until `synchronise` succeeded."""
        return time.monotonic() * 1000 + self._clock_offset_ms

    async def close(self) -> None:
        """Close every connection."""
        await self._commands.aclose()

    async def _replies(self, commands: Sequence[Sequence[str | bytes | int]]) -> list[Any]:
        pipeline = self._commands.pipeline(transaction=False)
        for command in commands:
            cast(Any, pipeline).execute_command(*command)
        return await pipeline.execute(raise_on_error=False)

    async def _pause(self, failures: int, stopping: asyncio.Event | None) -> None:
        pause_s = backoff_s(failures, random.uniform(0.5, 1.0))  # noqa: S311  # jitter, not a secret
        if stopping is None:
            await asyncio.sleep(pause_s)
            return
        try:
            await asyncio.wait_for(stopping.wait(), pause_s)
        except TimeoutError:
            return
        raise Stopped

    def _went_down(self, error: Exception) -> None:
        if self._down_since_s is None:
            self._down_since_s = time.monotonic()
            reason = str(error) or type(error).__name__
            _log.warning(
                "server unavailable; waiting for it", extra=fields(server=self._address, reason=reason)
            )
            self.up = False
            self._on_change(False)

    def _came_up(self) -> None:
        # Others may still fail: a full server, for one, refuses writes and answers reads.
        if self.up or self._failing:
            return
        if self._down_since_s is not None:
            away_s = round(time.monotonic() - self._down_since_s, 3)
            _log.warning("server available again", extra=fields(server=self._address, away_s=away_s))
            self._down_since_s = None
        self.up = True
        self._on_change(True)


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
