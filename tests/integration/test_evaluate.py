"""`xuankan model evaluate` with the shipped model, on a few real papers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from xuankan.errors import InputError
from xuankan_worker.cli.model import model
from xuankan_worker.releases.evaluate import Labelled, evaluate, read_labelled

PAPERS = Path(__file__).parents[1] / "data" / "papers.parquet"


def silent(_what: str, _part: float) -> None:
    """No progress."""


def test_evaluate_prints_one_json_object() -> None:
    arguments = ["evaluate", "--papers", str(PAPERS), "--split", "test", "--limit", "4", "--candidates", "5"]
    outcome = CliRunner().invoke(model, [*arguments, "--json"], catch_exceptions=False)
    assert outcome.exit_code == 0
    result = json.loads(outcome.stdout)
    assert result["fused"]["papers"] == 4
    assert result["candidates"] == 5
    assert result["manuscripts_per_s"] > 0
    assert 0 <= result["fused"]["top1"] <= result["fused"]["mrr"] <= result["fused"]["recall"]
    assert result["fused"]["recall"] == result["first_stage"]["recall"]


def test_evaluate_prints_a_table_for_people() -> None:
    arguments = ["evaluate", "--papers", str(PAPERS), "--limit", "2", "--candidates", "3"]
    outcome = CliRunner().invoke(model, arguments, catch_exceptions=False)
    for word in ("first stage", "fused", "top-10", "MRR", "recall", "manuscripts/s"):
        assert word in outcome.stdout


def test_papers_of_unknown_journals_are_counted_and_left_out() -> None:
    some = read_labelled(PAPERS, None, 2, 0)
    mixed = Labelled([*some.title, "x"], [*some.abstract, "y"], [*some.journal, "Journal of Nothing"])
    result = evaluate(mixed, None, "onnx", 2, silent)
    assert result.unknown_journals == 1
    assert result.fused.papers == 2


def test_papers_of_unknown_journals_alone_are_an_error() -> None:
    with pytest.raises(InputError, match="Journal of Nothing"):
        evaluate(Labelled(["x"], ["y"], ["Journal of Nothing"]), None, "onnx", 2, silent)
