"""The server as producers and workers see it: commands that ride through its absences."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

from redis import exceptions as faults
from redis.asyncio import Redis

from xuankan.errors import ServerUnavailable
from xuankan.protocol.keys import Keys
from xuankan.transport.client import backoff_s, describe, is_passing, open_client
from xuankan.transport.clock import ServerClock

T = TypeVar("T")
Operation = Callable[[Redis], Coroutine[Any, Any, T]]
"""What is asked of the server. It may safely be done twice, and does nothing but ask: it may go on after its
caller was cancelled."""
_log = logging.getLogger("xuankan.server")

_LAST_WORDS_S: Final = 1.0


class Server:
    """Sends commands, again while the server is away, for at most `patience_s`; infinity is allowed.

    Commands run in tasks of their own and are never cut short: up to Python 3.11 a cancellation can get lost
    in `asyncio.wait_for` (CPython gh-86296), through which redis-py sends, and with it a deadline.

    Attributes:
        clock: what time it is there.
    """

    def __init__(self, url: str, keys: Keys, patience_s: float) -> None:
        self.clock = ServerClock()
        self.redis = open_client(url, keys, connected=self.clock.doubt)
        self.where = describe(url)
        self._patience_s = patience_s
        self._away = False
        self._failing: set[object] = set()
        self._running: set[asyncio.Task[Any]] = set()

    async def call(self, what: str, operation: Operation[T], *, redis: Redis | None = None) -> T:
        """Do an operation. `what` completes "the server did not ...".

        If the caller is cancelled, what is on its way to the server still arrives there.

        Args:
            what: for errors.
            operation: gets the client to ask through.
            redis: another client than the one for short commands.

        Raises:
            ServerUnavailable: the server was away for `patience_s`, or refused for a reason that stays.
        """
        return await self._persist(what, operation, redis, asyncio.sleep)

    async def settle(self, timeout_s: float) -> None:
        """Wait until what was sent is answered."""
        if self._running:
            await asyncio.wait(self._running, timeout=timeout_s)

    def failed(self, who: object, failures: int, error: Exception) -> None:
        """Say once that the server is away, after `failures` of `who` in a row."""
        # One failure may be a connection that died while idle; the next attempt takes a fresh one.
        if failures < 2:
            return
        self._failing.add(who)
        if not self._away:
            self._away = True
            self._went_away(error)

    def answered(self, who: object) -> None:
        """Say once that the server is back, when nobody fails any more."""
        # A full server, for one, refuses writes and answers reads.
        self._failing.discard(who)
        if self._away and not self._failing:
            self._away = False
            self._came_back()

    async def close(self) -> None:
        """Close every connection."""
        await self.settle(_LAST_WORDS_S)
        await end_tasks(*self._running)
        await self.redis.aclose()

    async def _persist(
        self,
        what: str,
        operation: Operation[T],
        redis: Redis | None,
        pause: Callable[[float], Awaitable[None]],
    ) -> T:
        """See `call`; `pause` waits between attempts, and ends them by raising."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + self._patience_s
        failures, ourselves = 0, object()
        last: Exception | None = None
        try:
            while (left_s := until_s - loop.time()) > 0:
                task = loop.create_task(operation(redis or self.redis))
                self._running.add(task)
                task.add_done_callback(self._ran)
                await asyncio.wait((task,), timeout=left_s if math.isfinite(left_s) else None)
                if not task.done():
                    break
                try:
                    answer = task.result()
                except (faults.RedisError, OSError) as error:
                    last = error
                    if not self._passes(error):
                        raise ServerUnavailable(f"{self.where} refuses to {what}: {error}") from error
                    failures += 1
                    self.failed(ourselves, failures, error)
                else:
                    self.answered(ourselves)
                    return answer
                await pause(min(until_s - loop.time(), backoff_s(failures)))
        finally:
            self._failing.discard(ourselves)
        raise ServerUnavailable(
            f"{self.where} did not {what} within {self._patience_s:g} s: "
            f"{str(last or 'no answer').rstrip('.')}. Is the server running, and is the URL right?"
        ) from last

    def _passes(self, error: Exception) -> bool:
        """Whether what failed is tried again."""
        return is_passing(error)

    def _went_away(self, error: Exception) -> None:
        _log.warning("%s cannot be reached, retrying: %s", self.where, error)

    def _came_back(self) -> None:
        _log.warning("%s is available again", self.where)

    def _ran(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # the caller may be gone, and nobody else would look


async def end_tasks(*tasks: asyncio.Future[Any]) -> None:
    """Cancel tasks that may be in the middle of a command, until they are really over (see `Server`)."""
    pending = set(tasks)
    while pending := {task for task in pending if not task.done()}:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=0.05)
