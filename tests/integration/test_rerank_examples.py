"""deploy/examples, from the files themselves: what each pod or partition of a large backlog does."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa  # pyright: ignore[reportMissingTypeStubs]  # it has none
import pytest
import yaml  # pyright: ignore[reportMissingModuleSource]

from tests.support.engine import ScriptedEngine
from tests.support.portal import manuscript
from tests.support.world import KEYS, Queue, catalogue, running, served_model
from xuankan import Catalogue
from xuankan.protocol.keys import Keys
from xuankan_worker.config import WorkerConfig
from xuankan_worker.execution.served_model import ServedModel
from xuankan_worker.worker import Worker

EXAMPLES = Path(__file__).parents[2] / "deploy" / "examples"
ROWS: list[dict[str, str]] = [
    {"id": f"m{n}", "title": manuscript(n).title, "abstract": manuscript(n).abstract} for n in range(40)
]


def pod(index: int, volume: Path, url: str, catalogue_file: Path) -> int:
    """Run what the Job's manifest says, with its volume elsewhere; the exit code."""
    manifest: Any = yaml.safe_load((EXAMPLES / "rerank-job.yaml").read_text())
    container = manifest["spec"]["template"]["spec"]["containers"][0]
    (claimed,) = (one["mountPath"] for one in container["volumeMounts"] if one["name"] == "backlogs")
    arguments = [
        argument.replace("$(JOB_COMPLETION_INDEX)", str(index)).replace(claimed, str(volume))
        for argument in container["args"]
    ]
    assert f"--shard={index}/{manifest['spec']['completions']}" in arguments
    small = ("--namespace", KEYS.namespace, "--catalogue", str(catalogue_file), "--candidates", "5")
    done = subprocess.run(
        [sys.executable, "-m", "xuankan.cli.main", *arguments, *small],
        env=os.environ | {"XUANKAN_REDIS": url},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=100,
    )
    print(done.stderr)  # noqa: T201
    return done.returncode


def ranked_ids(out: Path) -> list[str]:
    return [json.loads(line)["id"] for line in out.read_text("utf-8").splitlines()]


async def test_the_pods_of_the_job_rank_the_ranges(server_url: str, queue: Queue, tmp_path: Path) -> None:
    del queue  # empty
    volume, catalogue_file = tmp_path / "volume", tmp_path / "catalogue.json.gz"
    catalogue().save(catalogue_file)
    (volume / "2026-05").mkdir(parents=True)
    lines = [json.dumps(row) for row in ROWS]
    (volume / "2026-05" / "submissions.jsonl").write_text("\n".join(lines))
    async with running(server_url, ScriptedEngine()):
        pods = (asyncio.to_thread(pod, index, volume, server_url, catalogue_file) for index in (0, 15))
        assert await asyncio.gather(*pods) == [0, 0]
    first, last = (ranked_ids(volume / "2026-05" / f"ranked-{index}.jsonl") for index in (0, 15))
    assert (first, last) == (["m0", "m1"], ["m37", "m38", "m39"])


async def test_partitions_of_arrow_tables_keep_their_order(
    server_url: str, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    del queue  # empty
    monkeypatch.syspath_prepend(EXAMPLES)  # pyright: ignore[reportUnknownMemberType]
    monkeypatch.setenv("XUANKAN_REDIS", server_url)
    tables, spark = importlib.import_module("tables"), importlib.import_module("spark_rerank")
    arrow: Any = pa
    given: Any = arrow.Table.from_pylist(
        [*ROWS, {"id": "zh", "title": "关于图论的研究与应用", "abstract": None}]
    )
    shipped = served_model(ScriptedEngine())
    shipped = ServedModel(shipped.engine, shipped.template, Catalogue.default(), "release-1", 1.0, 1.0)

    def partition() -> list[dict[str, Any]]:
        ranked = arrow.Table.from_batches(list(spark.rank_partition(given.to_batches(max_chunksize=16))))
        assert ranked.schema == tables.SCHEMA
        return ranked.to_pylist()

    async with Worker(WorkerConfig(server_url, "worker-1", Keys(), block_s=0.05), shipped):
        try:
            ranked = await asyncio.to_thread(partition)
        finally:
            await asyncio.to_thread(tables.producer().close)
    assert [row["id"] for row in ranked] == [row["id"] for row in ROWS] + ["zh"]
    assert all(len(row["journals"]) == len(row["scores"]) == 5 for row in ranked[:-1])
    assert "Latin" in ranked[-1]["error"]
