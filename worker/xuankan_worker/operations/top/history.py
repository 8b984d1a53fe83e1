"""What changed between looks at a shard: rates, waits, and what wants an operator's attention. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from xuankan.protocol.heartbeat import WorkerStatus
from xuankan.protocol.keys import LANES, Lane
from xuankan.protocol.queue_state import QueueState

WINDOW_S: Final = 10.0
"""Rates are over so long."""
_MEMORY_SHARE: Final = 0.8
"""Of the server's memory; producers begin to hold back there (`pressure.Limits`)."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The shard at one moment.

    Attributes:
        at_s: monotonic.
        state: its workers, lanes and dead letters, and the server's memory.
    """

    at_s: float
    state: QueueState


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
        for lane in LANES:
            self._backlog[lane].append(look.state.queued(lane))

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
        return sum(self.pace(worker).requests_per_s for worker in self.last.state.workers or ())

    def arrivals_per_s(self) -> float | None:
        """Requests that came, as far as the backlog and the work done tell; None after one look."""
        first, last = self._looks[0], self.last
        if (seconds := last.at_s - first.at_s) <= 0:
            return None
        grown = sum(last.state.length(lane) - first.state.length(lane) for lane in LANES)
        return max(0.0, self.requests_per_s() + grown / seconds)

    def wait_s(self, lane: Lane) -> float | None:
        """Until a request that comes now gets its turn, as producers foresee it; None if not known."""
        return self.last.state.expected_wait_s(lane)

    def _before(self, worker: WorkerStatus) -> tuple[WorkerStatus | None, float]:
        """The same run of a worker at the earliest look that has it, and how long ago that was."""
        for look in list(self._looks)[:-1]:
            for one in look.state.workers or ():
                # Its start is told by the server's clock, which is estimated anew all the time.
                if one.name == worker.name and abs(one.started_ms - worker.started_ms) < 1000:
                    return one, self.last.at_s - look.at_s
        return None, 0.0


def attention(look: Sample) -> list[str]:
    """What an operator should look into, the worst first."""
    state, found = look.state, list[str]()
    waiting, serving = state.waiting, state.serving
    if waiting and state.workers is not None and not serving:
        wait = "1 request waits" if waiting == 1 else f"{waiting:,} requests wait"
        found.append(f"{wait} and no worker serves the queue: xuankan worker run")
    if (memory := state.memory) is not None and memory.max_bytes:
        if memory.used_bytes >= _MEMORY_SHARE * memory.max_bytes:
            used = f"{memory.used_bytes / memory.max_bytes:.0%} of maxmemory"
            found.append(f"the server uses {used}: producers hold requests back")
        if memory.evicts:
            found.append(
                f"maxmemory-policy {memory.policy} deletes requests and rankings: see xuankan doctor"
            )
    for what, values in (
        ("releases", {worker.release for worker in serving if worker.release}),
        ("catalogues", {worker.catalogue for worker in serving if worker.catalogue}),
        ("tokenizers", {worker.template for worker in serving if worker.template}),
    ):
        if len(values) > 1:
            found.append(f"workers serve {len(values)} {what}: {', '.join(sorted(values))}")
    if state.dead:
        letters = "1 dead letter" if state.dead == 1 else f"{state.dead:,} dead letters"
        found.append(f"{letters}: xuankan dead list")
    return found
