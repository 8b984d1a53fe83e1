"""What `xuankan rerank` shows while it runs."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from xuankan.backlog.job import JobProgress
from xuankan.cli import job_progress as watched
from xuankan.cli.job_progress import Watched


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(watched.time, "monotonic", lambda: now[0])
    return now


def test_a_log_gets_a_line_now_and_then_with_pace_time_left_and_failures(clock: list[float]) -> None:
    text = io.StringIO()
    with Watched(Console(file=text, width=200)) as shown:
        for second in range(121):
            clock[0] = 1000.0 + second
            shown.show(JobProgress(rows=50 * second, bad=second // 100), 12_000)
        shown.show(JobProgress(rows=12_000, bad=3), 12_000)
    lines = text.getvalue().splitlines()
    assert [line.split("  ")[0] for line in lines] == [
        f"{rows:,} of 12,000" for rows in (0, 1500, 3000, 4500, 6000, 12_000)
    ]
    assert lines[2].endswith("50.0 a second, 3 min left")
    assert "1 without a ranking" in lines[4]
    assert (shown.rows, shown.total) == (12_000, 12_000)


def test_a_terminal_gets_a_bar(clock: list[float]) -> None:
    text = io.StringIO()
    with Watched(Console(file=text, width=120, force_terminal=True, force_interactive=True)) as shown:
        shown.show(JobProgress(rows=1000), 4000)
        clock[0] += 10
        shown.show(JobProgress(rows=2000, bad=7), 4000)
    last = text.getvalue()
    for part in ("2,000 of 4,000", "50%", "100.0 a second, 20 s left, 7 without a ranking"):
        assert part in last


def test_a_job_that_goes_on_is_not_counted_from_its_beginning(clock: list[float]) -> None:
    text = io.StringIO()
    with Watched(Console(file=text, width=200)) as shown:
        shown.show(JobProgress(rows=90_000), 100_000)
        clock[0] += 40
        shown.show(JobProgress(rows=90_400), 100_000)
    assert text.getvalue().splitlines()[1].endswith("10.0 a second, 16 min left")
