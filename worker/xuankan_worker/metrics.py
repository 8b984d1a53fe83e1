"""What a worker counts and measures, for Prometheus."""

from __future__ import annotations

from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector

from xuankan.protocol.keys import LANES, Lane
from xuankan_worker.tally import BatchTally

_M = TypeVar("_M", Counter, Gauge, Histogram)
_BATCH_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    """The instruments of one worker, in a registry of their own, so that several run in one process."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.info = Info("xuankan_worker", "What this worker serves.", registry=registry)
        self.received = _by_lane(
            Counter("xuankan_requests_received", "Entries read from a stream.", ["lane"], registry=registry)
        )
        self.recovered = _by_lane(
            Counter(
                "xuankan_requests_recovered",
                "Entries taken over: our own of before, or of a worker that died.",
                ["lane"],
                registry=registry,
            )
        )
        self.results = Counter(
            "xuankan_results",
            "Requests ended, by status and failure code.",
            ["status", "code"],
            registry=registry,
        )
        self.duplicates = Counter(
            "xuankan_results_duplicate", "Commits that found a result already there.", registry=registry
        )
        self.buried = Counter(
            "xuankan_dead_entries", "Entries sent to the dead stream.", ["code"], registry=registry
        )
        self.batches = BatchTally()
        registry.register(self.batches)
        self.batch_failures = Counter(
            "xuankan_batch_failures", "Batches that an engine failed to run.", registry=registry
        )
        self.queue_seconds = _by_lane(
            Histogram(
                "xuankan_queue_seconds",
                "Time from the server's receipt of a request to a worker's reading it.",
                ["lane"],
                buckets=_SECONDS,
                registry=registry,
            )
        )
        self.request_seconds = _by_lane(
            Histogram(
                "xuankan_request_seconds",
                "Time from the server's receipt of a request to its ranking.",
                ["lane"],
                buckets=_SECONDS,
                registry=registry,
            )
        )
        self.commit_seconds = Histogram(
            "xuankan_commit_seconds",
            "Time of a commit's round trip.",
            buckets=_BATCH_SECONDS,
            registry=registry,
        )
        self.in_flight = Gauge(
            "xuankan_requests_in_flight", "Requests that this worker holds.", registry=registry
        )
        self.waiting_rows = _by_lane(
            Gauge("xuankan_waiting_rows", "Rows read that wait to be run.", ["lane"], registry=registry)
        )
        self.busy_contexts = Gauge("xuankan_busy_contexts", "Execution contexts at work.", registry=registry)
        self.batches_in_flight = Gauge(
            "xuankan_batches_in_flight", "Batches that run or are at hand for a context.", registry=registry
        )
        self.server_up = Gauge("xuankan_server_up", "1 while the server answers.", registry=registry)
        self.disconnects = Counter(
            "xuankan_server_disconnects", "Times that the server went away.", registry=registry
        )


def _by_lane(metric: _M) -> dict[Lane, _M]:
    """A metric's children, looked up once rather than at every use."""
    return {lane: metric.labels(lane) for lane in LANES}
