"""What time it is on the server, told by our monotonic clock.

Deadlines are points of time on the server's clock. Our own wall clock may be set at any time, by people or by
NTP, and so may the server's; and after a failover it is another server's. So the server's time is kept as an
offset from the clock that nobody sets, and measured again after every new connection and every few seconds.
"""

from __future__ import annotations

import time
from typing import Any, Final, cast

from redis.asyncio import Redis

_LONGEST_S: Final = 5.0
"""How long a measurement is relied on: the server's clock may be set while the connection stands."""
_SMOOTHING: Final = 0.2


class ServerClock:
    """The server's clock as it was measured last; our own wall clock until then.

    Attributes:
        round_trip_s: of late, smoothed; 0 before the first measurement.
    """

    def __init__(self) -> None:
        self._offset_ms = time.time() * 1000 - time.monotonic() * 1000
        self._until_s = -1.0
        self._doubts = 0
        self.round_trip_s = 0.0

    @property
    def sure(self) -> bool:
        """Whether it was measured a moment ago, and no connection was made since."""
        return time.monotonic() < self._until_s

    def now_ms(self) -> float:
        """Unix time on the server's clock."""
        return time.monotonic() * 1000 + self._offset_ms

    def doubt(self) -> None:
        """A connection was made: perhaps to another server."""
        self._doubts += 1
        self._until_s = -1.0

    async def measure(self, redis: Redis) -> None:
        """Ask the server.

        Raises:
            redis.exceptions.RedisError, OSError: it does not answer.
        """
        if not self.sure:
            # Connecting takes time of its own. TIME in its place: not every user may PING.
            await cast(Any, redis).time()
        doubts, before_s = self._doubts, time.monotonic()
        seconds, microseconds = cast(tuple[int, int], await cast(Any, redis).time())
        self.note(seconds, microseconds, before_s, doubts)

    async def ensure(self, redis: Redis) -> None:
        """Ask the server unless that was done a moment ago.

        Raises:
            redis.exceptions.RedisError, OSError: it does not answer.
        """
        if not self.sure:
            await self.measure(redis)

    def asking(self) -> tuple[float, int]:
        """What `note` wants to know of the moment before TIME is sent."""
        return time.monotonic(), self._doubts

    def note(self, seconds: int, microseconds: int, before_s: float, doubts: int) -> None:
        """Take note of an answer to TIME that was sent at `before_s`, after so many doubts."""
        now_s = time.monotonic()
        weight = _SMOOTHING if self.round_trip_s else 1.0
        self.round_trip_s += (now_s - before_s - self.round_trip_s) * weight
        middle_ms = (before_s + now_s) / 2 * 1000
        self._offset_ms = int(seconds) * 1000 + int(microseconds) / 1000 - middle_ms
        if doubts == self._doubts:
            self._until_s = now_s + _LONGEST_S
