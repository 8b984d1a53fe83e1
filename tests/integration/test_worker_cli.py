"""`xuankan worker` as an operator uses it."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from click.testing import CliRunner

from tests.support.engine import ScriptedEngine
from tests.support.world import Queue, catalogue, eventually, request, run_burst, running
from xuankan_worker.cli.worker import worker
from xuankan_worker.manifest import Manifest
from xuankan_worker.queue.consumer_name import claim_name


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(worker, arguments)
    return result.exit_code, result.output


async def test_status_shows_workers_and_queues(server_url: str, queue: Queue) -> None:
    status = ("status", "--redis", server_url, "--namespace", "test")
    code, text = await in_thread(*status)
    assert code == 0
    assert "no live worker" in text
    engine = ScriptedEngine(contexts=1)
    engine.gate.clear()
    # A request has 40 rows, of which some run: one more fits into this prefetch.
    async with running(server_url, engine, prefetch_rows=48):
        await queue.push(*(request(lane="bulk") for _ in range(5)))
        await queue.push_raw(b"garbage", None)
        await engine.wait_started()

        async def shown() -> bool:
            found = json.loads((await in_thread(*status, "--json"))[1])
            return found["dead"] == 1 and [one["in_flight"] for one in found["workers"]] == [2]

        await eventually(shown)
        found = json.loads((await in_thread(*status, "--json"))[1])
        assert found["lanes"] == [
            {"lane": "interactive", "queued": 0, "running": 0},
            {"lane": "bulk", "queued": 3, "running": 2},
        ]
        (one,) = found["workers"]
        assert (one["name"], one["state"], one["engine"], one["release"], one["contexts"]) == (
            *("worker-1", "running", "scripted", "release-1"),
            1,
        )
        code, text = await in_thread(*status)
        assert code == 0
        assert "worker-1" in text
    assert json.loads((await in_thread(*status, "--json"))[1])["workers"] == []


async def in_thread(*arguments: str) -> tuple[int, str]:
    return await asyncio.to_thread(run, *arguments)


def test_status_without_a_server_says_so() -> None:
    code, text = run("status", "--redis", "redis://127.0.0.1:1/0")
    assert code == 1
    assert "does not answer" in text


def test_a_wrong_url_is_named() -> None:
    code, text = run("status", "--redis", "http://example.org")
    assert code == 1
    assert "the scheme 'http' is unknown; use redis://" in text


def test_help_is_there_and_imports_nothing_heavy() -> None:
    program = (
        "import sys; from xuankan_worker.cli.worker import worker\n"
        "try: worker(['run', '--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'numpy', 'redis', 'onnxruntime', 'tokenizers', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "--metrics-port" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_default_names_differ_on_one_host_and_come_back() -> None:
    ours = claim_name()
    program = "from xuankan_worker.queue.consumer_name import claim_name; print(claim_name())"
    others: list[str] = []
    # Other workers of this host may come and go between two of ours.
    while len(others) < 2 or (others[-1] != others[-2] and len(others) < 10):
        others.append(
            subprocess.run(
                [sys.executable, "-c", program], capture_output=True, text=True, check=True
            ).stdout.strip()
        )
    assert ours not in others
    assert others[-1] == others[-2]
    assert others[-1].rpartition(":")[0] == ours.rpartition(":")[0]


def start(*options: str) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-c",
        "from xuankan_worker.cli.worker import worker; worker()",
        "run",
        *options,
    ]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


async def run_command(*options: str) -> tuple[int, str]:
    command = start(*options)
    _, log = await asyncio.to_thread(command.communicate, timeout=60)
    return command.returncode, log


async def test_run_serves_a_release_on_the_cpu_engine(
    server_url: str, queue: Queue, release: Path, tmp_path: Path
) -> None:
    catalogue().save(tmp_path / "catalogue.json.gz")
    asked = [request() for _ in range(3)]
    await queue.push(*asked)
    place = ("--redis", server_url, "--namespace", "test", "--burst", "--log-format", "json", "--name", "cli")
    code, log = await run_command(
        *place,
        "--model",
        str(release),
        "--catalogue",
        str(tmp_path / "catalogue.json.gz"),
        "--metrics-port",
        "0",
    )
    assert code == 0, log
    for one in asked:
        result = await queue.result(one)
        assert (result.status, len(result.ranking), result.worker) == ("ok", 5, "cli")
        assert result.release == Manifest.load(release).fingerprint
    events = [json.loads(line) for line in log.splitlines()]
    assert [event["event"] for event in events] == ["worker ready", "worker done"]
    assert events[0]["metrics_port"] > 0
    assert (events[1]["requests"], events[1]["rows"]) == (3, 120)
    assert await queue.left() == 0


async def test_what_cannot_be_served_is_said_before_anything_is_taken(
    server_url: str, queue: Queue, release: Path, tmp_path: Path
) -> None:
    await queue.push(request())
    wrong = tmp_path / "wrong"
    shutil.copytree(release, wrong)
    replace(Manifest.load(wrong), template="0" * 16).save(wrong)
    place = ("--redis", server_url, "--namespace", "test", "--burst")
    for options, words in (
        (("--model", str(tmp_path)), "is not a model release"),
        (("--model", str(wrong)), "was trained with tokenizer and template '0000000000000000'"),
        (("--model", str(release), "--engine", "tensorrt"), "use --engine onnx"),
        (("--model", str(release), "--redis", "nowhere"), "the scheme '' is unknown"),
        (("--model", str(release), "--name", "a b"), "name"),
    ):
        code, log = await run_command(*place, *options)
        assert code == 1
        assert words in log
        assert "Traceback" not in log
    assert await queue.left() == 1


async def test_metrics_of_a_burst_are_of_that_worker_only(server_url: str, queue: Queue) -> None:
    await run_burst(server_url, ScriptedEngine())
    await run_burst(server_url, ScriptedEngine())  # a second registry does not clash with the first
    assert await queue.left() == 0
