"""The rules of deploy/prometheus: read by Prometheus' own tool, on metrics that exist, each with its page."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.support.metric_names import PROMETHEUS, known, named
from tests.support.programs import need

_RULES = (PROMETHEUS / "rules.yml").read_text()
_CASES = (PROMETHEUS / "alerts_test.yml").read_text()
_RUNBOOKS = Path(__file__).parents[2] / "docs" / "runbooks"
ALERTS = re.findall(r"- alert: (\S+)", _RULES)


def promtool(*arguments: str) -> str:
    done = subprocess.run(
        [need("promtool"), *arguments], cwd=PROMETHEUS, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prometheus_reads_its_configuration_and_the_rules() -> None:
    assert f"{len(ALERTS)} rules found" in promtool("check", "config", "prometheus.yml")


@pytest.mark.timeout(300)  # 6 s of processor time, on a busy host many times that
def test_every_alert_fires_when_it_should_and_only_then() -> None:
    promtool("test", "rules", "alerts_test.yml")
    cases = re.findall(r"alertname: (\S+)\n\s+exp_alerts:(.*)", _CASES)
    assert {name for name, _ in cases} == set(ALERTS)
    assert {name for name, expected in cases if not expected.strip()} == set(ALERTS), "fires"
    assert {name for name, expected in cases if expected.strip() == "[]"} == set(ALERTS), "does not fire"


def test_rules_name_metrics_that_exist() -> None:
    expressions = re.findall(r"expr: (?:>-\n)?((?:.*\n)(?: {10}.*\n)*)", _RULES)
    expressions += re.findall(
        r"expr: (?:>-\n)?((?:.*\n)(?: {10}.*\n)*)", (PROMETHEUS / "recording.yml").read_text()
    )
    assert len(expressions) > len(ALERTS)
    used = {name for expression in expressions for name in named(expression)}
    assert used - known() == set()
    assert len(used) > 20


def test_every_alert_has_its_runbook_and_every_runbook_its_alert() -> None:
    pages = {page.stem: page.read_text() for page in _RUNBOOKS.glob("Xuankan*.md")}
    assert set(pages) == set(ALERTS)
    for name, text in pages.items():
        assert f"runbook: docs/runbooks/{name}.md" in _RULES
        for heading in (f"# {name}", "## What it means", "## What to do"):
            assert heading in text, name
        for command in re.findall(r"`xuankan ([a-z]+)", text):
            assert command in (
                "dead",
                "doctor",
                "worker",
                "top",
                "exporter",
                "portal",
                "model",
                "catalogue",
            ), name
