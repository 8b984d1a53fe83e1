"""`xuankan bench encoder` without a GPU: a tiny release on ONNX Runtime stands in for TensorRT."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from click.testing import CliRunner

from tests.support.evidence_release import write_release
from xuankan_worker.bench.gpu.child import ChildTask
from xuankan_worker.bench.gpu.encoder import EncoderBench, bench_encoder
from xuankan_worker.cli.bench_encoder import encoder

PAPERS = Path(__file__).parents[1] / "data" / "papers.parquet"
JOB = ChildTask(
    *("", "", "", "", ""),
    engine="onnx",
    device="cpu",
    repeats=1,
    least_s=0.1,
    load_s=2.0,
    alone=5,
    producers=2,
    in_flight=6,
)


def settings(tmp_path: Path, *systems: str) -> EncoderBench:
    return EncoderBench(
        release=write_release(tmp_path),
        papers=PAPERS,
        split="test",
        out=tmp_path / "out",
        work_dir=tmp_path / "work",
        manuscripts=6,
        seed=0,
        systems=systems,
        workers=(2,),
        job=JOB,
        command="xuankan bench encoder",
    )


def test_engine_and_workers_are_measured(tmp_path: Path) -> None:
    told: list[str] = []
    path = bench_encoder(settings(tmp_path, "raw", "worker"), told.append)
    results = json.loads(path.read_text())["releases"]["tiny-evidence"]
    raw, worker = results["raw_engine_loop_onnx_16_rows"], results["2_workers_2_producers_onnx_16_rows"]
    for result in (raw, worker):
        assert "error" not in result
        assert result["command"] == "xuankan bench encoder"
        assert result["manuscripts_per_s"] > 0
    assert raw["batch_alone_ms"]
    assert worker["rows_per_batch"] >= 1
    assert worker["latency_alone"]["count"] == 5
    assert any("manuscripts/s" in line for line in told)


def test_served_rankings_are_judged_beside_those_of_the_cpu(tmp_path: Path) -> None:
    path = bench_encoder(settings(tmp_path, "quality"), lambda _line: None)
    quality = json.loads(path.read_text())["releases"]["tiny-evidence"]["quality_onnx_16_rows"]
    assert "error" not in quality
    assert quality["served"]["papers"] == quality["papers"] > 0
    # The same papers, engine and weights: what the queue served is what the engine says alone.
    assert quality["same_papers"]["served"] == quality["same_papers"]["onnx_on_cpu"]


def test_a_system_that_fails_costs_no_other_its_result(tmp_path: Path) -> None:
    wanted = settings(tmp_path, "raw")
    bench_encoder(wanted, lambda _line: None)
    (wanted.release / "encoder.onnx").write_bytes(b"damaged")
    path = bench_encoder(replace(wanted, job=replace(JOB, max_batch=8)), lambda _line: None)
    results = json.loads(path.read_text())["releases"]["tiny-evidence"]
    assert "is damaged or was changed" in results["raw_engine_loop_onnx_8_rows"]["error"]
    assert results["raw_engine_loop_onnx_16_rows"]["manuscripts_per_s"] > 0


def test_a_table_without_papers_of_the_split_is_refused(tmp_path: Path) -> None:
    arguments = ["--papers", str(PAPERS), "--split", "nowhere", "--engine", "onnx"]
    outcome = CliRunner().invoke(
        encoder, [*arguments, "--out", str(tmp_path), "--work-dir", str(tmp_path / "work")]
    )
    assert outcome.exit_code == 1
    assert "holds no paper of split 'nowhere'" in outcome.output
