"""The figures that the worker must reach with the model of BERT-base's size, and whether it did. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Results = Mapping[str, Any]
_WORKER, _RAW = "base/worker_tensorrt_fp16", "base/raw_engine_loop_fp16"
_NATIVE, _PLAIN = "base/crossencoder_fp32", "base/pytorch_best_fp16"


@dataclass(frozen=True, slots=True)
class Goal:
    """One figure.

    Attributes:
        figure: in words.
        goal: in words.
        value: what was measured, None if it was not.
        shown: the value in words.
        reached: None without a value.
    """

    figure: str
    goal: str
    value: float | None
    shown: str
    reached: bool | None


def judge(results: Results) -> list[Goal]:
    """Compare results, by system and with what is `about` them all, with the goals."""
    rate = _at(results, _WORKER, "pairs_per_s")

    def times(reference: float | None) -> float | None:
        return None if rate is None or not reference else rate / reference

    native, plain = (times(_at(results, key, "pairs_per_s")) for key in (_NATIVE, _PLAIN))
    return [
        _goal("pairs/s through the whole worker", "≥ 6,000", rate, lambda v: v >= 6000, "{:,.0f}"),
        _goal("the same / CrossEncoder FP32", "≥ 13.7", native, lambda v: v >= 13.7, "{:.1f}×"),
        _goal("the same / best plain PyTorch", "≥ 1.7", plain, lambda v: v >= 1.7, "{:.2f}×"),
        _goal(
            "whole worker / raw engine loop", "≥ 0.95", times(_at(results, _RAW, "pairs_per_s")),
            lambda v: v >= 0.95, "{:.3f}",
        ),
        _goal(
            "GPU busy under load", "≥ 97 %", _at(results, _WORKER, "gpu_busy_share"),
            lambda v: v >= 0.97, "{:.1%}",
        ),
        _goal(
            "padding under load", "≤ 5 % of tokens", _at(results, _WORKER, "padding_share"),
            lambda v: v <= 0.05, "{:.1%}",
        ),
        _goal(
            "one manuscript × 64 journals, p95, idle", "≤ 20 ms", _p95(results, "latency_alone"),
            lambda v: v <= 20, "{:.1f} ms",
        ),
        _goal(
            "the same at 80 % load", "≤ 50 ms", _p95(results, "latency_at_80_percent"),
            lambda v: v <= 50, "{:.1f} ms",
        ),
        _goal(
            "GPU memory / CrossEncoder FP32's at batch 16", "≤ 60 %", _memory_share(results),
            lambda v: v <= 0.6, "{:.1%}",
        ),
        _goal(
            "ready after start, engine built before", "≤ 15 s", _at(results, _WORKER, "ready_s"),
            lambda v: v <= 15, "{:.1f} s",
        ),
        _goal(
            "Kendall τ against PyTorch FP32, default model", "≥ 0.99",
            _at(results["about"]["agreement"], "default", "kendall_tau"), lambda v: v >= 0.99, "{:.4f}",
        ),
    ]  # fmt: skip


def _goal(figure: str, goal: str, value: float | None, reached: Callable[[float], bool], form: str) -> Goal:
    if value is None:
        return Goal(figure, goal, None, "not measured", None)
    return Goal(figure, goal, round(value, 5), form.format(value), reached(value))


def _at(results: Results, key: str, name: str) -> float | None:
    return results.get(key, {}).get(name)


def _p95(results: Results, name: str) -> float | None:
    found: Mapping[str, float] = results.get(_WORKER, {}).get(name, {})
    return found.get("p95_ms")


def _memory_share(results: Results) -> float | None:
    """The worker's memory by CrossEncoder's, as nvidia-smi shows processes, else by the GPU's growth."""
    for name in ("gpu_memory_process_bytes", "gpu_memory_bytes"):
        ours, theirs = _at(results, _WORKER, name), _at(results, _NATIVE, name)
        if ours and theirs:
            return ours / theirs
    return None
