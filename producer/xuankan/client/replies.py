"""A producer's only reader of replies: it hands each result to whoever waits for it.

Replies are hints. Losing one (a cut connection, a full list, a crash between two commands) costs time, never
a result, because everyone who waits also looks at the server every few seconds (`requests.Requests`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, Final, cast

from redis.exceptions import RedisError

from xuankan.protocol.keys import Keys
from xuankan.protocol.scripts import Kept, look_all
from xuankan.transport.client import backoff_s, open_client
from xuankan.transport.server import Server, end_tasks

_BLOCK_S: Final = 2.0
_AT_ONCE: Final = 64
"""Results read in one round trip; one of 100 journals takes about 40 KB."""

Waiter = asyncio.Future[Kept]


class Replies:
    """Waiters by request id, and the task that serves them from the producer's reply list."""

    def __init__(self, url: str, server: Server, keys: Keys, address: str) -> None:
        # Its own connection: a blocked command would keep others waiting.
        self._redis = open_client(url, keys, block_s=_BLOCK_S, connections=1)
        self._server = server
        self._keys = keys
        self._list = keys.reply(address)
        self._waiters: dict[str, set[Waiter]] = {}
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @contextmanager
    def expect(self, request_id: str) -> Generator[Waiter]:
        """A future that gets the result of `request_id`, if its reply arrives while the context is open."""
        if self._task is None:
            self._task = asyncio.create_task(self._read(), name="xuankan-replies")
        waiter: Waiter = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(request_id, set()).add(waiter)
        self._wanted.set()
        try:
            yield waiter
        finally:
            waiter.cancel()
            waiting = self._waiters[request_id]
            waiting.remove(waiter)
            if not waiting:
                del self._waiters[request_id]
            if not self._waiters:
                self._wanted.clear()

    async def close(self) -> None:
        """Stop reading. Whoever still waits goes on looking."""
        if self._task is not None:
            await end_tasks(self._task)
        await self._redis.aclose()

    async def _read(self) -> None:
        failures = 0
        while True:
            await self._wanted.wait()
            try:
                await self._deliver(await self._pop())
                failures = 0
                self._server.answered(self)
            except (RedisError, OSError) as error:
                # Errors that stay reach the caller through its own looking, with a full message.
                failures += 1
                self._server.failed(self, failures, error)
                await asyncio.sleep(backoff_s(failures))

    async def _pop(self) -> Sequence[str]:
        command = cast(Any, self._redis).execute_command
        popped = await command("BLMPOP", _BLOCK_S, 1, self._list, "LEFT", "COUNT", _AT_ONCE)
        return [] if popped is None else [reply.decode(errors="replace") for reply in popped[1]]

    async def _deliver(self, request_ids: Sequence[str]) -> None:
        wanted = [request_id for request_id in dict.fromkeys(request_ids) if request_id in self._waiters]
        if not wanted:
            return
        for seen in await look_all(self._server.redis, self._keys, wanted):
            for waiter in self._waiters.get(seen.request_id, ()):
                if seen.result is not None and not waiter.done():
                    waiter.set_result(seen.result)
