"""`xuankan model evaluate` with the shipped model, on a few real papers."""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyarrow ships no types.
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from xuankan.errors import InputError
from xuankan_worker.cli.model import model
from xuankan_worker.releases.evaluate import evaluate
from xuankan_worker.releases.labelled import Labelled, read_labelled

DATA = Path(__file__).parents[1] / "data"
PAPERS = DATA / "papers.parquet"
OUTSIDE = DATA / "outside.json"
"""Papers of economics, from arXiv."""


def silent(_what: str, _part: float) -> None:
    """No progress."""


def run(*arguments: str) -> dict[str, Any]:
    outcome = CliRunner().invoke(model, ["evaluate", *arguments, "--json"], catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    return json.loads(outcome.stdout)


def test_evaluate_prints_one_json_object() -> None:
    result = run("--papers", str(PAPERS), "--split", "test", "--limit", "4", "--candidates", "5")
    whole = result["splits"]["test"]["whole"]
    assert whole["ranked"]["papers"] == 4
    assert result["candidates"] == 5
    assert result["ms"] > 0
    ranked = whole["ranked"]
    assert 0 <= ranked["top1"] <= ranked["mrr"] <= ranked["recall"]
    assert ranked["recall"] == whole["first_stage"]["recall"]
    low, high = whole["intervals"]["mrr"]
    assert low <= ranked["mrr"] <= high
    assert sum(part["papers"] for part in result["splits"]["test"]["reliability"]) == 4


def test_evaluate_prints_tables_for_people_and_draws(tmp_path: Path) -> None:
    arguments = ["evaluate", "--papers", str(PAPERS), "--split", "test", "--split", "dev", "--limit", "6"]
    diagram = tmp_path / "reliability.svg"
    outcome = CliRunner().invoke(model, [*arguments, "--diagram", str(diagram)], catch_exceptions=False)
    for word in (
        "first stage",
        "ranked",
        "top-10",
        "MRR",
        "95 %",
        "recall",
        "calibration error",
        "ms a paper",
    ):
        assert word in outcome.stdout
    assert "dev: error" in diagram.read_text()


def test_an_interrupted_evaluation_goes_on(tmp_path: Path) -> None:
    arguments = ["--papers", str(PAPERS), "--split", "test", "--limit", "3", "--keep", str(tmp_path / "kept")]
    first = run(*arguments)
    lines = (tmp_path / "kept").read_text().splitlines()
    assert len(lines) == 4
    number, _, *rest = json.loads(lines[3])
    (tmp_path / "kept").write_text("\n".join([*lines[:3], json.dumps([number, 77, *rest])]) + "\n")
    again = run(*arguments)  # ranks nothing: it believes the file
    assert again["ms"] == 0
    assert again["splits"] != first["splits"]
    (tmp_path / "kept").write_text("\n".join(lines[:2]) + "\n")
    assert run(*arguments)["splits"] == first["splits"]


def test_papers_of_other_fields_are_told_from_the_catalogue_s(tmp_path: Path) -> None:
    others = json.loads(OUTSIDE.read_text())
    columns = {name: [paper[name] for paper in others] for name in ("title", "abstract")}
    pq.write_table(pa.table(columns), tmp_path / "o.parquet")
    arguments = ("--papers", str(PAPERS), "--split", "test", "--limit", "30")
    found = run(*arguments, "--outside", str(tmp_path / "o.parquet"))["splits"]["test"]["fit"]
    assert found["outside"] == len(others)
    assert found["auroc"] > 0.9
    assert found["few_inside"] <= 0.15
    assert found["few_outside"] == 1


def test_papers_of_unknown_journals_are_counted_and_left_out() -> None:
    some = read_labelled(PAPERS, (), 2, 0)
    one = Labelled(["x"], ["y"], ["Journal of Nothing"], [""], [""])
    mixed = Labelled(*(getattr(some, name) + getattr(one, name) for name in Labelled.__slots__))
    result = evaluate(mixed, None, "onnx", 2, silent)
    assert result.unknown_journals == 1
    assert len(result.placed) == 2
    assert np.all([0 <= placed.rank <= 2 for placed in result.placed])


def test_papers_of_unknown_journals_alone_are_an_error() -> None:
    with pytest.raises(InputError, match="Journal of Nothing"):
        evaluate(Labelled(["x"], ["y"], ["Journal of Nothing"], [""], [""]), None, "onnx", 2, silent)
