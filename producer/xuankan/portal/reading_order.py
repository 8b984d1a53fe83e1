"""Whose file is read next: by turns among callers, cheap ones first, never all processes for heavy users."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Final

_FORGOTTEN_S: Final = 60.0
"""After which half of what a caller has used is forgotten."""
_LIGHT_S: Final = 3.0
"""Who has used less than this lately may have the last free process. Nearly every file takes less."""


@dataclass(slots=True, eq=False)
class _Upload:
    whose: str
    size_bytes: int
    turn: asyncio.Future[None]


class ReadingOrder:
    """Hands out `most` (at least 2) processes. All of it runs in one event loop."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._running: Counter[str] = Counter()
        self._waiting: list[_Upload] = []
        self._used: dict[str, tuple[float, float]] = {}

    @contextlib.asynccontextmanager
    async def taken(self, whose: str, size_bytes: int) -> AsyncGenerator[None]:
        """Wait for a process to read a file of a caller with; at the end it is free again."""
        loop = asyncio.get_running_loop()
        waiting = _Upload(whose, size_bytes, loop.create_future())
        self._waiting.append(waiting)
        self._hand_out()
        started_s: float | None = None
        try:
            await waiting.turn
            started_s = loop.time()
            yield
        finally:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
            else:  # it was handed out, perhaps just as we were cancelled
                self._running[whose] -= 1
                self._running += Counter()
                self._note(whose, 0.0 if started_s is None else loop.time() - started_s)
            self._hand_out()

    def _hand_out(self) -> None:
        while (chosen := self._next()) is not None:
            self._waiting.remove(chosen)
            if not chosen.turn.done():
                self._running[chosen.whose] += 1
                chosen.turn.set_result(None)

    def _next(self) -> _Upload | None:
        """Least running, least used lately, smallest, first come."""
        free = self._most - self._running.total()
        if free <= 0:
            return None
        now_s = asyncio.get_running_loop().time()
        used = {one.whose: self._recent_s(one.whose, now_s) for one in self._waiting}
        allowed = [
            one
            for one in self._waiting
            if free > 1 or (not self._running[one.whose] and used[one.whose] < _LIGHT_S)
        ]
        return min(
            allowed,
            key=lambda one: (self._running[one.whose], int(used[one.whose]), one.size_bytes),
            default=None,
        )

    def _recent_s(self, whose: str, now_s: float) -> float:
        used_s, then_s = self._used.get(whose, (0.0, now_s))
        return used_s * 0.5 ** ((now_s - then_s) / _FORGOTTEN_S)

    def _note(self, whose: str, seconds: float) -> None:
        now_s = asyncio.get_running_loop().time()
        used = {one: self._recent_s(one, now_s) for one in self._used}
        used[whose] = used.get(whose, 0.0) + seconds
        self._used = {one: (used_s, now_s) for one, used_s in used.items() if used_s > 0.1}
