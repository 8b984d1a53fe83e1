"""How fast a worker is, and how fast it is while it has enough to do."""

from __future__ import annotations

from typing import Final

_SMOOTHED_OVER_S: Final = 10.0
_SHORTEST_S: Final = 0.5


class Throughput:
    """Rows a second of late. Pure: times come in.

    Attributes:
        rows_per_s: smoothed over about ten seconds.
        capacity_rows_per_s: the same while rows waited; 0 until that was so for half a second.
    """

    def __init__(self, now_s: float) -> None:
        self._since_s = now_s
        self._rows = 0
        self._had_waiting = False
        self.rows_per_s = 0.0
        self.capacity_rows_per_s = 0.0

    def look(self, now_s: float, rows_done: int, waiting_rows: int) -> None:
        """Take note of the rows done since the start, and of those that wait."""
        seconds = now_s - self._since_s
        if seconds < _SHORTEST_S:
            return
        fresh, weight = (rows_done - self._rows) / seconds, min(1.0, seconds / _SMOOTHED_OVER_S)
        self.rows_per_s += (fresh - self.rows_per_s) * weight
        if self._had_waiting and waiting_rows:
            known = self.capacity_rows_per_s
            self.capacity_rows_per_s = known + (fresh - known) * weight if known else fresh
        elif self.capacity_rows_per_s:
            self.capacity_rows_per_s = max(self.capacity_rows_per_s, self.rows_per_s)
        self._since_s, self._rows, self._had_waiting = now_s, rows_done, waiting_rows > 0
