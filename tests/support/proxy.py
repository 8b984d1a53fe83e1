"""What lies between everybody and the server: passes bytes on, and does what networks do."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Iterable
from typing import cast

_TICK_S = 0.0005


class Proxy:
    """Listens on a port of 127.0.0.1 and passes every connection on to another port of it."""

    def __init__(self, target_port: int) -> None:
        self._target = target_port
        self._server: asyncio.Server | None = None
        self.port = 0
        self.links: set[Link] = set()
        self.delay_s = 0.0
        """How long every byte takes on its way, in each direction."""

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Link(self, self._target).near, "127.0.0.1", self.port)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for link in list(self.links):
            link.cut()
        await self._server.wait_closed()

    def some(self, share: float, target: int) -> list[Link]:
        """A share of the connections, at least one if there are any."""
        links = sorted(self.links, key=id)
        return random.Random(target).sample(links, min(len(links), max(1, round(share * len(links)))))


class Link:
    """One connection: `near` is the client's end, `far` the server's."""

    def __init__(self, proxy: Proxy, target_port: int) -> None:
        self.proxy = proxy
        self._target = target_port
        self.near, self.far = _End(self), _End(self)
        self.deaf = False
        self.stalled = False
        self._waiting: list[bytes] = []
        self._connecting: asyncio.Task[None] | None = None

    def opened(self) -> None:
        """The client is there: reach the server."""
        self.proxy.links.add(self)
        self._connecting = asyncio.create_task(self._connect())

    async def _connect(self) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: self.far, "127.0.0.1", self._target)
        except OSError:
            self.cut()
            return
        for data in self._waiting:
            self.far.write(data)
        self._waiting.clear()
        if self.stalled:
            self.stall()

    def received(self, end: _End, data: bytes) -> None:
        if end is self.near:
            if self.far.transport is None:
                self._waiting.append(data)
            else:
                self.far.write(data)
        elif self.deaf:
            self.cut()  # the server did what it was told, and nobody hears of it
        else:
            self.near.write(data)

    def cut(self) -> None:
        """End the connection in the middle of whatever it carries."""
        self.proxy.links.discard(self)
        for end in (self.near, self.far):
            if end.transport is not None:
                end.transport.abort()

    def drop_reply(self) -> None:
        """Let the next reply of the server get lost, and the connection with it."""
        self.deaf = True

    def stall(self) -> None:
        """Take nothing in, and so pass nothing on."""
        self.stalled = True
        for end in (self.near, self.far):
            if end.transport is not None and not end.transport.is_closing():
                end.transport.pause_reading()

    def resume(self) -> None:
        """Go on where `stall` stopped."""
        self.stalled = False
        for end in (self.near, self.far):
            if end.transport is not None and not end.transport.is_closing():
                end.transport.resume_reading()


class _End(asyncio.Protocol):
    def __init__(self, link: Link) -> None:
        self._link = link
        self._late: deque[tuple[float, bytes]] = deque()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if self is self._link.near:
            self._link.opened()

    def data_received(self, data: bytes) -> None:
        self._link.received(self, data)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._link.cut()

    def write(self, data: bytes) -> None:
        """Pass on, in order, what the delay has passed for."""
        loop = asyncio.get_running_loop()
        delay_s = self._link.proxy.delay_s
        if not delay_s and not self._late:
            self._write(data)
            return
        self._late.append((loop.time() + delay_s, data))
        if len(self._late) == 1:
            loop.call_at(self._late[0][0], self._write_late)

    def _write_late(self) -> None:
        loop = asyncio.get_running_loop()
        while self._late and self._late[0][0] <= loop.time() + _TICK_S:
            self._write(self._late.popleft()[1])
        if self._late:
            loop.call_at(self._late[0][0], self._write_late)

    def _write(self, data: bytes) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)


def chosen(proxies: Iterable[Proxy], share: float, target: int) -> list[Link]:
    """A share of the connections of all proxies."""
    return [link for proxy in proxies for link in proxy.some(share, target)]
