"""`xuankan bench cpu` with the shipped release, on a few real papers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from xuankan_worker.cli.bench import bench

PAPERS = Path(__file__).parents[1] / "data" / "papers.parquet"


@pytest.mark.parametrize("as_json", [True, False])
def test_an_encoder_is_measured_in_manuscripts(*, as_json: bool) -> None:
    arguments = ["cpu", "--papers", str(PAPERS), "--manuscripts", "3", "--rounds", "2"]
    outcome = CliRunner().invoke(bench, [*arguments, *["--json"][: int(as_json)]], catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    if not as_json:
        assert "manuscripts/s through the queue: median" in outcome.stdout
        return
    result = json.loads(outcome.stdout)
    assert (result["manuscripts"], len(result["per_s"]), len(result["latency_s"])) == (3, 2, 3)
    assert 0 < result["usage"]["engine_s"] <= result["usage"]["process_s"]
    assert 0 < result["own_cost_share"] < 1
