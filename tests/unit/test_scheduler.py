from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.support.scheduling import job
from tests.support.world import request
from xuankan_worker.in_flight import InFlight
from xuankan_worker.scheduling.batcher import Batch, BatchLimits
from xuankan_worker.scheduling.scheduler import LaneLoad, Scheduler

IDLE = LaneLoad(0, 0.0, 1)


def run(
    scheduler: Scheduler, fails: Callable[[Batch[InFlight]], bool]
) -> tuple[list[InFlight], list[InFlight], int]:
    """Run everything; returns the jobs done, those given up, and how many batches it took."""
    done: list[InFlight] = []
    given_up: list[InFlight] = []
    batches = 0
    while (taken := scheduler.next([IDLE])) is not None:
        context, batch = taken
        batches += 1
        if fails(batch):
            given_up += scheduler.failed(batch, context, 1)
        else:
            ended, broken = scheduler.scored(batch, np.ones(batch.rows, dtype=np.float32), 1.0, 2.0)
            done += ended
            given_up += broken
    return done, given_up, batches


def take(scheduler: Scheduler) -> Batch[InFlight]:
    taken = scheduler.next([IDLE])
    assert taken is not None
    return taken[1]


def waiting(scheduler: Scheduler) -> int:
    return scheduler.waiting_rows("interactive") + scheduler.waiting_rows("bulk")


def scheduler_with(*jobs: InFlight) -> Scheduler:
    scheduler = Scheduler(BatchLimits(buckets=(352,), max_rows=16))
    for one in jobs:
        scheduler.add(one)
    return scheduler


def test_a_row_that_breaks_its_batch_fails_only_its_own_request() -> None:
    jobs = [job(request(candidates=range(4))) for _ in range(8)]
    bad = jobs[5]

    def fails(batch: Batch[InFlight]) -> bool:
        return any(part.request is bad and 2 in part.rows for part in batch.slices)

    scheduler = scheduler_with(*jobs)
    done, given_up, batches = run(scheduler, fails)
    assert given_up == [bad]
    assert set(done) == set(jobs) - {bad}
    assert batches <= 2 + 2 * 4 + 1  # two batches, the halvings of one, and one more try of the row
    assert waiting(scheduler) == 0
    assert not scheduler.jobs


def test_a_fault_that_passes_costs_no_request() -> None:
    jobs = [job(request(candidates=range(6))), job(request(candidates=[1]))]
    faults = iter([True] * 2)
    done, given_up, _ = run(scheduler_with(*jobs), lambda _: next(faults, False))
    assert given_up == []
    assert set(done) == set(jobs)


def test_a_single_row_is_tried_once_more() -> None:
    single = job(request(candidates=[1]))
    assert run(scheduler_with(single), lambda _: True) == ([], [single], 2)


def test_a_score_that_is_no_number_fails_its_request_only() -> None:
    bad, good = job(request(candidates=range(4))), job(request(candidates=range(4)))
    scheduler = scheduler_with(bad, good)
    batch = take(scheduler)
    scores = np.ones(8, dtype=np.float32)
    scores[1] = np.inf
    assert scheduler.scored(batch, scores, 1.0, 2.0) == ([good], [bad])


def test_times_and_scores_of_a_job_come_from_all_its_batches() -> None:
    one = job(request(candidates=range(40)))
    scheduler = scheduler_with(one)
    start = 10.0
    while (taken := scheduler.next([IDLE])) is not None:
        _, batch = taken
        rows = batch.slices[0].rows
        scheduler.scored(batch, rows.astype(np.float32), start, start + 1)
        start += 5
    assert (one.started_s, one.ended_s, one.remaining) == (10.0, 21.0, 0)
    assert one.scores.tolist() == list(range(40))


def test_a_dropped_job_gets_no_more_batches_and_its_running_rows_are_ignored() -> None:
    one, other = job(request(candidates=range(30))), job(request(candidates=range(2)))
    scheduler = scheduler_with(one, other)
    running = take(scheduler)
    scheduler.drop(one)
    assert scheduler.scored(running, np.ones(running.rows, dtype=np.float32), 1.0, 2.0) == ([], [])
    done, given_up, batches = run(scheduler, lambda _: False)
    assert (done, given_up, batches) == ([other], [], 1)


def test_halves_of_a_batch_of_dropped_jobs_are_not_run() -> None:
    one = job(request(candidates=range(8)))
    scheduler = scheduler_with(one)
    scheduler.failed(take(scheduler), 0, 1)
    scheduler.drop(one)
    assert scheduler.next([IDLE]) is None
    assert waiting(scheduler) == 0


def test_jobs_expire_at_their_deadline() -> None:
    early = job(request(candidates=range(2), deadline_ms=1000))
    late = job(request(candidates=range(2), deadline_ms=2000))
    never = job(request(candidates=range(2)))
    scheduler = scheduler_with(late, early, never)
    assert scheduler.expired(0.999) == []
    assert scheduler.expired(1.0) == [early]
    done, _, _ = run(scheduler, lambda _: False)
    assert set(done) == {late, never}
    assert scheduler.expired(5.0) == []


def owners(batch: Batch[InFlight]) -> set[InFlight]:
    return {part.request for part in batch.slices}


def test_a_suspect_shares_no_batch_and_no_time_with_others() -> None:
    fresh, suspect = job(request(candidates=range(20))), job(request(candidates=range(20)), deliveries=3)
    scheduler = scheduler_with(suspect, fresh)
    assert owners(take(scheduler)) == {fresh}
    scheduler.quarantine = True
    assert owners(take(scheduler)) == {suspect}
    assert owners(take(scheduler)) == {suspect}
    assert scheduler.next([IDLE]) is None  # the rest of the fresh one waits
    assert waiting(scheduler) == 4
    scheduler.quarantine = False
    assert owners(take(scheduler)) == {fresh}
    assert scheduler.next([IDLE]) is None


def test_what_failed_is_tried_again_on_its_own_side_of_the_quarantine() -> None:
    fresh, suspect = job(request(candidates=range(4))), job(request(candidates=range(4)), deliveries=3)
    scheduler = scheduler_with(suspect, fresh)
    scheduler.failed(take(scheduler), 0, 1)
    scheduler.quarantine = True
    scheduler.failed(take(scheduler), 0, 1)
    for quarantine, one in ((True, suspect), (False, fresh)):
        scheduler.quarantine = quarantine
        done, given_up, batches = run(scheduler, lambda _: False)
        assert (done, given_up, batches) == ([one], [], 2)


def test_a_dropped_suspect_is_forgotten() -> None:
    suspect = job(request(candidates=range(4)), deliveries=3)
    scheduler = scheduler_with(suspect)
    scheduler.quarantine = True
    scheduler.drop(suspect)
    assert scheduler.next([IDLE]) is None
    assert waiting(scheduler) == 0
