"""Our engine without queue or worker: a minimal loop drives every slot over full batches, sorted before."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from xuankan_worker.bench.gpu.child import ChildTask, Emit, Rows, run, say
from xuankan_worker.bench.gpu.figures import spread
from xuankan_worker.bench.gpu.nvml import GpuHandle, GpuMonitor, grown_bytes
from xuankan_worker.engines import EngineInfo, EngineKind, Slot, open_engine

T = TypeVar("T")


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


def drive(slots: Sequence[Slot], work: Callable[[Slot, int], T], count: int, rounds: int) -> list[T]:
    """Do pieces of work 0 to `count` in all slots, `rounds` times; results of the last round."""
    results: dict[int, T] = {}
    left = iter(range(count * rounds))
    lock = threading.Lock()
    failures: list[BaseException] = []

    def go_on(slot: Slot) -> None:
        try:
            while not failures:
                with lock:
                    number = next(left, None)
                if number is None:
                    return
                results[number % count] = work(slot, number % count)
        except BaseException as error:  # told to the caller's thread
            failures.append(error)

    threads = [threading.Thread(target=go_on, args=(slot,)) for slot in slots]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return [results[at] for at in range(count)]


def measure(job: ChildTask, emit: Emit) -> None:
    """Time passes over all pairs, and keep the scores."""
    gpu = GpuHandle()
    before = gpu.used_bytes()
    started_s = time.perf_counter()
    engine = open_engine(cast(EngineKind, job.engine), Path(job.release), job.max_batch)
    info = engine.info
    slots = [engine.open_slot(index) for index in range(info.slots)]
    ready_s = time.perf_counter() - started_s
    rows = Rows.load(job)
    where = full_batches(rows.lengths, info)
    buckets = [next(bucket for bucket in info.buckets if bucket >= rows.lengths[one.start]) for one in where]
    batches = [rows.batch(one, bucket) for one, bucket in zip(where, buckets, strict=True)]
    run_tokens = sum(
        info.padded_rows(bucket, len(batch.lengths)) * bucket
        for bucket, batch in zip(buckets, batches, strict=True)
    )

    def go(rounds: int) -> list[NDArray[np.float32]]:
        return drive(slots, lambda slot, at: slot.score(batches[at]), len(batches), rounds)

    go(1)
    timed_s = time.perf_counter()
    scored = go(1)
    rounds = max(1, round(job.least_s / (time.perf_counter() - timed_s)))
    rates: list[float] = []
    with GpuMonitor(gpu) as watch:
        from_s = time.monotonic()
        for _ in range(job.repeats):
            timed_s = time.perf_counter()
            go(rounds)
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
    for slot in slots:
        slot.close()
    engine.close()


if __name__ == "__main__":
    run(measure)
