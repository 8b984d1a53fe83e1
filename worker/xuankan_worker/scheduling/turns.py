"""How the lanes take turns. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from xuankan.protocol.keys import Lane


class Turns:
    """Whose lane leads the next batch; batchers of which one is asked at a time share one.

    Args:
        bulk_every: while both lanes wait, at least one batch in this many is led by bulk.
    """

    def __init__(self, bulk_every: int) -> None:
        self._bulk_every = bulk_every
        self._passed_over = 0  # batches led by interactive since bulk last led one, while bulk waited

    def lane(self, waiting: Mapping[Lane, int]) -> Lane | None:
        """Which it is, by the rows that wait; None if none do."""
        if waiting["interactive"] and (not waiting["bulk"] or self._passed_over < self._bulk_every - 1):
            return "interactive"
        return "bulk" if waiting["bulk"] else None

    def led(self, lane: Lane, waiting: Mapping[Lane, int]) -> None:
        """Take note that a lane leads a batch of the rows that wait."""
        passed_over = lane == "interactive" and waiting["bulk"]
        self._passed_over = self._passed_over + 1 if passed_over else 0
