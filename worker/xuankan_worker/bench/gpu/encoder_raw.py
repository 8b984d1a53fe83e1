"""An encoder on our engine without queue or worker: every slot driven over full batches, sorted before."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, cast

import numpy as np

from xuankan_worker.bench.gpu.child import ChildTask, Emit, run, say
from xuankan_worker.bench.gpu.encoder_rows import EncoderBatch, encoder_batches
from xuankan_worker.bench.gpu.figures import spread
from xuankan_worker.bench.gpu.nvml import GpuHandle, GpuMonitor, grown_bytes
from xuankan_worker.bench.gpu.raw import drive
from xuankan_worker.engines import EngineKind, Slot, open_engine

_ALONE = 30
"""Runs of each shape that are timed with nothing beside them."""


def measure(job: ChildTask, emit: Emit) -> None:
    """Time passes over all manuscripts, then each shape alone in one slot."""
    gpu = GpuHandle()
    before = gpu.used_bytes()
    started_s = time.perf_counter()
    engine = open_engine(cast(EngineKind, job.engine), Path(job.release), job.max_batch)
    slots = [engine.open_slot(index) for index in range(engine.info.slots)]
    ready_s = time.perf_counter() - started_s
    info = engine.info.encoder
    assert info is not None
    batches = encoder_batches(job, info)
    manuscripts = sum(len(batch.tokens.lengths) for batch in batches)

    def go(rounds: int) -> float:
        timed_s = time.perf_counter()
        drive(slots, lambda slot, at: slot.encode(batches[at].tokens), len(batches), rounds)
        return time.perf_counter() - timed_s

    go(1)
    rounds = max(1, round(job.least_s / go(1)))
    rates: list[float] = []
    with GpuMonitor(gpu) as watch:
        from_s = time.monotonic()
        for _ in range(job.repeats):
            rates.append(rounds * manuscripts / go(rounds))
            say(f"{rates[-1]:,.0f} manuscripts/s over {rounds} times {manuscripts}")
        busy = watch.busy_share(from_s, time.monotonic())
    real = sum(int(batch.tokens.lengths.sum()) for batch in batches)
    result: dict[str, Any] = {
        "manuscripts_per_s": spread(rates)["median"],
        "manuscripts_per_s_spread": spread(rates),
        "engine": engine.info.name,
        "device": engine.info.device,
        "slots": engine.info.slots,
        "shapes": [list(shape) for shape in info.shapes],
        "padding_share": round(1 - real / sum(batch.padded_tokens for batch in batches), 4),
        "gpu_busy_share": busy,
        "gpu_memory_bytes": grown_bytes(watch.peak_bytes, before),
        "engine_ready_s": round(ready_s, 2),
    }
    emit(result)
    result["batch_alone_ms"] = {
        f"{batch.bucket}x{len(batch.tokens.lengths)}": spread(_alone(slots[0], batch))
        for batch in {(each.bucket, len(each.tokens.lengths)): each for each in batches}.values()
    }
    emit(result)
    for slot in slots:
        slot.close()
    engine.close()


def _alone(slot: Slot, batch: EncoderBatch) -> list[float]:
    """Milliseconds of a batch, its copies included."""
    taken: list[float] = []
    for _ in range(_ALONE):
        started_s = time.perf_counter()
        slot.encode(batch.tokens)
        taken.append(1000 * (time.perf_counter() - started_s))
    return np.sort(taken)[: _ALONE // 2 + 1].tolist()


if __name__ == "__main__":
    run(measure)
