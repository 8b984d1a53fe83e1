"""`xuankan bench gpu`: the arithmetic, the batches and the report. No GPU, no torch."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from xuankan_worker.bench.gpu.figures import (
    arrivals,
    encoder_parameters,
    flops,
    kendall_tau,
    percentiles,
    spread,
    steady_rates,
)
from xuankan_worker.bench.gpu.goals import judge
from xuankan_worker.bench.gpu.plain import Variant
from xuankan_worker.bench.gpu.raw import full_batches
from xuankan_worker.bench.gpu.report import goal_rows, markdown, throughput_rows
from xuankan_worker.bench.gpu.run import chip, earlier
from xuankan_worker.bench.gpu.systems import Workload
from xuankan_worker.cli.bench_gpu import command_of, gpu
from xuankan_worker.engines import EngineInfo
from xuankan_worker.manifest import Architecture

BERT_BASE = Architecture("bert", 12, 12, 768, 3072, 30522, 512)
WORKER, RAW = "base/worker_tensorrt_fp16", "base/raw_engine_loop_fp16"
NATIVE, PLAIN = "base/crossencoder_fp32", "base/pytorch_best_fp16"


def test_flops_of_bert_base() -> None:
    assert encoder_parameters(BERT_BASE) == 85_054_464  # what transformers counts in `BertModel.encoder`
    expected = 2 * 85_054_464 * 256 + 4 * 12 * 768 * 256**2
    assert flops(BERT_BASE, [256]) == expected
    assert flops(BERT_BASE, [256, 256]) == 2 * expected


def test_percentiles_are_values_that_were_measured() -> None:
    found = percentiles([value / 1000 for value in range(1, 101)])
    assert found == {"p50_ms": 50.0, "p95_ms": 95.0, "p99_ms": 99.0, "count": 100}
    with pytest.raises(ValueError, match="no latency"):
        percentiles([])


def test_spread_of_nothing_is_an_error() -> None:
    assert spread([3.0, 1.0, 2.0]) == {"median": 2.0, "min": 1.0, "max": 3.0}
    with pytest.raises(ValueError, match="nothing was measured"):
        spread([])


def test_arrivals_are_a_poisson_process_drawn_from_the_seed() -> None:
    times = arrivals(200.0, 50.0, seed=3)
    np.testing.assert_array_equal(times, arrivals(200.0, 50.0, seed=3))
    assert len(arrivals(200.0, 50.0, seed=4)) != len(times)
    assert abs(len(times) - 10_000) < 500  # five standard deviations
    assert (np.diff(times) > 0).all()
    assert times[-1] < 50
    gaps = np.diff(times)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)  # as exponential gaps are


def test_steady_rates_leave_out_what_lies_outside() -> None:
    ended = [0.1, *np.linspace(1.05, 3.95, 30), 7.0]
    assert steady_rates(ended, 1.0, 4.0, 3) == pytest.approx([10, 10, 10])


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=12))
def test_kendall_tau_counts_pairs(scores: list[tuple[int, int]]) -> None:
    left, right = zip(*scores, strict=True)
    concordant = discordant = left_ties = right_ties = 0
    for i in range(len(scores)):
        for j in range(i):
            a, b = left[i] - left[j], right[i] - right[j]
            concordant += a * b > 0
            discordant += a * b < 0
            left_ties += a == 0
            right_ties += b == 0
    pairs = len(scores) * (len(scores) - 1) // 2
    scale = math.sqrt((pairs - left_ties) * (pairs - right_ties))
    if scale:
        assert kendall_tau(left, right) == pytest.approx((concordant - discordant) / scale)
    else:
        assert kendall_tau(left, right) == (1.0 if left_ties == right_ties else 0.0)


def test_kendall_tau_refuses_scores_of_different_things() -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        kendall_tau([1, 2, 3], [1, 2])


lengths_descending = st.lists(st.integers(3, 96), min_size=1, max_size=60).map(
    lambda values: np.array(sorted(values, reverse=True), dtype=np.int32)
)


@given(lengths_descending)
def test_full_batches_hold_every_pair_once_and_are_full(lengths: np.ndarray[Any, Any]) -> None:
    shapes = ((32, 4), (32, 8), (64, 4), (96, 2))
    info = EngineInfo("test", "none", (32, 64, 96), 8, 2, 100, "test", depth=2, shapes=shapes)
    batches = full_batches(lengths, info)
    assert [at for where in batches for at in range(where.start, where.stop)] == list(range(len(lengths)))
    for where in batches[:-1]:
        bucket = next(bucket for bucket in info.buckets if bucket >= lengths[where.start])
        assert where.stop - where.start == info.max_rows(bucket)


@given(lengths_descending, st.sampled_from([1, 32, 64]))
def test_plain_batches_hold_every_pair_once(lengths: np.ndarray[Any, Any], step: int) -> None:
    batches = Variant(None, step, 1024).batches(lengths.tolist())
    assert [at for where, _ in batches for at in range(where.start, where.stop)] == list(range(len(lengths)))
    for where, padded in batches:
        assert padded % step == 0
        assert padded >= lengths[where].max()
        assert where.stop - where.start <= 128
        if step == 1:  # they run without a mask
            assert (lengths[where] == padded).all()


def test_chips_name_their_files() -> None:
    assert chip("NVIDIA H200") == "h200"
    assert chip("NVIDIA GeForce RTX 4090") == "geforce-rtx-4090"
    assert chip(None) == "unknown"


def test_results_of_another_format_are_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "gpu-test.json"
    for text in ("", "[]", '{"about": {"format": "other"}, "base/raw": {}}'):
        path.write_text(text)
        assert earlier(path).keys() == {"about"}


def document(**worker: Any) -> dict[str, Any]:
    """Results in which every goal is reached, but for what `worker` says."""
    machine: dict[str, Any] = {
        "gpu": "NVIDIA H200",
        "compute_capability": "9.0",
        "driver": "1",
        "cuda_driver": "13.0",
        "processor": "a processor",
        "cores": 16,
        "python": "3.12.0",
        "versions": {"torch": "2.11"},
    }
    latency = {"p50_ms": 10.0, "p95_ms": 12.0, "p99_ms": 14.0, "count": 250}
    results: dict[str, Any] = {
        "about": {
            "machine": machine,
            "manuscripts": {"split": "test", "least_tokens": 200, "seed": 0},
            "matrix_peak_tflops": 700.0,
            "models": {
                "base": {
                    "pairs": 8192,
                    "mean_tokens": 360.0,
                    "mean_flops": 6.6e10,
                    "shortest": 280,
                    "longest": 467,
                }
            },
            "agreement": {"default": {"kendall_tau": 0.999, "kendall_tau_model_score_alone": 0.99,
                                      "rankings": 128, "candidates": 64}},
        },
        WORKER: {
            "title": "whole worker", "command": "xuankan bench gpu --pairs 2048",
            "measured": "2026-01-01T00:00:00Z", "pairs_per_s": 6100.0,
            "gpu_busy_share": 0.98, "padding_share": 0.03,
            "latency_alone": latency, "latency_at_80_percent": latency, "ready_s": 12.0,
            "pairs_per_s_spread": {"median": 6100.0, "min": 6000.0, "max": 6200.0},
            "gpu_memory_process_bytes": 600, "gpu_memory_bytes": 10_000, **worker,
        },
        RAW: {"title": "raw", "pairs_per_s": 6200.0},
        NATIVE: {"title": "CrossEncoder", "pairs_per_s": 438.0, "gpu_memory_process_bytes": 1200},
        PLAIN: {"title": "plain", "pairs_per_s": 3552.0, "variant": "eager"},
    }  # fmt: skip
    results["about"]["goals"] = [vars_of(goal) for goal in judge(results)]
    return results


def vars_of(goal: Any) -> dict[str, Any]:
    return {name: getattr(goal, name) for name in goal.__slots__}


def test_every_goal_is_judged() -> None:
    assert [goal.reached for goal in judge(document())] == [True] * 11


@pytest.mark.parametrize(
    ("changes", "figure"),
    [
        ({"padding_share": 0.06}, "padding"),
        ({"gpu_busy_share": 0.9}, "GPU busy"),
        ({"gpu_memory_process_bytes": 800}, "GPU memory"),
        ({"ready_s": 20.0}, "ready"),
        ({"latency_alone": {"p95_ms": 21.0}}, "idle"),
    ],
)
def test_a_goal_that_is_missed_is_told(changes: dict[str, Any], figure: str) -> None:
    missed = [goal.figure for goal in judge(document(**changes)) if goal.reached is False]
    assert len(missed) == 1
    assert figure in missed[0]


def test_what_was_not_measured_is_neither_reached_nor_missed() -> None:
    nothing: dict[str, Any] = {"about": {"agreement": {}}}
    assert {(goal.value, goal.reached, goal.shown) for goal in judge(nothing)} == {
        (None, None, "not measured")
    }
    # Memory is compared like with like only.
    grown = document()
    del grown[NATIVE]["gpu_memory_process_bytes"]
    assert next(goal for goal in judge(grown) if "memory" in goal.figure).value is None


def test_the_page_tells_everything() -> None:
    results = document()
    results["base/crossencoder_fp16"] = {"title": "half", "pairs_per_s": None, "error": "no torch"}
    page = markdown(results)
    for line in (
        "| pairs/s through the whole worker | ≥ 6,000 | 6,100 | yes |",
        "base: whole worker | 6,100 (6,000–6,200)",
        "| base: whole worker | alone | 10.0 | 12.0 | 14.0 | 250 |",
        "base/crossencoder_fp16: no torch",
        "2026-01-01T00:00:00Z, base/worker_tensorrt_fp16:\n\n    xuankan bench gpu --pairs 2048\n",
        "8,192 pairs of 280 to 467 tokens, 360 on average",
    ):
        assert line in page
    assert len(throughput_rows(results)) == 5
    assert len(goal_rows(results)) == 11


def test_a_result_is_completed_by_what_follows_from_it() -> None:
    work = Workload(8192, 360.0, 6e10, 280, 467)
    found = work.complete({"pairs_per_s": 5000.0, "variant": "eager"}, 600.0)
    assert found["tokens_per_s"] == 1_800_000
    assert found["tflops_on_real_tokens"] == 300
    assert found["share_of_matrix_peak"] == 0.5
    assert found["variant"] == "eager"
    assert work.complete({"error": "none"}, 600.0) == {"pairs_per_s": None, "error": "none"}
    assert work.complete({"pairs_per_s": 1.0}, None)["share_of_matrix_peak"] is None


def test_a_command_is_kept_without_the_places_of_its_files() -> None:
    words = ["bench", "gpu", "--out", "there", "--models", "base", "--work-dir=here", "--quick"]
    assert command_of(words) == "xuankan bench gpu --models base --quick"


def test_unknown_systems_are_refused(tmp_path: Path) -> None:
    papers = tmp_path / "papers.parquet"
    papers.touch()
    outcome = CliRunner().invoke(gpu, ["--papers", str(papers), "--systems", "worker,magic"])
    assert outcome.exit_code == 2
    assert "'magic'" in outcome.output
    assert "worker, raw, plain, crossencoder, agreement" in outcome.output
