"""What `xuankan top` works out of its looks, and how it draws that."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from xuankan.protocol.heartbeat import GpuLoad, WorkerStatus
from xuankan.protocol.keys import Lane
from xuankan.protocol.queue_state import LaneState, Memory, QueueState
from xuankan_worker.operations.top.history import History, Sample, attention
from xuankan_worker.operations.top.view import Frame, draw, spark

GPU = GpuLoad(0, "NVIDIA H200", 0.97, 12 * 2**30, 140 * 2**30, 688.0, 61.0, 1.5e9)


def worker(name: str = "worker-1", **changes: Any) -> WorkerStatus:
    values: dict[str, Any] = {
        "name": name,
        "release": "6cd3081dea140bd3",
        "template": "t",
        "catalogue": "c",
        "engine": "onnx",
        "contexts": 2,
        "started_ms": 1_000_000.0,
        "in_flight": 3,
        "waiting_rows": 120,
        "rows_per_s": 110.0,
    }
    return WorkerStatus(**(values | changes))


def look(
    at_s: float, *workers: WorkerStatus, queued: int = 0, running: int = 0, dead: int = 0, **changes: Any
) -> Sample:
    lanes: dict[Lane, LaneState] = {
        "interactive": LaneState(),
        "bulk": LaneState(queued + running, running),
    }
    values: dict[str, Any] = {"workers": workers, "dead": dead, "now_ms": 1_000_000 + at_s * 1000}
    return Sample(at_s, QueueState(lanes, **(values | changes)))


def history(*looks: Sample) -> History:
    found = History()
    for one in looks:
        found.add(one)
    return found


def drawn(found: History | None, *, width: int = 140, height: int = 1000, away: str = "") -> str:
    console = Console(width=width, no_color=True)
    with console.capture() as captured:
        console.print(draw(Frame("redis://q:6379", "xuankan", "12:00:00", away), found, width, height))
    return captured.get()


def test_pace_is_of_the_last_ten_seconds() -> None:
    totals = [(0, 0, 0, 0, 0), (10, 1000, 100, 9000, 1000), (30, 3000, 225, 27000, 1000)]
    looks = [
        look(
            at_s,
            worker(requests_done=n, rows_done=rows, batches_done=b, tokens_done=real, padding_tokens=pad),
        )
        for at_s, (n, rows, b, real, pad) in zip((0.0, 10.0, 20.0), totals, strict=True)
    ]
    workers = looks[-1].state.workers
    assert workers is not None
    pace = history(*looks).pace(workers[0])
    assert (pace.requests_per_s, pace.batch_rows, pace.padding) == (2.0, 16.0, 0.0)


def test_a_worker_seen_once_tells_of_all_that_it_did() -> None:
    one = worker(requests_done=5, rows_done=100, batches_done=10, tokens_done=900, padding_tokens=100)
    pace = history(look(0, one)).pace(one)
    assert (pace.requests_per_s, pace.batch_rows, pace.padding) == (0.0, 10.0, 0.1)


def test_a_worker_that_was_started_anew_is_not_compared_with_what_it_was() -> None:
    before = worker(requests_done=500, rows_done=5000, batches_done=500)
    after = worker(requests_done=1, rows_done=8, batches_done=1, started_ms=1_008_000.0)
    pace = history(look(0, before), look(10, after)).pace(after)
    assert (pace.requests_per_s, pace.batch_rows) == (0.0, 8.0)


def test_arrivals_are_what_was_done_and_what_came_to_lie() -> None:
    found = history(
        look(0, worker(requests_done=0), queued=100, running=5),
        look(10, worker(requests_done=50), queued=120, running=15),
    )
    assert found.arrivals_per_s() == 8.0
    assert found.requests_per_s() == 5.0
    assert history(look(0)).arrivals_per_s() is None


def test_the_wait_is_the_one_that_producers_foresee() -> None:
    busy = worker(capacity_rows_per_s=100.0, requests_done=10, rows_done=500, waiting_rows=200)
    found = history(look(0, busy, queued=10))
    assert found.wait_s("bulk") == pytest.approx((10 * 50 + 200) / 100)
    assert found.wait_s("interactive") == pytest.approx(2.0)
    assert history(look(0, worker(), queued=10)).wait_s("bulk") is None  # none was measured yet


def test_the_backlog_keeps_the_latest() -> None:
    found = History(drawn=3)
    for at_s in range(5):
        found.add(look(at_s, queued=at_s))
    lane: Lane = "bulk"
    assert found.backlog(lane) == (2, 3, 4)


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (look(0, queued=7), "7 requests wait and no worker serves the queue"),
        (look(0, worker(state="draining"), queued=7), "no worker serves the queue"),
        (look(0, dead=1), "1 dead letter: xuankan dead list"),
        (look(0, dead=1200), "1,200 dead letters"),
        (look(0, worker(), worker("b", release="other")), "2 releases: 6cd3081dea140bd3, other"),
        (look(0, worker(), worker("b", catalogue="d")), "2 catalogues: c, d"),
        (look(0, memory=Memory(90, 100, "noeviction")), "90% of maxmemory"),
        (look(0, memory=Memory(10, 100, "allkeys-lru")), "allkeys-lru deletes requests"),
    ],
)
def test_attention_names_what_is_wrong(seen: Sample, words: str) -> None:
    (note,) = attention(seen)
    assert words in note
    assert note in " ".join(drawn(history(seen)).split())


def test_nothing_wants_attention_where_all_is_well() -> None:
    well = look(0, worker(), worker("b"), worker("c", state="draining", release="old"), queued=3)
    assert attention(well) == []


def test_the_picture_shows_workers_lanes_batches_and_gpus() -> None:
    one = worker(
        gpu=GPU, rows_done=960, batches_done=80, tokens_done=900, padding_tokens=100, busy_contexts=1
    )
    picture = drawn(history(look(65, one, queued=1234, running=12)))
    for words in (
        *("redis://q:6379", "1 worker", "12:00:00", "1,234", "worker-1", "running", "onnx ×2", "6cd3081d"),
        *("1/2", "110", "12.0", "10.0%", "1 min 05 s", "NVIDIA H200", "97%", "12.0 GiB of 140.0 GiB"),
        *("688 W", "61 °C"),
    ):
        assert words in picture
    assert "no live worker" in drawn(history(look(0)))


def test_what_the_driver_does_not_tell_is_left_open() -> None:
    part = GpuLoad(0, "NVIDIA H200 MIG", None, 2**30, 2**34, None, None, None)
    line = next(text for text in drawn(history(look(0, worker(gpu=part)))).splitlines() if "MIG" in text)
    assert line.count("–") == 3


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_a_narrow_terminal_loses_columns_and_not_the_names(width: int) -> None:
    picture = drawn(history(look(0, worker("gpu-host-17:0"), worker("gpu-host-18:1"))), width=width)
    assert max(map(len, picture.splitlines())) <= width
    for words in ("gpu-host-17:0", "gpu-host-18:1", "running", "rows/s", "batch"):
        assert words in picture


def test_a_low_terminal_says_how_many_workers_it_leaves_out() -> None:
    many = [worker(f"worker-{number}", gpu=GPU if number < 2 else None) for number in range(40)]
    picture = drawn(history(look(0, *many, dead=2)), height=30)
    assert len(picture.rstrip().splitlines()) <= 30
    assert "worker-0 " in picture
    shown = sum(f"worker-{number} " in picture.split("GPU of")[0] for number in range(40))
    assert f"and {40 - shown} workers more" in picture


def test_a_server_that_is_away_is_said_above_what_was_seen_last() -> None:
    picture = drawn(history(look(0, worker(), queued=55)), away="it has not answered for 4 s")
    assert picture.index("not answered") < picture.index("55")
    assert "not answered" in drawn(None, away="it has not answered for 4 s")


def test_names_are_shown_as_they_are() -> None:
    assert "[bold]x" in drawn(history(look(0, worker("[bold]x"))))


def test_sparks_show_the_latest_against_the_highest() -> None:
    assert spark([0, 0, 0], 5) == "▁▁▁"
    assert spark([9, 1, 4, 8], 3) == "▁▄█"
    assert spark([1, 10_000], 5) == "▁█"
    assert spark([], 5) == ""
