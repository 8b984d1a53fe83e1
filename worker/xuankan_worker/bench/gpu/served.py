"""The whole worker: producer processes, a real server, `xuankan worker run`, rankings back at producers."""

from __future__ import annotations

import math
import os
import threading
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Self

from prometheus_client.parser import text_string_to_metric_families

from xuankan.embedded.servers import EmbeddedServer, EmbeddedWorker, free_port
from xuankan.errors import XuankanError
from xuankan_worker.bench.gpu.child import ChildTask, Emit, run, say
from xuankan_worker.bench.gpu.feeders import Feeders
from xuankan_worker.bench.gpu.figures import percentiles, spread, steady_rates
from xuankan_worker.bench.gpu.nvml import GpuHandle, GpuMonitor, grown_bytes
from xuankan_worker.bench.gpu.pairs import Pairs

LOADS = (0.5, 0.8)
BESIDE = 0.2
"""Share of the full load that is interactive while a backlog takes all the rest."""
_ENGINE_CACHE = "XUANKAN_CACHE"
"""The environment variable that says where a worker keeps the kernels it compiled."""
_LIMIT_S = 600.0


class MeasuredWorker(EmbeddedWorker):
    """A worker with its metrics.

    Attributes:
        port: of its metrics.
        ready_s: seconds from spawning it to its saying that it is ready.
    """

    _start_timeout_s = _LIMIT_S  # the first start compiles kernels

    def __init__(self, url: str, job: ChildTask) -> None:
        self.port, self.ready_s = free_port(), math.nan
        options = ("--engine", job.engine, "--model", job.release, "--max-batch", str(job.max_batch))
        super().__init__(url, options=(*options, "--metrics-port", str(self.port)))

    def start(self) -> Self:
        started_s = time.perf_counter()
        super().start()
        while not _is_ready(self.port):
            time.sleep(0.005)
        self.ready_s = round(time.perf_counter() - started_s, 2)
        threading.Thread(target=self._mourn, name="worker watch", daemon=True).start()
        return self

    def _mourn(self) -> None:
        """End everything if the worker ends by itself: its producers would wait for ever."""
        process = self._process
        while process is not None and not self._closed:
            if process.poll() is not None and not self._closed:
                say(f"the worker ended with status {process.returncode}: {self._log_end()}")
                os._exit(1)
            time.sleep(0.2)

    @property
    def pid(self) -> int:
        """Of its process, which takes the launcher's place."""
        assert self._process is not None
        return self._process.pid


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=10):
            return True
    except urllib.error.URLError:
        return False


@dataclass(frozen=True, slots=True)
class Counters:
    """Workers' own counters at one time, added up.

    Attributes:
        at_s: monotonic.
        real_tokens, padding_tokens, rows, batches, process_cpu_s, engine_cpu_s: since their start.
    """

    at_s: float
    real_tokens: float
    padding_tokens: float
    rows: float
    batches: float
    process_cpu_s: float
    engine_cpu_s: float

    @classmethod
    def read(cls, ports: Sequence[int]) -> Counters:
        """Ask the workers on this host, and add up."""
        values: defaultdict[tuple[str, str], float] = defaultdict(float)
        for port in ports:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as reply:
                text = reply.read().decode()
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    values[sample.name, sample.labels.get("kind", sample.labels.get("step", ""))] += (
                        sample.value
                    )
        return cls(
            at_s=time.monotonic(),
            real_tokens=values["xuankan_tokens_total", "real"],
            padding_tokens=values["xuankan_tokens_total", "padding"],
            rows=values["xuankan_rows_total", "encoder"] + values["xuankan_rows_total", "cross_encoder"],
            batches=values["xuankan_batch_rows_count", ""],
            process_cpu_s=values["process_cpu_seconds_total", ""],
            engine_cpu_s=values["xuankan_engine_cpu_seconds_total", ""],
        )


def measure(job: ChildTask, emit: Emit) -> None:
    """Starts, full load, one at a time, shares of the full load, and a part of it beside a backlog.

    With no compiled kernel in the cache yet, the worker starts twice: without them and with them.
    """
    gpu = GpuHandle()
    before = gpu.used_bytes()
    pairs = Pairs.load(Path(job.pairs))
    result: dict[str, Any] = {"pairs_per_s": None, "workers": job.workers, "producers": job.producers}
    with EmbeddedServer() as server:
        cache = Path(os.environ[_ENGINE_CACHE])
        if not cache.is_dir() or not any(cache.iterdir()):
            with MeasuredWorker(server.url, job) as first:
                result["ready_without_cache_s"] = first.ready_s
            say(f"first start ready after {first.ready_s:.1f} s")
            emit(result)
        with ExitStack() as stack, GpuMonitor(gpu) as watch:
            workers: list[MeasuredWorker] = []
            for _ in range(job.workers):
                workers.append(stack.enter_context(MeasuredWorker(server.url, job)))
                say(f"ready after {workers[-1].ready_s:.1f} s")
            result["ready_s"] = workers[0].ready_s
            emit(result)
            with Feeders(
                server.url, Path(job.pairs), Path(job.release), job.producers, len(pairs.manuscripts)
            ) as feeders:
                rates = _full_load(job, pairs, feeders, [each.port for each in workers], watch, result)
                result["gpu_memory_bytes"] = grown_bytes(watch.peak_bytes, before)
                result["gpu_memory_process_bytes"] = _sum(gpu.process_bytes(each.pid) for each in workers)
                emit(result)
                _latencies(job, feeders, rates, result, emit)


def _sum(sizes: Iterable[int | None]) -> int | None:
    known = [size for size in sizes if size is not None]
    return sum(known) if known else None


def _full_load(
    job: ChildTask,
    pairs: Pairs,
    feeders: Feeders,
    ports: Sequence[int],
    watch: GpuMonitor,
    result: dict[str, Any],
) -> float:
    """Measure throughput; rankings per second."""
    seen: list[Counters] = []
    sampling = threading.Event()

    def sample() -> None:
        while not sampling.wait(min(1.0, job.load_s / 20)):
            seen.append(Counters.read(ports))

    sampler = threading.Thread(target=sample, daemon=True)
    started_s = time.monotonic()
    sampler.start()
    try:
        answer = feeders.tell(_loading(job, job.producers))
    finally:
        sampling.set()
        sampler.join()
    ended = sorted(answer.values)
    candidates = pairs.candidates.shape[1]
    # The first round of all manuscripts is discarded, and what ends after the last submission.
    from_s, until_s = ended[min(len(pairs.manuscripts), len(ended) // 3)], started_s + job.load_s
    steady = [each for each in seen if from_s <= each.at_s <= until_s]
    if len(steady) < 2:
        raise XuankanError(f"{len(ended)} rankings in {job.load_s:g} s are too few to measure")
    first, last = steady[0], steady[-1]
    rates = [rate * candidates for rate in steady_rates(ended, from_s, until_s, max(3, job.repeats))]
    if not min(rates):
        raise XuankanError(f"no ranking ended in a third of {until_s - from_s:.1f} s")
    seconds = last.at_s - first.at_s
    real, padding = last.real_tokens - first.real_tokens, last.padding_tokens - first.padding_tokens
    result |= {
        "pairs_per_s": spread(rates)["median"],
        "pairs_per_s_spread": spread(rates),
        "manuscripts_per_s": round(spread(rates)["median"] / candidates, 1),
        "pairs_per_s_with_start_and_end": round(len(ended) * candidates / (ended[-1] - started_s), 1),
        "rankings": len(ended),
        "padding_share": round(padding / (real + padding), 4),
        "tokens_run_per_s": round((real + padding) / seconds, 1),
        "rows_per_batch": round((last.rows - first.rows) / (last.batches - first.batches), 2),
        "gpu_busy_share": watch.busy_share(from_s, until_s),
        "worker_cpu_cores": round((last.process_cpu_s - first.process_cpu_s) / seconds, 3),
        "worker_cpu_cores_in_engine": round((last.engine_cpu_s - first.engine_cpu_s) / seconds, 3),
        "producers_cpu_cores": round(answer.cpu_s / (ended[-1] - started_s), 3),
    }
    say(
        f"{result['pairs_per_s']:,.0f} pairs/s, {result['manuscripts_per_s']:,.0f} manuscripts/s through the "
        "queue"
    )
    return result["pairs_per_s"] / candidates


def _latencies(
    job: ChildTask, feeders: Feeders, rankings_per_s: float, result: dict[str, Any], emit: Emit
) -> None:
    feeders.tell([{"do": "alone", "count": 5}])
    result["latency_alone"] = percentiles(feeders.tell([{"do": "alone", "count": job.alone}]).values)
    emit(result)
    for share in LOADS:
        answer = feeders.tell(_arriving(job, share * rankings_per_s, job.producers))
        name = f"latency_at_{share:.0%}".replace("%", "_percent")
        result[name] = percentiles(answer.values) | {
            "arrivals_per_s": round(share * rankings_per_s, 2),
            "producers_cpu_cores": round(answer.cpu_s / job.load_s, 3),
        }
        say(f"at {share:.0%} of it: p95 {result[name]['p95_ms']:.1f} ms")
        emit(result)
    # Half of the producers feed the bulk lane as fast as it is served; the others ask as a portal does.
    backlog = job.producers // 2
    rate = BESIDE * rankings_per_s
    answer = feeders.tell(_loading(job, backlog) + _arriving(job, rate, job.producers - backlog))
    result["latency_beside_backlog"] = percentiles(list(chain.from_iterable(answer.each[backlog:]))) | {
        "arrivals_per_s": round(rate, 2),
        "backlog_rankings": sum(len(each) for each in answer.each[:backlog]),
    }
    say(f"beside a backlog: p95 {result['latency_beside_backlog']['p95_ms']:.1f} ms")
    emit(result)


def _loading(job: ChildTask, producers: int) -> list[dict[str, Any]]:
    in_flight = math.ceil(job.in_flight * job.workers / producers)
    return [{"do": "load", "in_flight": in_flight, "seconds": job.load_s}] * producers


def _arriving(job: ChildTask, rate_per_s: float, producers: int) -> list[dict[str, Any]]:
    each = {"do": "arriving", "rate_per_s": rate_per_s / producers, "seconds": job.load_s}
    return [each | {"seed": seed} for seed in range(producers)]


if __name__ == "__main__":
    run(measure)
