"""Connections of strangers: how many there may be, how long each may take, and in how small pieces it comes.

uvicorn reads and writes HTTP; what it leaves open is bounded here. A connection that says nothing, or too
slowly, costs a descriptor: so heads, bodies and answers have deadlines, there are fewer connections than
descriptors, no address has more than its share, and while all are taken the one that has been idle for
longest goes. A body in tiny chunks costs a step of the event loop for each: so chunks have a least mean size.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import resource
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from xuankan.errors import InputError
from xuankan.portal.addresses import household

_log = logging.getLogger("xuankan.portal")

MAX_CONNECTIONS: Final = 4000
_OTHER_DESCRIPTORS: Final = 128
"""For the server's connections, the processes that read files, and the files of the page."""
_SHARE: Final = 4
"""One address has at most a quarter of all connections."""
HEAD_S: Final = 10.0
"""From a connection's start, or from the first byte of a further call, to the end of its head."""
BODY_S: Final = 45.0
"""From there to the end of the body. Handlers that read it have less patience, and answer."""
STALLED_S: Final = 30.0
"""How long a caller may take nothing of an answer that waits for it."""
_MAX_HEAD_BYTES: Final = 32 * 1024
_MAX_HEADERS: Final = 100
_MAX_PIPELINED: Final = 8
"""Calls that are sent before an earlier one of their connection is answered."""
ACCEPTED_AT_ONCE: Final = 64
"""So many are open before the first of them can be refused, and so fewer than `_OTHER_DESCRIPTORS`."""
_FREE_CHUNKS: Final = 4096
_MEAN_CHUNK_BYTES: Final = 64
"""Beyond the free ones; the smallest network packet has more."""
_SAY_S: Final = 60.0


class Connections:
    """All connections of one portal. It runs in one event loop.

    Args:
        most: how many there may be at a time; by default as many as the limit on open files allows, and no
            more than `MAX_CONNECTIONS`.
        trusted_proxies: addresses or networks from which many callers come at once: they have no share.
    """

    def __init__(self, most: int | None = None, trusted_proxies: Sequence[str] = ()) -> None:
        self.most = _most() if most is None else most
        self._each = max(1, self.most // _SHARE)
        self._proxies = [_network(one) for one in trusted_proxies]
        self._open: set[Connection] = set()
        self._from: Counter[str] = Counter()
        self._idle: dict[Connection, None] = {}
        self._refused = 0
        self._said_s = 0.0

    def protocol(self, **values: Any) -> Connection:
        """A new connection, as `uvicorn.Config(http=...)` wants them made."""
        return Connection(self, **values)

    def came(self, connection: Connection, address: str) -> bool:
        """Whether a new connection may stay."""
        whose = household(address)
        if self._from[whose] >= self._each and not self._is_proxy(address):
            self._refuse("%s has its share of %d", address, self._each)
            return False
        if len(self._open) >= self.most:
            if not self._idle:
                self._refuse("all %d are in use", self.most)
                return False
            longest_idle = next(iter(self._idle))
            del self._idle[longest_idle]
            longest_idle.end()
        self._open.add(connection)
        self._from[whose] += 1
        self.idle(connection)
        return True

    def went(self, connection: Connection, address: str) -> None:
        """A connection is closed."""
        self._idle.pop(connection, None)
        if connection in self._open:
            self._open.discard(connection)
            whose = household(address)
            self._from[whose] -= 1
            if not self._from[whose]:
                del self._from[whose]

    def idle(self, connection: Connection) -> None:
        """A connection has no call under way from now on."""
        if connection in self._open:
            self._idle[connection] = None

    def busy(self, connection: Connection) -> None:
        """A connection has one."""
        self._idle.pop(connection, None)

    def fault(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Handle what the event loop reports; asyncio tells a thousand times a second of no descriptor."""
        if context.get("message") == "socket.accept() out of system resource":
            self._refuse("no descriptor is free (%s)", context.get("exception"))
        else:
            loop.default_exception_handler(context)

    def _refuse(self, why: str, *facts: object) -> None:
        """Say it once a minute, with a count."""
        self._refused += 1
        now_s = asyncio.get_running_loop().time()
        if not self._said_s or now_s - self._said_s >= _SAY_S:
            _log.warning(f"refused %d connections: {why}", self._refused, *facts)
            self._said_s, self._refused = now_s, 0

    def _is_proxy(self, address: str) -> bool:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return True  # a Unix socket: only a proxy can be behind it
        return any(network is None or parsed in network for network in self._proxies)


class Connection(HttpToolsProtocol):
    """One connection."""

    def __init__(self, all_of_them: Connections, **values: Any) -> None:
        super().__init__(**values)
        self._all = all_of_them
        self._deadline: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._in_head = False
        self._came_on = False
        self._unended_bytes = self._head_bytes = self._headers = 0
        self._body_bytes = self._chunks = 0
        self._address = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A stranger is there."""
        super().connection_made(transport)  # pyright: ignore[reportArgumentType]  # as uvicorn's own
        self._address = self.client[0] if self.client else ""
        if self._all.came(self, self._address):
            self._within(HEAD_S)
        else:
            self.end()

    def connection_lost(self, exc: Exception | None) -> None:
        """They are gone."""
        for timer in (self._deadline, self._stalled):
            if timer is not None:
                timer.cancel()
        self._all.went(self, self._address)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """They say something."""
        if self.transport.is_closing():
            return
        if not self._in_head and self._deadline is None:
            self._within(HEAD_S)
        self._came_on = False
        super().data_received(data)
        # Of a target, header, trailer or chunk's extension that does not end, the parser tells nothing, and
        # keeps all of it, copied again for each piece.
        self._unended_bytes = 0 if self._came_on else self._unended_bytes + len(data)
        if self._unended_bytes > _MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The head of the request is too long.")

    def on_message_begin(self) -> None:
        """A call begins."""
        super().on_message_begin()
        self._in_head = self._came_on = True
        self._head_bytes = self._headers = self._body_bytes = self._chunks = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; or, behind the last chunk, a trailer, which nobody asked for."""
        self._came_on = True
        self._headers += 1
        self._head_bytes += len(name) + len(value)
        if self._headers > _MAX_HEADERS or self._head_bytes > _MAX_HEAD_BYTES:
            raise ValueError("the head of the request is too long")  # the parser's caller answers 400
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Its head is there."""
        self._in_head = False
        self._came_on = True
        if len(self.url) > _MAX_HEAD_BYTES:
            raise ValueError("the target of the request is too long")
        if len(self.pipeline) >= _MAX_PIPELINED:
            raise ValueError("too many requests at a time")
        self._within(BODY_S)
        super().on_headers_complete()
        self._all.busy(self)  # not before: whoever only begins a head makes room for others

    def on_body(self, body: bytes) -> None:
        """A piece of its body is there."""
        self._came_on = True
        self._chunks += 1
        self._body_bytes += len(body)
        if self._chunks > _FREE_CHUNKS + self._body_bytes // _MEAN_CHUNK_BYTES:
            raise ValueError("the body comes in too small chunks")
        super().on_body(body)

    def on_message_complete(self) -> None:
        """All of it is there."""
        self._came_on = True
        self._timeless()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """It is answered."""
        super().on_response_complete()
        if not self.pipeline and not self._in_head:
            self._all.idle(self)

    def pause_writing(self) -> None:
        """They take nothing of the answer."""
        super().pause_writing()
        self._stalled = self.loop.call_later(STALLED_S, self.end)

    def resume_writing(self) -> None:
        """They do again."""
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()

    def end(self) -> None:
        """Close it at once, whatever is under way."""
        self.transport.abort()

    def _within(self, seconds: float) -> None:
        self._timeless()
        self._deadline = self.loop.call_later(seconds, self._late)

    def _late(self) -> None:
        self._deadline = None
        call = cast("RequestResponseCycle | None", self.cycle)
        # Whatever is said while an answer is awaited, a stray line end, say, does not end the wait.
        if call is None or call.response_complete or call.more_body:
            self.end()

    def _timeless(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _most() -> int:
    """As many connections as there may be files, less those that are needed otherwise."""
    wanted = MAX_CONNECTIONS + _OTHER_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return max(8, soft - _OTHER_DESCRIPTORS)
    return MAX_CONNECTIONS


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """A network of proxies; None for `*`, all the world."""
    try:
        return None if text == "*" else ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise InputError(
            "trusted_proxies", f"{text!r} is no address, network such as 10.0.0.0/8, or *"
        ) from None
