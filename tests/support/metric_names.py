"""The metrics that exist, as what exposes them says."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric

from xuankan.portal.metrics import PortalMetrics as PortalMetrics
from xuankan.protocol.heartbeat import GpuLoad
from xuankan.protocol.queue_state import LaneState, Memory, QueueState
from xuankan_worker.operations.exporter import QueueMetrics, Scrape
from xuankan_worker.telemetry.metrics import WorkerMetrics

PROMETHEUS = Path(__file__).parents[2] / "deploy" / "prometheus"
GPU = GpuLoad(0, "NVIDIA H200", 0.5, 10**9, 10**11, 700.0, 60.0, 1.5e9)
LOOK = Scrape(
    QueueState(
        lanes={"interactive": LaneState(3, 1), "bulk": LaneState()},
        memory=Memory(10, 100, "noeviction"),
        dead=0,
    ),
    {"interactive": 1.5, "bulk": 0.0},
)
_SUFFIXES = {
    "counter": ("_total",),
    "gauge": ("",),
    "histogram": ("_bucket", "_sum", "_count"),
    "info": ("_info",),
}


class _Copying:
    copy_s = 0.5


def families() -> dict[str, list[Metric]]:
    """Of a worker, an exporter and a portal."""
    worker = WorkerMetrics()
    worker.gpu.load = GPU
    worker.batches.measure_copies(_Copying())
    queue = QueueMetrics()
    queue.saw(LOOK)
    registry = CollectorRegistry()
    registry.register(queue)
    found = {"worker": worker.registry, "exporter": registry, "portal": PortalMetrics().registry}
    return {name: list(one.collect()) for name, one in found.items()}


def series(found: Iterable[Metric]) -> set[str]:
    """The names that queries use."""
    return {family.name + suffix for family in found for suffix in _SUFFIXES[family.type]}


def recorded() -> set[str]:
    """The names that recording rules make."""
    return set(re.findall(r"record: (\S+)", (PROMETHEUS / "recording.yml").read_text()))


def known() -> set[str]:
    """Everything that a query may name."""
    every = [family for found in families().values() for family in found]
    return series(every) | recorded() | {"up"}


def named(expression: str) -> set[str]:
    """The metrics that an expression names."""
    bare = re.sub(r'"[^"]*"', "", expression)
    return set(re.findall(r"\b(?:xuankan[_:][a-z0-9_:]+|process_[a-z_]+|up\b)", bare))
