"""`xuankan exporter`: what waits, how long, and who works, on a real server."""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.support.engine import ScriptedEngine
from tests.support.programs import need
from tests.support.scrape import exporting, fetch, values
from tests.support.server import ValkeyProcess
from tests.support.world import KEYS, Queue, eventually, request, run_burst, running
from xuankan_worker.operations.exporter import Exporter


async def shows(exporter: Exporter, **expected: float) -> bool:
    """Whether the named samples have these values; `name__lane` is a metric by lane."""
    found = await values(exporter.port)
    for name, value in expected.items():
        metric, _, label = name.partition("__")
        sample = f"xuankan_{metric}" + (f"{{lane={label}}}" if label else "")
        if found.get(sample) != value:
            return False
    return True


async def test_without_a_worker_it_tells_what_waits(server_url: str, queue: Queue) -> None:
    async with exporting(server_url) as exporter:
        await eventually(lambda: shows(exporter, queue_up=1, queue_wait_seconds__bulk=0))
        await queue.push(*(request(lane="bulk") for _ in range(3)), request())
        await eventually(
            lambda: shows(exporter, queue_work_seconds__bulk=3.0, queue_work_seconds__interactive=1.0)
        )
        found = await values(exporter.port)
        assert found["xuankan_queue_requests{lane=bulk,state=queued}"] == 3
        assert found["xuankan_queue_requests{lane=bulk,state=running}"] == 0
        assert found["xuankan_workers{state=running}"] == 0
        assert found["xuankan_queue_wait_seconds{lane=interactive}"] == math.inf
        assert found["xuankan_server_evicts"] == 0
        assert found["xuankan_server_memory_used_bytes"] > 0
        # It came between two looks, so its age is known to two seconds.
        assert 0 <= found["xuankan_queue_oldest_seconds{lane=bulk}"] < 10
        await run_burst(server_url, ScriptedEngine())
        await eventually(lambda: shows(exporter, queue_work_seconds__bulk=0, queue_oldest_seconds__bulk=0))


async def test_with_a_worker_the_wait_goes_by_its_pace(server_url: str, queue: Queue) -> None:
    engine = ScriptedEngine(contexts=1, row_s=0.004)
    async with exporting(server_url) as exporter, running(server_url, engine, prefetch_rows=48):
        await queue.push(*(request(lane="bulk") for _ in range(60)))
        await eventually(lambda: is_measured(exporter))
        engine.gate.clear()
        await eventually(lambda: shows_running(exporter))
        found = await values(exporter.port)
        pace = found["xuankan_capacity_rows_per_second"]
        assert 50 < pace < 400  # 250 rows a second at most
        queued = found["xuankan_queue_requests{lane=bulk,state=queued}"]
        assert math.isclose(found["xuankan_queue_work_seconds{lane=bulk}"], 40 * queued / pace, rel_tol=0.2)
        assert found["xuankan_queue_wait_seconds{lane=bulk}"] < math.inf
        assert found["xuankan_workers{state=running}"] == 1


async def is_measured(exporter: Exporter) -> bool:
    return (await values(exporter.port)).get("xuankan_capacity_rows_per_second", 0) > 0


async def shows_running(exporter: Exporter) -> bool:
    return (await values(exporter.port))["xuankan_queue_requests{lane=bulk,state=running}"] > 0


async def test_a_server_that_goes_away_shows_and_comes_back(own_server: ValkeyProcess) -> None:
    own_server.start()
    async with exporting(own_server.url) as exporter:
        await eventually(lambda: shows(exporter, queue_up=1))
        assert (await fetch(exporter.port, "/readyz"))[0] == 200
        own_server.kill()
        await eventually(lambda: shows(exporter, queue_up=0))
        assert (
            set(await values(exporter.port)) & {"xuankan_dead_letters", "xuankan_capacity_rows_per_second"}
            == set()
        )
        status, _, text = await fetch(exporter.port, "/readyz")
        assert (status, text) == (503, "the Redis/Valkey server cannot be reached\n")
        own_server.start()
        await eventually(lambda: shows(exporter, queue_up=1))


async def test_the_command_serves_what_promtool_accepts(server_url: str, queue: Queue) -> None:
    promtool = need("promtool")
    await queue.push(request())
    command = start(server_url)
    assert command.stderr is not None
    try:
        ready = json.loads(await asyncio.to_thread(command.stderr.readline))
        assert ready["event"] == "exporter ready"

        async def is_there() -> bool:
            return (await values(ready["port"])).get(
                "xuankan_queue_requests{lane=interactive,state=queued}"
            ) == 1

        await eventually(is_there)
        _, _, text = await fetch(ready["port"])
        assert await asyncio.to_thread(complaints, promtool, text) == ""
    finally:
        command.send_signal(signal.SIGTERM)
        await asyncio.to_thread(command.communicate, timeout=20)
    assert command.returncode == 0


def start(url: str) -> subprocess.Popen[str]:
    options = ("--port", "0", "--log-format", "json", "--namespace", KEYS.namespace)
    return subprocess.Popen(
        [sys.executable, "-m", "xuankan.cli.main", "exporter", *options],
        env=os.environ | {"XUANKAN_REDIS": url},
        stderr=subprocess.PIPE,
        text=True,
    )


def complaints(promtool: Path, text: str) -> str:
    done = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr
