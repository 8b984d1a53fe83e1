"""What changed between looks at a shard: rates, waits, and what wants an operator's attention. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from xuankan.client.limits import Load, Memory, WorkerPace, expected_wait_s
from xuankan.protocol.keys import LANES, Lane
from xuankan_worker.status import ShardStatus, WorkerStatus

WINDOW_S: Final = 10.0
"""Rates are over so long."""
_MEMORY_SHARE: Final = 0.8
"""Of the server's memory; producers begin to hold back there (`pressure.Limits`)."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The shard at one moment.

    Attributes:
        at_s: monotonic.
        now_ms: Unix time on the server's clock.
        shard: its workers, lanes and dead letters.
        memory: the server's; None where this user may not ask for it.
    """

    at_s: float
    now_ms: float
    shard: ShardStatus
    memory: Memory | None = None


@dataclass(frozen=True, slots=True)
class Pace:
    """What a worker did of late, or since its start if it was seen once only.

    Attributes:
        requests_per_s: ended, with a ranking or without.
        batch_rows: rows of a batch on average; None if none was run.
        padding: share of the tokens run that were padding; None if none was run.
    """

    requests_per_s: float
    batch_rows: float | None
    padding: float | None


class History:
    """The looks of the last `WINDOW_S`, and the backlog of as many looks as are drawn.

    Args:
        drawn: how many looks back `backlog` goes.
    """

    def __init__(self, drawn: int = 60) -> None:
        self._looks: deque[Sample] = deque()
        self._backlog = {lane: deque[int](maxlen=drawn) for lane in LANES}

    def add(self, look: Sample) -> None:
        """Take note of a look."""
        looks = self._looks
        looks.append(look)
        while len(looks) > 2 and looks[1].at_s <= look.at_s - WINDOW_S:
            looks.popleft()
        for lane in look.shard.lanes:
            self._backlog[lane.lane].append(lane.queued)

    @property
    def last(self) -> Sample:
        """The latest look; there must be one."""
        return self._looks[-1]

    def backlog(self, lane: Lane) -> Sequence[int]:
        """Requests that no worker had read, the latest last."""
        return tuple(self._backlog[lane])

    def pace(self, worker: WorkerStatus) -> Pace:
        """Of a worker of the last look."""
        before, seconds = self._before(worker)
        rows = worker.rows_done - (before.rows_done if before else 0)
        batches = worker.batches_done - (before.batches_done if before else 0)
        real = worker.tokens_done - (before.tokens_done if before else 0)
        padding = worker.padding_tokens - (before.padding_tokens if before else 0)
        requests = worker.requests_done - (before.requests_done if before else 0)
        return Pace(
            requests_per_s=requests / seconds if before and seconds > 0 else 0.0,
            batch_rows=rows / batches if batches > 0 else None,
            padding=padding / (real + padding) if real + padding > 0 else None,
        )

    def requests_per_s(self) -> float:
        """Ended by all workers."""
        return sum(self.pace(worker).requests_per_s for worker in self.last.shard.workers)

    def arrivals_per_s(self) -> float | None:
        """Requests that came, as far as the backlog and the work done tell; None after one look."""
        first, last = self._looks[0], self.last
        if (seconds := last.at_s - first.at_s) <= 0:
            return None
        grown = sum(_length(last.shard, lane) - _length(first.shard, lane) for lane in LANES)
        return max(0.0, self.requests_per_s() + grown / seconds)

    def wait_s(self, lane: Lane) -> float | None:
        """Until a request that comes now gets its turn, as producers foresee it; None if not known."""
        return expected_wait_s(_load(self.last), lane)

    def _before(self, worker: WorkerStatus) -> tuple[WorkerStatus | None, float]:
        """The same run of a worker at the earliest look that has it, and how long ago that was."""
        for look in list(self._looks)[:-1]:
            for one in look.shard.workers:
                # Its start is told by the server's clock, which is estimated again and again.
                if one.name == worker.name and abs(one.started_ms - worker.started_ms) < 1000:
                    return one, self.last.at_s - look.at_s
        return None, 0.0


def attention(look: Sample) -> list[str]:
    """What an operator should look into, the worst first."""
    shard, found = look.shard, list[str]()
    waiting = sum(lane.queued for lane in shard.lanes)
    serving = [worker for worker in shard.workers if worker.state != "draining"]
    if waiting and not serving:
        wait = "1 request waits" if waiting == 1 else f"{waiting:,} requests wait"
        found.append(f"{wait} and no worker serves the queue: xuankan worker run")
    if (memory := look.memory) is not None and memory.max_bytes:
        if memory.used_bytes >= _MEMORY_SHARE * memory.max_bytes:
            used = f"{memory.used_bytes / memory.max_bytes:.0%} of maxmemory"
            found.append(f"the server uses {used}: producers hold requests back")
        if memory.evicts:
            found.append(
                f"maxmemory-policy {memory.policy} deletes requests and rankings: see xuankan doctor"
            )
    for what, values in (
        ("releases", {worker.release for worker in serving}),
        ("catalogues", {worker.catalogue for worker in serving}),
        ("tokenizers", {worker.template for worker in serving}),
    ):
        if len(values) > 1:
            found.append(f"workers serve {len(values)} {what}: {', '.join(sorted(values))}")
    if shard.dead:
        letters = "1 dead letter" if shard.dead == 1 else f"{shard.dead:,} dead letters"
        found.append(f"{letters}: xuankan dead list")
    return found


def _length(shard: ShardStatus, lane: Lane) -> int:
    return sum(one.queued + one.running for one in shard.lanes if one.lane == lane)


def _load(look: Sample) -> Load:
    shard = look.shard
    return Load(
        length={lane: _length(shard, lane) for lane in LANES},
        queued={one.lane: one.queued for one in shard.lanes},
        workers=[
            WorkerPace(
                worker.state,
                worker.capacity_rows_per_s,
                worker.waiting_rows,
                worker.requests_done,
                worker.rows_done,
            )
            for worker in shard.workers
        ],
        memory=look.memory,
    )
