"""Looking at a shard again and again, and keeping the picture on the terminal."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Generator
from datetime import datetime
from typing import Final

from redis import exceptions
from rich.console import Console, Group
from rich.live import Live

from xuankan.errors import ServerUnavailable
from xuankan.protocol.keys import Keys
from xuankan.protocol.queue_state import QueueReader
from xuankan.transport.client import describe, is_passing, open_client
from xuankan_worker.operations.top.history import History, Sample
from xuankan_worker.operations.top.view import Frame, draw

_QUIT: Final = (b"q", b"Q", b"\x04")


class LiveView:
    """The looks at one shard, and what they cannot be taken for.

    Args:
        url: of the server.
        keys: of the shard.
        say_time: the time in words, for the picture.
    """

    def __init__(self, url: str, keys: Keys, say_time: Callable[[], str] | None = None) -> None:
        self._where = describe(url)
        self._keys = keys
        self._redis = open_client(url, keys)
        self._reader = QueueReader(keys, for_operators=True)
        self._say_time = say_time or (lambda: datetime.now().astimezone().strftime("%H:%M:%S"))
        self._history: History | None = None
        self._away_since_s: float | None = None
        self._reason = ""

    async def look(self) -> None:
        """Look once. A server that is away is kept in mind, and shown by `frame`.

        Raises:
            ServerUnavailable: it refuses, and waiting does not change that.
        """
        try:
            state = await self._reader.read(self._redis)
        except (exceptions.RedisError, OSError) as error:
            if not is_passing(error):
                raise ServerUnavailable(f"{self._where} refuses to show its queue: {error}") from error
            if self._away_since_s is None:
                self._away_since_s = time.monotonic()
            self._reason = str(error) or type(error).__name__
            return
        self._away_since_s = None
        self._history = self._history or History()
        self._history.add(Sample(time.monotonic(), state))

    @property
    def reason(self) -> str:
        """Why the last look failed; empty if it did not."""
        return "" if self._away_since_s is None else self._reason

    def picture(self, console: Console) -> Group:
        """What is known, as fits on a terminal; of any length where it is none."""
        away = ""
        if self._away_since_s is not None:
            seconds = time.monotonic() - self._away_since_s
            away = f"the server has not answered for {seconds:.0f} s: {self._reason}"
        frame = Frame(self._where, self._keys.namespace, self._say_time(), away)
        height = console.height if console.is_terminal else 1000
        return draw(frame, self._history, console.width, height)

    async def close(self) -> None:
        """Close the connection."""
        await self._redis.aclose()


async def watch(url: str, keys: Keys, interval_s: float, console: Console) -> None:
    """Show a shard until `q` or Ctrl-C; where nobody looks on (a pipe, a file), print it once.

    Raises:
        InputError: a URL that cannot be one.
        ServerUnavailable: the server refuses; or, to print once, it is away.
    """
    view = LiveView(url, keys)
    try:
        if not console.is_terminal:
            await view.look()
            if view.reason:
                raise ServerUnavailable(
                    f"{describe(url)} does not answer: {view.reason}. Is it running, and is the URL right?"
                )
            console.print(view.picture(console))
            return
        ended = asyncio.Event()
        with (
            _keys(ended.set),
            Live(console=console, screen=True, auto_refresh=False, vertical_overflow="crop") as live,
        ):
            stopping = asyncio.create_task(ended.wait())
            while not stopping.done():
                # A server that hangs holds up the picture for seconds, but not the end.
                looking = asyncio.create_task(view.look())
                await asyncio.wait((looking, stopping), return_when=asyncio.FIRST_COMPLETED)
                if not looking.done():
                    looking.cancel()
                    await asyncio.wait((looking,))
                    break
                looking.result()
                live.update(view.picture(console), refresh=True)
                await asyncio.wait((stopping,), timeout=interval_s)
    finally:
        await view.close()


@contextlib.contextmanager
def _keys(end: Callable[[], None]) -> Generator[None]:
    """While the block lasts, `q` and Ctrl-C call `end`; keys reach us at once and are not shown."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, end)
    try:
        if not sys.stdin.isatty():
            yield
            return
        import termios
        import tty

        stdin = sys.stdin.fileno()

        def pressed() -> None:
            if (keys := os.read(stdin, 64)) in _QUIT or not keys:
                end()

        before = termios.tcgetattr(stdin)
        tty.setcbreak(stdin)
        loop.add_reader(stdin, pressed)
        try:
            yield
        finally:
            loop.remove_reader(stdin)
            termios.tcsetattr(stdin, termios.TCSADRAIN, before)
    finally:
        loop.remove_signal_handler(signal.SIGINT)
