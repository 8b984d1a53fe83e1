"""Counts batches for Prometheus.

Thousands run in a second, so counting takes no lock and no look-up of labels: the counts are kept and read in
the event loop's thread.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Any, get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from xuankan_worker.engines.base import Copies
from xuankan_worker.scheduling.batcher import Batch, Kind, Reason
from xuankan_worker.telemetry.gpu import GpuWatch

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
_ROWS = (1, 2, 4, 8, 12, 16, 24, 32, 64)


class _Histogram:
    """A histogram."""

    def __init__(self, edges: Sequence[float]) -> None:
        self._edges = edges
        self._counts = [0] * (len(edges) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._edges, value)] += 1
        self._sum += value

    def family(self, name: str, what: str) -> HistogramMetricFamily:
        below, cumulative = 0, list[tuple[str, float]]()
        for edge, count in zip((*self._edges, float("inf")), self._counts, strict=True):
            below += count
            cumulative.append(("+Inf" if edge == float("inf") else str(float(edge)), below))
        return HistogramMetricFamily(name, what, buckets=cumulative, sum_value=self._sum)


class BatchTally(Collector):
    """What was run since the start."""

    def __init__(self) -> None:
        self._rows = _Histogram(_ROWS)
        self._seconds = _Histogram(_SECONDS)
        self._real_tokens = 0
        self._engine_cpu_s = 0.0
        self._assembly_s = 0.0
        self._copies: Copies | None = None
        self._shapes: dict[tuple[Kind, int, int], list[int]] = {}
        self._reasons: dict[Reason, int] = dict.fromkeys(get_args(Reason), 0)

    def ran(self, batch: Batch[Any], real_tokens: int, seconds: float) -> None:
        """Count a batch that was run in `seconds`, and of whose tokens so many were no padding."""
        self._rows.observe(batch.rows)
        self._seconds.observe(seconds)
        self._real_tokens += real_tokens
        found = self._shapes.setdefault((batch.kind, batch.bucket, batch.padded_rows), [0, 0])
        found[0] += 1
        found[1] += batch.rows

    def spent(self, engine_cpu_s: float) -> None:
        """Count processor time in the engine."""
        self._engine_cpu_s += engine_cpu_s

    def dispatched(self, reason: Reason) -> None:
        """Count a batch that was handed to a context."""
        self._reasons[reason] += 1

    def measure_copies(self, engine: Copies) -> None:
        """Show what an engine's copies take."""
        self._copies = engine

    def assembled(self, seconds: float) -> None:
        """Count time of putting a batch's rows together, before the engine gets it."""
        self._assembly_s += seconds

    @property
    def batches(self) -> int:
        """Batches run."""
        return sum(count for count, _ in self._shapes.values())

    @property
    def real_tokens(self) -> int:
        """Tokens run that are no padding."""
        return self._real_tokens

    @property
    def run_tokens(self) -> int:
        """Tokens run, padding and empty rows included."""
        return sum(bucket * places * count for (_, bucket, places), (count, _) in self._shapes.items())

    def collect(self) -> Iterable[Metric]:
        """For the registry."""
        rows = CounterMetricFamily("xuankan_rows", "Rows run, by what ran them.", labels=["step"])
        for kind in get_args(Kind):
            rows.add_metric([kind], sum(run for (of, *_), (_, run) in self._shapes.items() if of == kind))
        tokens = CounterMetricFamily(
            "xuankan_tokens",
            "Tokens run, real ones and padding; an empty row is padding.",
            labels=["kind"],
        )
        tokens.add_metric(["real"], self._real_tokens)
        tokens.add_metric(["padding"], self.run_tokens - self._real_tokens)
        shaped = ["step", "bucket", "rows"]
        batches = CounterMetricFamily("xuankan_batches", "Batches run, by shape.", labels=shaped)
        filled = CounterMetricFamily(
            "xuankan_shape_rows",
            "Rows run, by shape; divided by batches times rows, how full batches are.",
            labels=shaped,
        )
        for (kind, bucket, places), (count, run) in sorted(self._shapes.items()):
            batches.add_metric([kind, str(bucket), str(places)], count)
            filled.add_metric([kind, str(bucket), str(places)], run)
        cpu = CounterMetricFamily(
            "xuankan_engine_cpu_seconds",
            "Processor time of the slots in the engine; the rest of the process is the worker's own.",
        )
        cpu.add_metric([], self._engine_cpu_s)
        assembly = CounterMetricFamily(
            "xuankan_assembly_seconds",
            "Time spent assembling batches; with several slots it overlaps with the engine's.",
        )
        assembly.add_metric([], self._assembly_s)
        if self._copies is not None:
            copies = CounterMetricFamily(
                "xuankan_copy_seconds",
                "Time on the device for copying batches to it and scores back.",
            )
            copies.add_metric([], self._copies.copy_s)
            yield copies
        dispatches = CounterMetricFamily(
            "xuankan_dispatches",
            "Batches dispatched, by why they were no larger: full, shared with other contexts or a "
            "shape without empty rows, drained (nothing else was waiting), retry.",
            labels=["reason"],
        )
        for reason, count in self._reasons.items():
            dispatches.add_metric([reason], count)
        yield from (rows, tokens, batches, filled, dispatches, cpu, assembly)
        yield self._rows.family("xuankan_batch_rows", "Rows of a batch.")
        yield self._seconds.family("xuankan_batch_seconds", "Time for which a batch occupies its context.")


class GpuMetrics(Collector):
    """Shows what a watch has seen last: nothing where there is no GPU."""

    def __init__(self, watch: GpuWatch) -> None:
        self._watch = watch

    def collect(self) -> Iterable[Metric]:
        """For the registry."""
        if (load := self._watch.load) is None:
            return
        for name, what, value in (
            ("busy_ratio", "Share of the last sampling period in which a kernel was running.", load.busy),
            ("memory_used_bytes", "Memory in use by all processes.", load.used_bytes),
            ("memory_limit_bytes", "Memory of the GPU.", load.memory_bytes),
            ("power_watts", "Power draw.", load.watts),
            ("temperature_celsius", "Temperature.", load.celsius),
            ("clock_hertz", "Clock of the multiprocessors; lower at the power limit.", load.clock_hz),
        ):
            if value is not None:
                family = GaugeMetricFamily(f"xuankan_gpu_{name}", what, labels=["gpu", "model"])
                family.add_metric([str(load.index), load.name], value)
                yield family
