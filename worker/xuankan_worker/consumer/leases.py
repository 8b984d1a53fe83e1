"""Which entries were given up, judged by what one sees oneself and by a clock that nobody sets. Pure.

Every worker looks at the pending entries again and again. An entry whose sign (see `xuankan.protocol.leases`)
did not change for as long as a lease is given up. How long that is, is counted from look to look by this
worker's monotonic clock, and a long gap between two looks counts as a short one: while we could not look, the
owner could perhaps not renew either. So a server's clock that is set back delays nothing, one that is set
forward takes nothing away from the living, and what is wrong is at most one gap.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from xuankan.protocol.keys import Lane
from xuankan.protocol.leases import NOBODY, SAME_SIGN_MS
from xuankan_worker.in_flight import EntryKey
from xuankan_worker.queue.streams import Pending

_LONGEST_GAP_S: Final = 3.0


@dataclass(slots=True)
class _Watched:
    pending: Pending
    unchanged_s: float


class Leases:
    """What one worker has seen of the pending entries, by lane."""

    def __init__(self, lease_s: float) -> None:
        self._lease_s = lease_s
        self._longest_gap_s = min(_LONGEST_GAP_S, lease_s / 2)
        self._watched: dict[Lane, dict[EntryKey, _Watched]] = {}
        self._looked_s: dict[Lane, float] = {}

    def look(
        self, lane: Lane, rows: Sequence[Pending], held: Collection[EntryKey], now_s: float
    ) -> list[Pending]:
        """Take note of all pending entries of a lane; returns those that were given up, the oldest first.

        Args:
            lane: theirs.
            rows: as they are now.
            held: what we hold ourselves, which needs no watching.
            now_s: monotonic time.
        """
        before_s, self._looked_s[lane] = self._looked_s.get(lane, now_s), now_s
        gap_s = min(now_s - before_s, self._longest_gap_s)
        known, watched = self._watched.get(lane, {}), dict[EntryKey, _Watched]()
        given_up: list[Pending] = []
        for row in rows:
            if row.key in held:
                continue
            if (one := known.get(row.key)) is not None and _same(one.pending, row):
                one.unchanged_s += gap_s
            else:
                # It changed since the last look. When, only the server's clock says, and only within that.
                one = _Watched(row, min(gap_s, row.idle_s))
            watched[row.key] = one
            if row.owner == NOBODY or one.unchanged_s >= self._lease_s:
                given_up.append(row)
        self._watched[lane] = watched
        return given_up

    def due_s(self) -> float:
        """Seconds until the next entry is given up if it does not change; infinite if none is watched."""
        left = [self._lease_s - one.unchanged_s for lane in self._watched.values() for one in lane.values()]
        return max(0.0, min(left, default=float("inf")))


def _same(before: Pending, now: Pending) -> bool:
    return (
        (before.owner, before.deliveries) == (now.owner, now.deliveries)
        and before.sign is not None
        and now.sign is not None
        and abs(before.sign - now.sign) <= SAME_SIGN_MS
    )
