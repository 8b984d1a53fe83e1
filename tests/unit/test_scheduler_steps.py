"""The scheduler with an encoder: rows of two kinds, requests of two steps."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.scheduling import job
from tests.support.world import request
from xuankan.protocol.keys import LANES, Lane
from xuankan_worker.in_flight import Considered, InFlight
from xuankan_worker.scheduling.batcher import Batch, BatchLimits
from xuankan_worker.scheduling.scheduler import LaneLoad, Scheduler

LIMITS = BatchLimits(buckets=(64, 128, 352), max_rows=8, max_tokens=2048, bulk_every=4)
ENCODER = BatchLimits(buckets=(32, 128, 352), max_rows=4, max_tokens=512)
IDLE = LaneLoad(0, 0.0, 1)


def first_step(lane: Lane = "interactive", length: int = 50, deliveries: int = 1) -> InFlight:
    """A job that begins with its encoder row, and may have up to 20 rows after it."""
    one = job(request(lane=lane, length=length, candidates=range(20)), deliveries)
    one.lengths, one.remaining, one.expected_rows = np.array([length + 2], np.int32), 1, 20
    return one


def considered(rows: int) -> Considered:
    """So many candidates are still in play."""
    return Considered(
        parts=np.zeros((20, 5), np.float32),
        base=np.zeros(20),
        rows=np.arange(rows),
        lengths=np.linspace(40, 300, rows).astype(np.int32),
        evidence=np.full((20, 3), -1, np.int32),
        cosines=np.full((20, 3), np.nan, np.float32),
        fit=None,
    )


def take(scheduler: Scheduler, loads: tuple[LaneLoad, ...] = (IDLE,)) -> Batch[InFlight] | None:
    taken = scheduler.next(loads)
    return None if taken is None else taken[1]


def encode(scheduler: Scheduler, batch: Batch[InFlight], rows: int = 5) -> list[InFlight]:
    return scheduler.encoded(batch, [considered(rows) for _ in batch.slices], 1.0, 2.0)


def test_a_request_goes_on_to_its_rows_when_its_encoder_row_is_run() -> None:
    scheduler, one = Scheduler(LIMITS, ENCODER), first_step()
    scheduler.add(one)
    assert (scheduler.waiting_rows("interactive"), scheduler.expected_rows("interactive")) == (1, 20)
    first = take(scheduler)
    assert first is not None
    assert (first.kind, first.rows, first.bucket) == ("encoder", 1, 128)
    assert take(scheduler) is None
    assert encode(scheduler, first) == []
    assert (scheduler.waiting_rows("interactive"), scheduler.expected_rows("interactive")) == (5, 0)
    done: list[InFlight] = []
    while (batch := take(scheduler)) is not None:
        assert batch.kind == "cross_encoder"
        done += scheduler.scored(batch, np.ones(batch.rows, np.float32), 5.0, 6.0)[0]
    assert done == [one]
    assert (one.scores.tolist(), one.started_s, one.ended_s) == ([1.0] * 5, 1.0, 6.0)
    assert not scheduler.jobs


def test_a_request_without_rows_in_play_is_done_after_its_encoder_row() -> None:
    scheduler, one = Scheduler(LIMITS, ENCODER), first_step()
    scheduler.add(one)
    batch = take(scheduler)
    assert batch is not None
    assert encode(scheduler, batch, rows=0) == [one]
    assert not scheduler.jobs
    assert take(scheduler) is None


def test_encoder_rows_lead_in_their_lane_and_not_before_the_other() -> None:
    scheduler = Scheduler(LIMITS, ENCODER)
    early = first_step()
    scheduler.add(early)
    batch = take(scheduler)
    assert batch is not None
    encode(scheduler, batch)
    late, bulk = first_step(), first_step("bulk")
    scheduler.add(bulk)
    batch = take(scheduler)
    assert batch is not None
    assert batch.kind == "cross_encoder"  # interactive rows before an encoder row of bulk
    scheduler.add(late)
    batch = take(scheduler)
    assert batch is not None
    # The encoder row of the lane first, and bulk's fills its batch up.
    assert (batch.kind, [part.request for part in batch.slices]) == ("encoder", [late, bulk])


def test_an_encoder_row_is_taken_ahead_though_its_batch_is_not_whole() -> None:
    scheduler = Scheduler(LIMITS, ENCODER)
    scheduler.add(first_step())
    busy = (LaneLoad(1, 4000.0, 1), LaneLoad(1, 4000.0, 1))
    batch = take(scheduler, busy)
    assert batch is not None
    encode(scheduler, batch)
    assert take(scheduler, busy) is None  # while five rows wait until more come, or a context idles


def test_an_encoder_row_that_fails_alone_fails_its_request_only() -> None:
    scheduler = Scheduler(LIMITS, ENCODER)
    jobs = [first_step() for _ in range(4)]
    for one in jobs:
        scheduler.add(one)
    given_up: list[InFlight] = []
    done: list[InFlight] = []
    while (batch := take(scheduler)) is not None:
        if batch.kind == "encoder" and any(part.request is jobs[2] for part in batch.slices):
            given_up += scheduler.failed(batch, 0, 1)
        elif batch.kind == "encoder":
            done += encode(scheduler, batch)
        else:
            done += scheduler.scored(batch, np.ones(batch.rows, np.float32), 1.0, 2.0)[0]
    assert given_up == [jobs[2]]
    assert set(done) == set(jobs) - {jobs[2]}
    assert scheduler.expected_rows("interactive") == 0


def test_suspects_run_alone_in_both_steps() -> None:
    scheduler = Scheduler(LIMITS, ENCODER)
    suspect, other = first_step(deliveries=3), first_step()
    scheduler.add(suspect)
    scheduler.add(other)
    scheduler.quarantine = True
    for _ in range(2):
        batch = take(scheduler)
        assert batch is not None
        assert {part.request for part in batch.slices} == {suspect}
        if batch.kind == "encoder":
            encode(scheduler, batch, rows=2)
    scheduler.quarantine = False
    batch = take(scheduler)
    assert batch is not None
    assert {part.request for part in batch.slices} == {other}


@dataclass
class Model:
    """What must hold of a scheduler, whatever happens."""

    encoder: set[InFlight] = field(default_factory=set[InFlight])
    rows: dict[InFlight, set[int]] = field(default_factory=dict[InFlight, set[int]])
    over: set[InFlight] = field(default_factory=set[InFlight])

    def waiting(self, lane: Lane) -> int:
        known = {*self.encoder} | self.rows.keys()
        return sum(
            (one in self.encoder) + len(self.rows.get(one, ())) for one in known if one.entry.key.lane == lane
        )


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "add", "take", "take", "take", "end", "end", "fail", "drop"]),
        st.integers(0, 1000),
    ),
    max_size=60,
)


@settings(max_examples=150)
@given(STEPS)
def test_nothing_is_lost_run_twice_or_idle_in_any_order_of_events(steps: list[tuple[str, int]]) -> None:
    scheduler, model = Scheduler(LIMITS, ENCODER), Model()
    running: list[Batch[InFlight]] = []
    jobs: list[InFlight] = []
    done: set[InFlight] = set()

    def run(batch: Batch[InFlight], rows: int) -> None:
        if batch.kind == "encoder":
            alive = [part.request for part in batch.slices if part.request not in model.over]
            ended = encode(scheduler, batch, rows)
            assert set(ended) == (set() if rows else set(alive))
            model.rows.update({one: set(range(rows)) for one in alive if rows})
        else:
            ended, broken = scheduler.scored(batch, np.ones(batch.rows, np.float32), 1.0, 2.0)
            assert not broken
        for one in ended:
            assert one not in done
            assert one.remaining == 0
            done.add(one)
            model.over.add(one)
            model.rows.pop(one, None)

    def form() -> None:
        batch = take(scheduler)
        if batch is None:
            # An idle context gets something as long as anything waits.
            assert not any(model.waiting(lane) for lane in LANES)
            return
        limits = ENCODER if batch.kind == "encoder" else LIMITS
        assert batch.rows <= limits.max_rows
        assert batch.tokens <= max(limits.max_tokens, batch.bucket)
        for part in batch.slices:
            if part.request in model.over:
                continue
            if batch.kind == "encoder":
                model.encoder.remove(part.request)  # fails on what never waited or came out before
            else:
                model.rows[part.request] -= set(part.rows.tolist())
        running.append(batch)

    for kind, value in steps:
        if kind == "add":
            one = first_step(LANES[value % 2], 5 + value % 200)
            jobs.append(one)
            model.encoder.add(one)
            scheduler.add(one)
        elif kind == "take":
            form()
        elif kind == "end" and running:
            run(running.pop(value % len(running)), value % 12)
        elif kind == "fail" and running:
            batch = running.pop(value % len(running))
            if batch.rows == 1 and batch.attempts:
                running.append(batch)  # it would be given up: `test_whatever_fails_fails_alone` has that
                continue
            scheduler.failed(batch, 0, 1)
            for part in batch.slices:
                if part.request not in model.over and batch.kind == "encoder":
                    model.encoder.add(part.request)
                elif part.request not in model.over:
                    model.rows[part.request] |= set(part.rows.tolist())
        elif kind == "drop" and (alive := [one for one in jobs if one not in model.over]):
            one = alive[value % len(alive)]
            scheduler.drop(one)
            model.over.add(one)
            model.encoder.discard(one)
            model.rows.pop(one, None)
        assert scheduler.jobs == set(jobs) - model.over
    while running or any(model.waiting(lane) for lane in LANES):
        if running:
            run(running.pop(), 3)
        else:
            form()
    assert done <= model.over
    assert model.over == set(jobs)
    assert not scheduler.jobs
    assert [scheduler.expected_rows(lane) for lane in LANES] == [0, 0]
