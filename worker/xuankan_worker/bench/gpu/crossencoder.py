"""`sentence_transformers.CrossEncoder.predict`, batches of 16, float32 or half: what most users run today."""

from __future__ import annotations

import os
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from xuankan_worker.bench.gpu.child import ChildTask, Emit, run, say
from xuankan_worker.bench.gpu.figures import percentiles, spread
from xuankan_worker.bench.gpu.nvml import GpuHandle, GpuMonitor, grown_bytes
from xuankan_worker.bench.gpu.pairs import Pairs

_BATCH = 16
_LATENCIES = 40
"""Manuscripts that are timed alone."""


def measure(job: ChildTask, emit: Emit) -> None:
    """Score all pairs once, in `repeats` interleaved parts that are timed apart; then one manuscript each.

    Texts go in, as a user has them: tokenizing is part of `predict`.
    """
    gpu = GpuHandle()
    before = gpu.used_bytes()
    pairs = Pairs.load(Path(job.pairs))
    texts = [pairs.text_pairs(at) for at in range(len(pairs.manuscripts))]
    package: Any = import_module("sentence_transformers")
    model = package.CrossEncoder(job.checkpoint, device=job.device, max_length=job.template().max_length)
    if job.system.endswith("fp16"):
        model.half()

    def predict(some: list[tuple[str, str]]) -> float:
        started_s = time.perf_counter()
        model.predict(some, batch_size=_BATCH, show_progress_bar=False)
        return time.perf_counter() - started_s

    longest = max(range(len(texts)), key=lambda at: len(pairs.tokens[at]))
    predict(texts[longest])
    rates: list[float] = []
    with GpuMonitor(gpu) as watch:
        started_s = time.monotonic()
        for part in range(job.repeats):
            some = [pair for each in texts[part :: job.repeats] for pair in each]
            rates.append(len(some) / predict(some))
            say(f"{rates[-1]:,.0f} pairs/s over {len(some)} pairs")
        busy = watch.busy_share(started_s, time.monotonic())
    result: dict[str, Any] = {
        "pairs_per_s": spread(rates)["median"],
        "pairs_per_s_spread": spread(rates),
        "batch": _BATCH,
        "gpu_busy_share": busy,
        "gpu_memory_bytes": grown_bytes(watch.peak_bytes, before),
        "gpu_memory_process_bytes": gpu.process_bytes(os.getpid()),
    }
    emit(result)
    result["latency_alone"] = percentiles([predict(each) for each in texts[:_LATENCIES]])
    emit(result)


if __name__ == "__main__":
    run(measure)
