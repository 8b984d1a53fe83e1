"""What a worker counts and measures, for Prometheus."""

from __future__ import annotations

from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector

from xuankan.protocol.keys import LANES, Lane
from xuankan.protocol.wire import Request, Result
from xuankan_worker.in_flight import Entry, EntryOutcome
from xuankan_worker.telemetry.batch_metrics import BatchTally, GpuMetrics
from xuankan_worker.telemetry.gpu import GpuWatch
from xuankan_worker.telemetry.tracing import trace_id_of

_M = TypeVar("_M", Counter, Gauge, Histogram)
_BATCH_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_SCORES = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
# There from the start, at 0: `increase` sees no first failure in a series that begins with it.
_ENDS = (
    ("ok", ""),
    ("failed", "engine_error"),
    ("failed", "too_many_deliveries"),
    ("expired", "deadline_exceeded"),
)
_BURIALS = ("engine_error", "too_many_deliveries", "undecodable")


class WorkerMetrics:
    """The instruments of one worker, in a registry of their own, so that several run in one process."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.info = Info("xuankan_worker", "Release, engine and catalogue of this worker.", registry=registry)
        self.received = _by_lane(
            Counter("xuankan_requests_received", "Entries read from a stream.", ["lane"], registry=registry)
        )
        self.recovered = _by_lane(
            Counter(
                "xuankan_requests_recovered",
                "Entries taken over: its own from before a restart, or those of a worker that died.",
                ["lane"],
                registry=registry,
            )
        )
        self.name_shared = Gauge(
            "xuankan_name_shared",
            "1 while another worker uses this worker's name.",
            registry=registry,
        )
        self.ended = Counter(
            "xuankan_requests_ended",
            "Requests ended, by status and failure code.",
            ["lane", "status", "code"],
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
        self.gpu = GpuWatch()
        registry.register(GpuMetrics(self.gpu))
        self.batch_failures = Counter(
            "xuankan_batch_failures", "Batches that an engine failed to run.", registry=registry
        )
        self.queue_seconds = _by_lane(
            Histogram(
                "xuankan_queue_seconds",
                "Time from the server's receipt of a request until a worker read it.",
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
        self.deadline_slack_seconds = _by_lane(
            Histogram(
                "xuankan_deadline_slack_seconds",
                "Time left until the deadline when the ranking was ready, for requests with a deadline.",
                ["lane"],
                buckets=_SECONDS,
                registry=registry,
            )
        )
        self.top_score = Histogram(
            "xuankan_top_score",
            "Score of the first journal of a ranking: how confident the release is.",
            buckets=_SCORES,
            registry=registry,
        )
        self.commit_seconds = Histogram(
            "xuankan_commit_seconds",
            "Round-trip time of a commit.",
            buckets=_BATCH_SECONDS,
            registry=registry,
        )
        self.in_flight = Gauge(
            "xuankan_requests_in_flight", "Requests that this worker holds.", registry=registry
        )
        self.waiting_rows = _by_lane(
            Gauge(
                "xuankan_waiting_rows",
                "Rows that have been read and wait to run.",
                ["lane"],
                registry=registry,
            )
        )
        self.contexts = Gauge("xuankan_contexts", "Execution contexts of the engine.", registry=registry)
        self.busy_contexts = Gauge(
            "xuankan_busy_contexts", "Execution contexts that are running a batch.", registry=registry
        )
        self.batches_in_flight = Gauge(
            "xuankan_batches_in_flight", "Batches that are running or ready for a context.", registry=registry
        )
        self.server_up = Gauge("xuankan_server_up", "1 while the server answers.", registry=registry)
        self.disconnects = Counter(
            "xuankan_server_disconnects", "Number of times the server became unreachable.", registry=registry
        )
        for lane in LANES:
            for status, code in _ENDS:
                self.ended.labels(lane, status, code)
        for code in _BURIALS:
            self.buried.labels(code)

    def ranked(self, entry: Entry, request: Request, result: Result) -> None:
        """Count a ranking that is ready to commit."""
        lane = entry.key.lane
        trace_id = trace_id_of(request.traceparent)
        self.request_seconds[lane].observe(
            max(0.0, result.completed_ms - entry.received_ms) / 1000,
            None if trace_id is None else {"trace_id": trace_id},
        )
        if request.deadline_ms is not None:
            slack_ms = request.deadline_ms - result.completed_ms
            self.deadline_slack_seconds[lane].observe(max(0.0, slack_ms) / 1000)
        if result.ranking:
            self.top_score.observe(result.ranking[0].score)

    def committed(self, outcome: EntryOutcome, written: bool | None, seconds: float) -> None:
        """Count an outcome that the server has; arguments as of `commit.Committer`."""
        self.commit_seconds.observe(seconds)
        if written:
            if (result := outcome.result) is not None:
                code = result.failure.code if result.failure is not None else ""
                self.ended.labels(outcome.entry.key.lane, result.status, code).inc()
            if outcome.burial is not None:
                self.buried.labels(outcome.burial.code).inc()
        elif written is not None:
            self.duplicates.inc()


def _by_lane(metric: _M) -> dict[Lane, _M]:
    """A metric's children, looked up once rather than at every use."""
    return {lane: metric.labels(lane) for lane in LANES}
