"""What a worker counts and measures, on a real server; and a real Prometheus that scrapes it and alerts."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import subprocess
import time
import urllib.request
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import yaml

from tests.support.engine import ScriptedEngine
from tests.support.metric_names import PROMETHEUS, families, recorded, series
from tests.support.programs import need
from tests.support.scrape import OPENMETRICS, exporting, fetch, values
from tests.support.server import free_port
from tests.support.world import Queue, eventually, request, running
from xuankan_worker.worker import Worker

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SAMPLED, UNSAMPLED = f"00-{TRACE}-00f067aa0ba902b7-01", f"00-{TRACE}-00f067aa0ba902b7-00"
POISON = 2999


async def settled(worker: Worker, queue: Queue) -> bool:
    return await queue.is_empty() and worker.status().in_flight == 0


async def test_outcomes_are_counted_by_lane_status_and_code(server_url: str, queue: Queue) -> None:
    engine = ScriptedEngine(poison=POISON)
    async with running(server_url, engine, metrics_port=0) as worker:
        before = await values(worker.metrics_port)
        await queue.push(
            *(request(lane="bulk") for _ in range(3)),
            request(catalogue="another"),
            request(tokens=[POISON], candidates=[1]),
            request(lane="bulk", deadline_ms=1),
        )
        await queue.push_raw(b"garbage", None)
        await eventually(lambda: settled(worker, queue))
        found = await values(worker.metrics_port)
    name = "xuankan_requests_ended_total"
    assert before[f"{name}{{code=engine_error,lane=bulk,status=failed}}"] == 0  # so that a first one shows
    assert {sample: value for sample, value in found.items() if sample.startswith(name) and value} == {
        f"{name}{{code=,lane=bulk,status=ok}}": 3,
        f"{name}{{code=catalogue_mismatch,lane=interactive,status=invalid}}": 1,
        f"{name}{{code=engine_error,lane=interactive,status=failed}}": 1,
        f"{name}{{code=deadline_exceeded,lane=bulk,status=expired}}": 1,
    }
    assert found["xuankan_dead_entries_total{code=engine_error}"] == 1
    assert found["xuankan_dead_entries_total{code=undecodable}"] == 1
    assert found["xuankan_request_seconds_count{lane=bulk}"] == 3
    assert found["xuankan_top_score_count"] == 3
    assert found["xuankan_batch_failures_total"] >= 2
    assert found["xuankan_dispatches_total{reason=retry}"] >= 1
    reasons = ("full", "shared", "drained", "retry")
    dispatched = sum(found[f"xuankan_dispatches_total{{reason={reason}}}"] for reason in reasons)
    ran = sum(value for sample, value in found.items() if sample.startswith("xuankan_batches_total"))
    assert dispatched == ran + found["xuankan_batch_failures_total"]
    assert found["xuankan_contexts"] == 2
    assert 0 < found["xuankan_assembly_seconds_total"] < 5


async def test_slack_is_what_was_left_of_a_deadline(server_url: str, queue: Queue) -> None:
    async with running(server_url, ScriptedEngine(), metrics_port=0) as worker:
        await queue.push(request(deadline_ms=int(time.time() * 1000) + 20_000), request())
        await eventually(lambda: settled(worker, queue))
        found = await values(worker.metrics_port)
    assert found["xuankan_deadline_slack_seconds_count{lane=interactive}"] == 1
    assert 5 < found["xuankan_deadline_slack_seconds_sum{lane=interactive}"] <= 20


async def test_slow_requests_lead_to_their_traces(server_url: str, queue: Queue) -> None:
    async with running(server_url, ScriptedEngine(), metrics_port=0) as worker:
        await queue.push(request(traceparent=UNSAMPLED), request(traceparent="no trace"))
        await eventually(lambda: settled(worker, queue))
        _, kind, text = await fetch(worker.metrics_port, accept=OPENMETRICS)
        assert kind.startswith("application/openmetrics-text")
        assert "trace_id" not in text
        await queue.push(request(traceparent=SAMPLED))
        await eventually(lambda: settled(worker, queue))
        _, _, text = await fetch(worker.metrics_port, accept=OPENMETRICS)
        pattern = (
            r'xuankan_request_seconds_bucket\{lane="interactive",le="[^"]+"\} \S+ # \{trace_id="(\w+)"\}'
        )
        assert re.findall(pattern, text) == [TRACE]
        _, kind, plain = await fetch(worker.metrics_port)  # the older format has no place for them
        assert kind.startswith("text/plain")
        assert "trace_id" not in plain


async def test_promtool_finds_nothing_to_say(server_url: str, queue: Queue) -> None:
    promtool = need("promtool")
    async with running(server_url, ScriptedEngine(), metrics_port=0) as worker:
        await queue.push(request(), request(catalogue="another"))
        await eventually(lambda: settled(worker, queue))
        _, _, text = await fetch(worker.metrics_port)
    assert await asyncio.to_thread(complaints, promtool, text) == ""


def complaints(promtool: Path, text: str) -> str:
    done = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


def test_the_table_of_metrics_is_complete() -> None:
    table = (PROMETHEUS.parents[1] / "docs" / "metrics.md").read_text()
    listed = set(re.findall(r"^\| `(xuankan_[a-z_]+)", table, re.MULTILINE))
    exist = {
        re.sub("_(bucket|sum|count)$", "", name) for found in families().values() for name in series(found)
    }
    assert listed == {name for name in exist if name.startswith("xuankan_")}
    assert recorded() == set(re.findall(r"`(xuankan:\S+)`", table))


class Prometheus:
    """A real one, with the product's own rules."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def ask(self, path: str, **parameters: str) -> Any:
        url = f"http://127.0.0.1:{self._port}/{path}?{urlencode(parameters)}"
        return json.loads(await asyncio.to_thread(_read, url))["data"]

    async def value(self, query: str) -> float | None:
        found = (await self.ask("api/v1/query", query=query))["result"]
        return float(found[0]["value"][1]) if found else None

    async def is_ready(self) -> bool:
        try:
            return bool(await asyncio.to_thread(_read, f"http://127.0.0.1:{self._port}/-/ready"))
        except OSError:
            return False


def _read(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read()


@contextlib.asynccontextmanager
async def prometheus(directory: Path, targets: dict[str, int]) -> AsyncGenerator[Prometheus]:
    text = (PROMETHEUS / "prometheus.yml").read_text().replace("15s", "1s")
    settings = yaml.safe_load(text)
    for job in settings["scrape_configs"]:  # the same jobs, elsewhere
        found = {name: job.pop(name) for name in ("static_configs", "dns_sd_configs") if name in job}
        assert len(found) == 1
        job["static_configs"] = [
            {"targets": [f"127.0.0.1:{targets[job['job_name'].removeprefix('xuankan-')]}"]}
        ]
    (directory / "prometheus.yml").write_text(yaml.safe_dump(settings))
    for name in ("rules.yml", "recording.yml"):
        (directory / name).write_text(
            (PROMETHEUS / name).read_text().replace("interval: 15s", "interval: 1s")
        )
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        need("prometheus"),
        f"--config.file={directory / 'prometheus.yml'}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--enable-feature=exemplar-storage",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        served = Prometheus(port)
        await eventually(served.is_ready)
        yield served
    finally:
        process.kill()
        await process.wait()


@pytest.mark.timeout(180)
async def test_a_real_prometheus_scrapes_evaluates_and_alerts(
    server_url: str, queue: Queue, tmp_path: Path
) -> None:
    need("prometheus")
    engine = ScriptedEngine(poison=POISON)
    async with (
        exporting(server_url) as exporter,
        running(server_url, engine, metrics_port=0) as worker,
    ):
        assert worker.metrics_port
        targets = {"worker": worker.metrics_port, "exporter": exporter.port, "portal": free_port()}
        async with prometheus(tmp_path, targets) as served:
            is_up = 'up{job=~"xuankan-(worker|exporter)"}'
            await eventually(lambda: holds(served, f"sum({is_up})", 2))
            asked = [request(traceparent=SAMPLED) for _ in range(5)]
            await queue.push(*asked, request(lane="bulk", tokens=[POISON], candidates=[1]))
            for one in asked:
                assert (await queue.result(one)).status == "ok"
            await eventually(lambda: holds(served, 'sum(xuankan_requests_ended_total{status="ok"})', 5))
            await eventually(lambda: holds(served, 'sum(xuankan_queue_requests{state="queued"})', 0))
            await eventually(lambda: holds(served, "sum(xuankan:rows:rate5m) > bool 0", 1))
            found = await served.ask(
                "api/v1/query_exemplars",
                query="xuankan_request_seconds_bucket",
                start=str(time.time() - 600),
                end=str(time.time() + 60),
            )
            traces = {exemplar["labels"]["trace_id"] for one in found for exemplar in one["exemplars"]}
            assert traces == {TRACE}

            async def alerts() -> set[str]:
                return {one["labels"]["alertname"] for one in (await served.ask("api/v1/alerts"))["alerts"]}

            # At once: a request went to the dead stream. Pending: the portal is not there.
            await eventually(lambda: has(alerts, {"XuankanDeadLetters", "XuankanPortalDown"}))
            # A slow host may be told so, but nothing is said that is not so.
            wrong = {"XuankanServerAway", "XuankanNoWorkers", "XuankanReleasesDiffer", "XuankanPortalErrors"}
            assert not await alerts() & wrong
            groups = (await served.ask("api/v1/rules"))["groups"]
            health = {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}
            assert set(health.values()) <= {"ok", "unknown"}, health


async def holds(served: Prometheus, query: str, value: float) -> bool:
    return await served.value(query) == value


async def has(alerts: Any, names: set[str]) -> bool:
    return names <= await alerts()
