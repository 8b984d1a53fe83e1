"""The dashboards of deploy/grafana: the committed JSON is what the code makes, on metrics that exist."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from tests.support.metric_names import known, named
from tests.support.programs import need

GRAFANA = Path(__file__).parents[2] / "deploy" / "grafana"
NAMES = ("batches", "bulk", "models", "overview", "queue")


def panels(name: str) -> list[dict[str, Any]]:
    board = json.loads((GRAFANA / "dashboards" / f"{name}.json").read_text())
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def expressions(name: str) -> Iterator[str]:
    for panel in panels(name):
        for target in cast(list[dict[str, Any]], panel["targets"]):
            yield target["expr"].replace("$__rate_interval", "5m").replace("$__range", "3h")


def test_the_committed_dashboards_are_those_of_the_code(tmp_path: Path) -> None:
    for source in GRAFANA.glob("*.py"):
        (tmp_path / source.name).write_bytes(source.read_bytes())
    subprocess.run([sys.executable, "dashboards.py"], cwd=tmp_path, check=True)
    made = {page.name: page.read_text() for page in (tmp_path / "dashboards").iterdir()}
    assert set(made) == {f"{name}.json" for name in NAMES}
    for name, text in made.items():
        assert text == (GRAFANA / "dashboards" / name).read_text(), "run deploy/grafana/dashboards.py"


@pytest.mark.parametrize("name", NAMES)
def test_queries_name_metrics_that_exist(name: str) -> None:
    for expression in expressions(name):
        assert named(expression), expression
        assert named(expression) <= known(), expression


def test_every_query_is_one(tmp_path: Path) -> None:
    rules = [
        {"record": f"xuankan:query:{name}{place}", "expr": expression}
        for name in NAMES
        for place, expression in enumerate(expressions(name))
    ]
    file = tmp_path / "queries.yml"
    file.write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}))  # JSON is YAML
    done = subprocess.run(
        [need("promtool"), "check", "rules", file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(rules) > 50


@pytest.mark.parametrize("name", NAMES)
def test_panels_are_whole_and_lie_beside_each_other(name: str) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels(name):
        assert panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${source}"}
        at = panel["gridPos"]
        cells = {(at["x"] + column, at["y"] + row) for column in range(at["w"]) for row in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24, panel["title"]
        taken |= cells
