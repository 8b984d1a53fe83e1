"""The short version of `make chaos`, and what it rests on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from tests.chaos.driver import Run
from tests.chaos.plan import CLOCK_FAULTS, Plan, draw
from tests.chaos.world import expected
from tests.support.clocks import settable


def test_a_plan_can_be_drawn_again_and_read_from_its_log() -> None:
    plan = draw(7, 500)
    assert draw(7, 500) == plan
    assert draw(8, 500) != plan
    assert Plan.read([*plan.lines(), json.dumps({"did": "something", "at": 3})]) == plan


def test_manuscripts_have_rankings_of_their_own() -> None:
    assert len({expected(text) for text in range(50)}) == 50


@pytest.mark.timeout(180)
async def test_whatever_dies_every_request_ends_once_and_rightly(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = await Run(draw(1, 300), "valkey", tmp_path).run()
    with capsys.disabled():
        if not report.good:
            report.show(Console())
    assert not report.findings.wrong
    possible = {fault.kind for fault in report.plan.faults}
    assert set(report.faults) == (possible if settable(tmp_path) else possible - set(CLOCK_FAULTS))
    assert report.findings.outcomes["ok"] > 200
