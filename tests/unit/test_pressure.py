"""How full the queue is, and what a producer does about it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xuankan import Limits, Pressure
from xuankan.client.limits import OnFull, decide, judge, longest
from xuankan.errors import InputError
from xuankan.protocol.heartbeat import WorkerStatus
from xuankan.protocol.keys import LANES, Lane
from xuankan.protocol.queue_state import LaneState, Memory, QueueState

GIB = 2**30
BUSY = WorkerStatus(capacity_rows_per_s=100.0, requests_done=10, rows_done=1000)

workers = st.builds(
    WorkerStatus,
    state=st.sampled_from(["starting", "running", "draining"]),
    capacity_rows_per_s=st.floats(0, 1e6),
    waiting_rows=st.integers(0, 10_000),
    requests_done=st.integers(0, 10**9),
    rows_done=st.integers(0, 10**11),
)
memories = st.builds(
    Memory, st.integers(0, 2 * GIB), st.sampled_from([0, GIB]), st.sampled_from(["noeviction", "allkeys-lru"])
)


@st.composite
def states(draw: st.DrawFn) -> QueueState:
    lanes: dict[Lane, LaneState] = {}
    for lane in LANES:
        running = draw(st.integers(0, 100))
        lanes[lane] = LaneState(running + draw(st.integers(0, 10**6)), running)
    return QueueState(
        lanes,
        workers=draw(st.lists(workers, max_size=4)),
        memory=draw(st.none() | memories),
    )


limits = st.builds(
    Limits,
    st.floats(0.1, 1e5),
    st.floats(0.1, 1e5),
    st.integers(1, 10**6),
    st.floats(0.01, 1),
    st.floats(0, 1e4),
)


def load(
    interactive: int = 0, bulk: int = 0, *live: WorkerStatus, memory: Memory | None = None
) -> QueueState:
    return QueueState({"interactive": LaneState(interactive), "bulk": LaneState(bulk)}, live, memory)


def test_the_wait_is_the_rows_ahead_by_what_the_workers_do() -> None:
    # 10 requests of 100 rows, and 50 rows at the workers, at 200 rows a second.
    seen = load(4, 6, replace(BUSY, waiting_rows=50), BUSY)
    assert seen.expected_wait_s("bulk") == pytest.approx((10 * 100 + 50) / 200)
    assert seen.expected_wait_s("interactive") == pytest.approx((4 * 100 + 50) / 200)  # it overtakes bulk
    assert seen.expected_wait_s("bulk", added=10) == pytest.approx((20 * 100 + 50) / 200)


def test_workers_that_were_never_busy_count_as_the_others_and_those_that_leave_not_at_all() -> None:
    fresh = WorkerStatus(state="starting")
    assert load(0, 0, BUSY, fresh).rows_per_s == 200.0
    assert load(0, 0, BUSY, replace(BUSY, state="draining")).rows_per_s == 100.0
    assert load(0, 0, fresh).rows_per_s is None
    assert load(0, 5, fresh).expected_wait_s("bulk") is None
    assert load(0, 0, fresh).expected_wait_s("bulk") == 0


@given(states(), st.sampled_from(LANES), st.integers(0, 1000))
def test_more_work_never_shortens_the_wait_and_more_workers_never_lengthen_it(
    seen: QueueState, lane: Lane, more: int
) -> None:
    wait_s = seen.expected_wait_s(lane)
    longer_s = seen.expected_wait_s(lane, more)
    if wait_s is not None and longer_s is not None:
        assert 0 <= wait_s <= longer_s
    pace = seen.rows_per_s
    if pace is not None and wait_s is not None:
        twin = replace(seen, workers=[*(seen.workers or ()), WorkerStatus(capacity_rows_per_s=pace)])
        shorter_s = twin.expected_wait_s(lane)
        assert shorter_s is not None
        assert shorter_s <= wait_s * (1 + 1e-9)


@given(states(), st.sampled_from(LANES), limits, st.floats(0, 1e5), st.integers(0, 1000))
def test_it_is_full_for_a_reason_that_holds_and_that_says_the_way_out(
    seen: QueueState, lane: Lane, bounds: Limits, unserved_s: float, added: int
) -> None:
    found = judge(seen, lane, bounds, unserved_s, added)
    memory = seen.memory
    full = {
        "memory": memory is not None
        and memory.max_bytes > 0
        and memory.used_bytes >= bounds.memory_share * memory.max_bytes,
        "length": seen.length(lane) + added >= bounds.max_queued,
        "no_workers": not seen.workers and seen.waiting > 0 and unserved_s >= bounds.worker_grace_s,
        "wait": (seen.expected_wait_s(lane, added) or 0) > bounds.wait_s(lane),
    }
    assert (found.reason is None) == (not any(full.values()))
    if found.reason is not None:
        assert full[found.reason]
        error = found.refusal()
        assert (error.lane, error.reason) == (lane, found.reason)
        assert error.expected_wait_s == found.expected_wait_s
        assert any(word in str(error) for word in ("Limits.", "maxmemory", "xuankan worker run"))


@pytest.mark.parametrize("lane", LANES)
def test_an_empty_or_unmeasured_queue_is_never_full(lane: Lane) -> None:
    nobody, fresh = load(), load(0, 50_000, WorkerStatus(state="starting"))
    assert judge(nobody, lane, Limits(), unserved_s=1e6).reason is None  # nothing waits: scaled to none
    assert judge(fresh, lane, Limits(), unserved_s=0).reason is None
    assert judge(load(1, 1), lane, Limits(), unserved_s=59).reason is None  # a restart of the workers
    told = judge(load(1, 1), lane, Limits(), unserved_s=61)
    assert told.reason == "no_workers"
    assert "no worker has been alive for 61 s" in told.message


@given(states(), st.sampled_from(LANES), limits, st.integers(1, 262_144))
def test_the_bound_for_the_server_keeps_to_the_limits(
    seen: QueueState, lane: Lane, bounds: Limits, size: int
) -> None:
    bound = longest(seen, lane, bounds, size)
    assert 1 <= bound <= bounds.max_queued
    assert longest(None, lane, bounds, size) == bounds.max_queued
    memory = seen.memory
    if memory is not None and memory.max_bytes and bound > max(1, seen.length(lane)):
        taken_bytes = memory.used_bytes + len(LANES) * (bound - seen.length(lane)) * 2 * size
        assert taken_bytes <= bounds.memory_share * memory.max_bytes


@pytest.mark.parametrize(
    ("full", "on_full", "left_s", "decision"),
    [
        (False, "wait", None, "ok"),
        (False, "raise", -1.0, "ok"),
        (True, "wait", None, "wait"),
        (True, "wait", 0.5, "wait"),
        (True, "wait", 0.0, "refuse"),
        (True, "raise", None, "refuse"),
    ],
)
def test_the_caller_chooses_between_waiting_and_an_error(
    full: bool, on_full: OnFull, left_s: float | None, decision: str
) -> None:
    assert decide(Pressure("bulk", 9.0, "wait" if full else None), on_full, left_s) == decision


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl", "allkeys-random"])
def test_a_server_that_evicts_is_known(policy: str) -> None:
    assert Memory(1, GIB, policy).evicts
    assert not Memory(1, 0, policy).evicts
    assert not Memory(1, GIB, "noeviction").evicts


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("bulk_wait_s", 0),
        ("interactive_wait_s", math.nan),
        ("max_queued", 0),
        ("memory_share", 1.1),
        ("memory_share", 0),
        ("worker_grace_s", -1),
    ],
)
def test_limits_out_of_range_are_refused_by_name(option: str, value: float) -> None:
    with pytest.raises(InputError, match=option):
        Limits(**{option: value})  # pyright: ignore[reportArgumentType]
