"""What belongs to the queue and to no single worker, for Prometheus: also there while no worker is.

One exporter serves a deployment. It looks at the server every two seconds, and answers by the last look.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from redis import exceptions

from xuankan.logs import fields
from xuankan.protocol.keys import LANES, Keys, Lane
from xuankan.protocol.queue_state import QueueReader, QueueState
from xuankan.transport.client import open_client
from xuankan_worker.telemetry.endpoint import HttpEndpoint

_log = logging.getLogger(__name__)
_PERIOD_S: Final = 2.0
_ASSUMED_ROWS_PER_S: Final = 100.0
"""Of a worker, until one was seen to be busy: about what two CPU cores do with the packaged model."""


@dataclass(frozen=True, slots=True)
class Scrape:
    """The queue at one moment.

    Attributes:
        state: what the server told.
        oldest_s: by lane, how long the oldest request that no worker has read has waited, at most; 0 if none
            waits. Empty where the user may not ask.
    """

    state: QueueState
    oldest_s: Mapping[Lane, float]


class QueueMetrics(Collector):
    """Shows the last look; without one, that the server is away."""

    def __init__(self) -> None:
        self._worker_rows_per_s = _ASSUMED_ROWS_PER_S
        self._look: Scrape | None = None

    def saw(self, look: Scrape | None) -> None:
        """Take note of a look; None: the server does not answer."""
        self._look = look
        if look is not None and look.state.rows_per_s is not None:
            self._worker_rows_per_s = look.state.rows_per_s / len(look.state.serving)

    def collect(self) -> Iterable[Metric]:
        """For the registry."""
        look = self._look
        yield GaugeMetricFamily(
            "xuankan_queue_up", "1 while the server answers about the queue.", look is not None
        )
        if look is not None:
            yield from self._lanes(look)
            yield from _whole(look.state)

    def _lanes(self, look: Scrape) -> Iterable[Metric]:
        state, by_lane = look.state, ["lane"]
        requests = GaugeMetricFamily(
            "xuankan_queue_requests",
            "Requests on a lane's stream: queued, which no worker has read, and running, which workers hold.",
            labels=["lane", "state"],
        )
        work = GaugeMetricFamily(
            "xuankan_queue_work_seconds",
            "Waiting work, in seconds for one worker of the current average speed.",
            labels=by_lane,
        )
        wait = GaugeMetricFamily(
            "xuankan_queue_wait_seconds",
            "Expected wait of a request submitted now; infinite without workers.",
            labels=by_lane,
        )
        oldest = GaugeMetricFamily(
            "xuankan_queue_oldest_seconds",
            "Age of the oldest request that no worker has read; 0 if none is waiting.",
            labels=by_lane,
        )
        for lane in LANES:
            queued = state.queued(lane)
            requests.add_metric([lane, "queued"], queued)
            requests.add_metric([lane, "running"], state.length(lane) - queued)
            work.add_metric([lane], queued * state.rows_per_request / self._worker_rows_per_s)
            wait.add_metric([lane], self._wait_s(state, lane))
            if lane in look.oldest_s:
                oldest.add_metric([lane], look.oldest_s[lane])
        yield from (requests, work, wait, oldest)

    def _wait_s(self, state: QueueState, lane: Lane) -> float:
        if (known := state.expected_wait_s(lane)) is not None:
            return known
        if not state.serving:
            return math.inf
        return state.waiting * state.rows_per_request / (len(state.serving) * self._worker_rows_per_s)


def _whole(state: QueueState) -> Iterable[Metric]:
    workers = GaugeMetricFamily("xuankan_workers", "Live workers, by state.", labels=["state"])
    for name in ("starting", "running", "draining"):
        workers.add_metric([name], sum(worker.state == name for worker in state.workers or ()))
    yield workers
    yield GaugeMetricFamily(
        "xuankan_capacity_rows_per_second",
        "Rows per second of all workers while rows wait.",
        state.rows_per_s or 0,
    )
    yield GaugeMetricFamily("xuankan_dead_letters", "Entries of the dead stream.", state.dead or 0)
    if (memory := state.memory) is not None:
        yield GaugeMetricFamily(
            "xuankan_server_memory_used_bytes", "Memory used by the server.", memory.used_bytes
        )
        yield GaugeMetricFamily(
            "xuankan_server_memory_limit_bytes", "The server's maxmemory; 0 if it has none.", memory.max_bytes
        )
        yield GaugeMetricFamily(
            "xuankan_server_evicts",
            "1 if the server evicts keys when its memory is full, which loses rankings.",
            memory.evicts,
        )


class Exporter:
    """Looks at a shard's queue, and serves what it saw.

    Usable as an asynchronous context manager; `port` then says where `/metrics` is.

    Raises:
        InputError: a URL that cannot be one.
    """

    def __init__(self, url: str, keys: Keys) -> None:
        self._redis = open_client(url, keys)
        self._reader = QueueReader(keys, for_operators=True)
        self._metrics = QueueMetrics()
        self._forbidden: set[str] = set()
        self._started_ms: float | None = None
        self._empty_ms: dict[Lane, float] = {}  # when a lane was last seen with nothing waiting
        registry = CollectorRegistry()
        registry.register(self._metrics)
        ProcessCollector(registry=registry)
        self._http = HttpEndpoint(registry, self._not_ready)
        self._watching: asyncio.Task[None] | None = None
        self._up = False

    @property
    def port(self) -> int:
        """Of `/metrics`."""
        return self._http.port

    async def start(self, host: str, port: int) -> None:
        """Serve from now on; port 0 takes any free one.

        Raises:
            OSError: the port cannot be listened on.
        """
        await self._http.start(host, port)
        self._watching = asyncio.create_task(self._watch(), name="xuankan-exporter")

    async def stop(self) -> None:
        """End."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait((self._watching,))
        await self._http.stop()
        await self._redis.aclose()

    def _not_ready(self) -> str | None:
        return None if self._up else "the Redis/Valkey server cannot be reached"

    async def _watch(self) -> None:
        while True:
            started_s = time.monotonic()
            try:
                look = await self._ask()
            except (exceptions.RedisError, OSError) as error:
                if self._up:
                    _log.warning("the server does not answer", extra=fields(reason=str(error)))
                look = None
            self._up = look is not None
            self._metrics.saw(look)
            await asyncio.sleep(max(0.0, _PERIOD_S - (time.monotonic() - started_s)))

    async def _ask(self) -> Scrape:
        state = await self._reader.read(self._redis)
        for command in sorted({*state.forbidden} - self._forbidden):
            _log.warning(
                "the server does not allow this user to ask; metric left out", extra=fields(command=command)
            )
        self._forbidden |= {*state.forbidden}
        oldest_s: dict[Lane, float] = {}
        for lane in LANES:
            if (age_s := self._oldest_s(state, lane)) is not None:
                oldest_s[lane] = age_s
        return Scrape(state, oldest_s)

    def _oldest_s(self, state: QueueState, lane: Lane) -> float | None:
        """The age of the oldest that waits, from what was there before it, as its content is not for us.

        It came after the last that was handed out, and after the last look that found none waiting: so this
        is at most the time between two looks, or two arrivals, too long.
        """
        now_ms, handed_out_ms = state.now_ms, state.lanes[lane].handed_out_ms
        if now_ms is None or handed_out_ms is None:
            return None
        if self._started_ms is None:
            self._started_ms = now_ms
        if not state.queued(lane):
            self._empty_ms[lane] = now_ms
            return 0.0
        before_ms = max(handed_out_ms, self._empty_ms.get(lane, 0.0))
        return max(0.0, now_ms - (before_ms or self._started_ms)) / 1000
