"""Our engine without queue or worker: a minimal loop drives every slot over full batches, sorted before."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from xuankan_worker.bench.gpu.child import ChildTask, Emit, Rows, run, say
from xuankan_worker.bench.gpu.figures import spread
from xuankan_worker.bench.gpu.nvml import GpuHandle, GpuMonitor, grown_bytes
from xuankan_worker.engines import Engine, EngineInfo, EngineKind, Slot, TokenBatch, open_engine


def full_batches(lengths: NDArray[np.int32], info: EngineInfo) -> list[slice]:
    """Cut pairs, longest first, into the largest batches that the engine runs."""
    batches: list[slice] = []
    start = 0
    while start < len(lengths):
        bucket = next(bucket for bucket in info.buckets if bucket >= lengths[start])
        end = min(start + info.max_rows(bucket), len(lengths))
        batches.append(slice(start, end))
        start = end
    return batches


class Drive:
    """Runs batches through all slots of an engine, a thread each."""

    def __init__(self, engine: Engine) -> None:
        self._slots: list[Slot] = [engine.open_slot(index) for index in range(engine.info.slots)]

    def go(self, batches: Sequence[TokenBatch], rounds: int) -> list[NDArray[np.float32]]:
        """Run every batch `rounds` times; the scores of the last round."""
        scores: list[NDArray[np.float32] | None] = [None] * len(batches)
        left = iter(range(len(batches) * rounds))
        lock = threading.Lock()
        failures: list[BaseException] = []

        def work(slot: Slot) -> None:
            try:
                while not failures:
                    with lock:
                        number = next(left, None)
                    if number is None:
                        return
                    at = number % len(batches)
                    scores[at] = slot.score(batches[at])
            except BaseException as error:  # told to the caller's thread
                failures.append(error)

        threads = [threading.Thread(target=work, args=(slot,)) for slot in self._slots]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]
        return cast("list[NDArray[np.float32]]", scores)

    def close(self) -> None:
        """Close the slots."""
        for slot in self._slots:
            slot.close()


def measure(job: ChildTask, emit: Emit) -> None:
    """Time passes over all pairs, and keep the scores."""
    gpu = GpuHandle()
    before = gpu.used_bytes()
    started_s = time.perf_counter()
    engine = open_engine(cast(EngineKind, job.engine), Path(job.release), job.max_batch)
    info = engine.info
    drive = Drive(engine)
    ready_s = time.perf_counter() - started_s
    rows = Rows.load(job)
    where = full_batches(rows.lengths, info)
    buckets = [next(bucket for bucket in info.buckets if bucket >= rows.lengths[one.start]) for one in where]
    batches = [rows.batch(one, bucket) for one, bucket in zip(where, buckets, strict=True)]
    run_tokens = sum(
        info.padded_rows(bucket, len(batch.lengths)) * bucket
        for bucket, batch in zip(buckets, batches, strict=True)
    )
    drive.go(batches, 1)
    timed_s = time.perf_counter()
    scored = drive.go(batches, 1)
    rounds = max(1, round(job.least_s / (time.perf_counter() - timed_s)))
    rates: list[float] = []
    with GpuMonitor(gpu) as watch:
        from_s = time.monotonic()
        for _ in range(job.repeats):
            timed_s = time.perf_counter()
            drive.go(batches, rounds)
            rates.append(rounds * rows.pairs.count / (time.perf_counter() - timed_s))
            say(f"{rates[-1]:,.0f} pairs/s over {rounds} times {rows.pairs.count} pairs")
        busy = watch.busy_share(from_s, time.monotonic())
    scores = np.empty(rows.pairs.count, dtype=np.float32)
    scores[rows.order] = np.concatenate(scored)
    np.save(job.scores, scores.reshape(rows.pairs.candidates.shape))
    result: dict[str, Any] = {
        "pairs_per_s": spread(rates)["median"],
        "pairs_per_s_spread": spread(rates),
        "engine": info.name,
        "device": info.device,
        "contexts": info.contexts,
        "depth": info.depth,
        "shapes": [list(shape) for shape in info.shapes],
        "batches": len(batches),
        "padding_share": round(1 - float(rows.lengths.sum()) / run_tokens, 4),
        "gpu_busy_share": busy,
        "gpu_memory_bytes": grown_bytes(watch.peak_bytes, before),
        "gpu_memory_process_bytes": gpu.process_bytes(os.getpid()),
        "engine_ready_s": round(ready_s, 2),
    }
    emit(result)
    drive.close()
    engine.close()


if __name__ == "__main__":
    run(measure)
