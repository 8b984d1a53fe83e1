"""`xuankan bench gpu` on a machine without a GPU: a tiny model on ONNX Runtime stands in for TensorRT."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from xuankan_worker.bench.gpu.child import ChildTask
from xuankan_worker.bench.gpu.models import Model
from xuankan_worker.bench.gpu.nvml import GpuHandle
from xuankan_worker.bench.gpu.run import FORMAT, BenchSettings, bench_gpu, earlier
from xuankan_worker.bench.gpu.systems import run_system
from xuankan_worker.cli.bench_gpu import gpu

PAPERS = Path(__file__).parents[1] / "data" / "papers.parquet"
JOB = ChildTask(
    "",
    "",
    "",
    "",
    "",
    engine="onnx",
    device="cpu",
    repeats=1,
    least_s=0.1,
    load_s=2.0,
    alone=5,
    producers=2,
    in_flight=6,
)


def test_workers_and_engine_are_measured(release: Path, tmp_path: Path) -> None:
    model = Model("default", tmp_path / "work" / "default")
    shutil.copytree(release, model.release)
    model.checkpoint.mkdir()
    (model.checkpoint / "config.json").write_text("{}")
    model.cache.mkdir()
    (model.cache / "kernels").touch()
    settings = BenchSettings(
        papers=PAPERS,
        split="test",
        out=tmp_path / "out",
        work_dir=tmp_path / "work",
        models=("default",),
        systems=("worker", "raw"),
        manuscripts=4,
        candidates=6,
        seed=0,
        job=replace(JOB, workers=2),
        build_options=None,
        command="xuankan bench gpu",
    )
    told: list[str] = []
    document, path = bench_gpu(settings, told.append)

    worker, raw = document["default/2_worker_tensorrt_fp16"], document["default/raw_engine_loop_fp16"]
    assert "error" not in worker
    assert "error" not in raw
    for result in (worker, raw):
        assert result["pairs_per_s"] > 0
        assert result["tokens_per_s"] > 100 * result["pairs_per_s"]
        assert 0 <= result["padding_share"] < 0.5
        assert result["gpu_memory_bytes"] is None  # there is no GPU
    assert worker["ready_s"] > 0
    assert worker["producers_cpu_cores"] > 0
    assert worker["worker_cpu_cores"] >= worker["worker_cpu_cores_in_engine"] > 0
    assert worker["latency_alone"]["count"] == 5
    for load in ("latency_at_50_percent", "latency_at_80_percent", "latency_beside_backlog"):
        assert worker[load]["p50_ms"] <= worker[load]["p95_ms"] <= worker[load]["p99_ms"]
    assert worker["latency_beside_backlog"]["backlog_rankings"] > 0
    assert document["about"]["models"]["default"]["pairs"] == 4 * 6
    assert any("worker" in line for line in told)

    assert json.loads(path.read_text()) == document
    assert document["about"]["format"] == FORMAT
    assert "not measured" in path.with_suffix(".md").read_text()
    assert earlier(path) == document  # what another run does not measure again stays


def test_a_system_that_fails_says_why(release: Path, tmp_path: Path) -> None:
    job = replace(JOB, release=str(release), pairs=str(tmp_path / "none.json"))
    result = run_system("raw", job, tmp_path / "cache")
    assert "none.json" in result["error"]
    assert "pairs_per_s" not in result


@pytest.mark.skipif(GpuHandle().known, reason="there is a GPU")
def test_without_a_gpu_nothing_is_measured(tmp_path: Path) -> None:
    arguments = [
        "--papers",
        str(PAPERS),
        "--out",
        str(tmp_path / "out"),
        "--work-dir",
        str(tmp_path / "work"),
    ]
    outcome = CliRunner().invoke(gpu, arguments)
    assert outcome.exit_code == 1
    assert "there is no NVIDIA GPU to measure" in outcome.output
    assert not list((tmp_path / "out").iterdir())


def test_a_system_that_hangs_is_stopped(release: Path, tmp_path: Path) -> None:
    job = replace(JOB, release=str(release), pairs=str(tmp_path / "none.json"))
    assert "stopped after 0.01 s" in run_system("raw", job, tmp_path / "cache", limit_s=0.01)["error"]
