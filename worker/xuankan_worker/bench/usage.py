"""Where a worker's processor time goes, as its own metrics count it."""

from __future__ import annotations

import urllib.request
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

_PROCESS = "process_cpu_seconds_total"
_ENGINE = "xuankan_engine_cpu_seconds_total"


@dataclass(frozen=True, slots=True)
class Usage:
    """Processor seconds of a worker process.

    Attributes:
        engine_s: of its execution contexts: the engine itself and its copies in and out.
        process_s: of all of its threads.
    """

    engine_s: float
    process_s: float

    @property
    def own_share(self) -> float:
        """The worker's own cost: what is not the engine's, as a share of all."""
        return 1 - self.engine_s / self.process_s if self.process_s else 0.0

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.engine_s + other.engine_s, self.process_s + other.process_s)

    def __sub__(self, other: Usage) -> Usage:
        return Usage(self.engine_s - other.engine_s, self.process_s - other.process_s)


def read_usage(metrics_port: int) -> Usage:
    """What a worker on this host has used since its start."""
    with urllib.request.urlopen(f"http://127.0.0.1:{metrics_port}/metrics", timeout=10) as reply:
        text = reply.read().decode()
    values = {
        sample.name: float(sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    return Usage(values[_ENGINE], values[_PROCESS])
