"""What a portal counts and measures, for Prometheus."""

from __future__ import annotations

from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector

_CALL_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_RANKING_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class PortalMetrics:
    """The instruments of one portal, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.info = Info("xuankan_portal", "The portal's version.", registry=registry)
        self.info.info({"version": version("xuankan")})
        self.requests = Counter(
            "xuankan_portal_requests",
            "Calls answered, by route, method and status.",
            ["route", "method", "status"],
            registry=registry,
        )
        self.seconds = Histogram(
            "xuankan_portal_request_seconds",
            "Time to answer a call, without event streams and waits for a ranking.",
            ["route"],
            buckets=_CALL_SECONDS,
            registry=registry,
        )
        self.rankings = Counter(
            "xuankan_portal_rankings",
            "Manuscripts submitted, by how the submission was answered: done, pending or a problem's code.",
            ["outcome"],
            registry=registry,
        )
        self.ranking_seconds = Histogram(
            "xuankan_portal_ranking_seconds",
            "Time from a submission's arrival to its ranking, where the caller waited for it.",
            buckets=_RANKING_SECONDS,
            registry=registry,
        )
        self.problems = Counter(
            "xuankan_portal_problems", "Problems answered, by code.", ["code"], registry=registry
        )
        self.key_requests = Counter(
            "xuankan_portal_key_requests", "Calls by the name of their API key.", ["key"], registry=registry
        )
        self.streams = Gauge("xuankan_portal_streams", "Open event streams.", registry=registry)
        self.waiting = Gauge(
            "xuankan_portal_waiting", "Calls that are waiting for a ranking.", registry=registry
        )
