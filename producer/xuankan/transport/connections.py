"""Connections that find their server themselves, and close for good.

redis-py's own have traits that these mend: closing can be interrupted, which leaks the socket; a socket whose
peer has stopped reading stays open after it was closed; what is cancelled or closed while it connects may end
up connected with nobody to close it; and when one connection breaks, its idle siblings, which went the same
way, are tried one after the other, each until its timeout.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Final, Protocol, cast

from redis import exceptions as faults
from redis.asyncio import BlockingConnectionPool
from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    SSLConnection,
    UnixDomainSocketConnection,
)

from xuankan.transport.url import Node

_NOT_HERE: Final = "this is a node of a Cluster: give its URL as redis+cluster://host:port"


class Guide(Protocol):
    """Knows where the server is."""

    async def locate(self) -> Node:
        """Host and port to connect to."""
        ...

    def moved(self, node: Node) -> None:
        """Hear that our keys are on that node of the Cluster."""
        ...

    def misled(self) -> None:
        """Hear that the last place did not answer."""
        ...


class _Link(AbstractConnection):
    """What all connections share.

    Args:
        guide: None where the server stays in its place.
        connected: called whenever a connection was made.
        options: redis-py's.
    """

    def __init__(
        self,
        *,
        guide: Guide | None = None,
        connected: Callable[[], None] = lambda: None,
        **options: Any,
    ) -> None:
        cast(Any, super()).__init__(**options)
        self._guide = guide
        self._on_connected = connected
        self._retired = False
        # Send no CLIENT SETINFO: Redis 7.0 does not know it, and no ACL user needs a permission for it.
        self.driver_info = self.lib_name = self.lib_version = None

    def retire(self) -> None:
        """From now on it does not connect."""
        self._retired = True

    async def connect(self) -> None:
        stood = self.is_connected
        try:
            if not self._retired:
                await super().connect()
        except BaseException:
            await self.disconnect()
            raise
        if not stood:
            self._on_connected()
        if self._retired:
            await self.disconnect()
            raise faults.ConnectionError("the client was closed")

    async def disconnect(self, *args: Any, **options: Any) -> None:
        """Close at once: nothing in here waits, so that no cancellation can interrupt it."""
        options["nowait"] = True
        if self._writer is not None:
            # Not `close`, which waits for the peer to read what was sent, and for TLS to say goodbye.
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._writer.transport.abort()
        await super().disconnect(*args[1:], **options)

    async def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            return await cast(Any, super()).read_response(*args, **options)
        except faults.MovedError as error:
            await self.disconnect()
            if self._guide is None:
                raise faults.ResponseError(_NOT_HERE) from error
            self._guide.moved((str(cast(Any, error).host), int(error.port)))
            raise faults.ConnectionError("the shard is on another node now") from error
        except faults.AskError as error:
            # Scripts cannot follow: they need all keys of the shard, of which some are here and some there.
            raise faults.TryAgainError("the shard is moving to another node") from error
        except faults.ReadOnlyError:
            await self.disconnect()  # it was the master; find out who is
            raise


class _TcpLink(_Link, Connection):
    async def _connect(self) -> None:
        if self._guide is None:
            await super()._connect()
            return
        self.host, self.port = await self._guide.locate()
        try:
            await super()._connect()
        except (OSError, TimeoutError):
            self._guide.misled()
            raise


class _TlsLink(_TcpLink, SSLConnection):
    pass


class _SocketLink(_Link, UnixDomainSocketConnection):
    async def _connect(self) -> None:
        # redis-py's own also authenticates in here, where a wrong password looks like a network's fault.
        async with asyncio.timeout(self.socket_connect_timeout):
            self._reader, self._writer = await asyncio.open_unix_connection(self.path)


def link_class(*, tls: bool, unix: bool) -> Any:
    """The class of such connections; its options are redis-py's, and `guide`."""
    return _SocketLink if unix else _TlsLink if tls else _TcpLink


class ConnectionPool(BlockingConnectionPool):
    """The connections of one client. None is open after `aclose`, and none opens any more."""

    def __init__(self, **options: Any) -> None:
        cast(Any, super()).__init__(**options)
        self._closed = False
        # redis-py gives a free connection to whoever comes along; of hundreds that wait, some wait forever.
        self._turns = asyncio.Semaphore(self.max_connections)
        self._lent: set[Any] = set()

    async def get_connection(self, *args: Any, **options: Any) -> Any:
        await self._turns.acquire()
        try:
            connection = await cast(Any, super()).get_connection(*args, **options)
        except BaseException:
            self._turns.release()
            raise
        self._lent.add(connection)
        return connection

    def make_connection(self) -> Any:
        link: Any = super().make_connection()
        if self._closed:
            link.retire()
        return link

    async def release(self, connection: Any) -> None:
        try:
            await super().release(connection)
        finally:
            if connection in self._lent:  # else it could not be made to work, and was not lent
                self._lent.remove(connection)
                self._turns.release()
        if not connection.is_connected:
            for sibling in list(self._available_connections):
                await sibling.disconnect()

    async def aclose(self) -> None:
        self._closed = True
        links: list[Any] = [*self._available_connections, *self._in_use_connections]
        for link in links:
            link.retire()
            await link.disconnect()
        await asyncio.sleep(0)  # the loop closes the sockets in its next turn
