"""What belongs to the queue and to no single worker, for Prometheus: also there while no worker is.

One exporter serves a deployment. It looks at the server every two seconds, and answers by the last look.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from redis import exceptions

from xuankan.client.limits import Load, Memory, WorkerPace, expected_wait_s
from xuankan.logs import fields
from xuankan.protocol.keys import GROUP, LANES, Keys, Lane
from xuankan_worker.queue.connection import Server
from xuankan_worker.telemetry.endpoint import HttpEndpoint

_log = logging.getLogger(__name__)
_PERIOD_S: Final = 2.0
_ASSUMED_ROWS_PER_S: Final = 100.0
"""Of a worker, until one was seen to be busy: about what two CPU cores do with the packaged model."""


@dataclass(frozen=True, slots=True)
class Scrape:
    """The queue at one moment.

    Attributes:
        load: what waits and who works.
        oldest_s: by lane, how long the oldest request that no worker has read has waited, at most; 0 if none
            waits. Empty where the user may not ask.
        dead: entries of the dead stream.
    """

    load: Load
    oldest_s: Mapping[Lane, float]
    dead: int


class QueueMetrics(Collector):
    """Shows the last look; without one, that the server is away."""

    def __init__(self) -> None:
        self._worker_rows_per_s = _ASSUMED_ROWS_PER_S
        self._look: Scrape | None = None

    def saw(self, look: Scrape | None) -> None:
        """Take note of a look; None: the server does not answer."""
        self._look = look
        if look is not None and look.load.rows_per_s is not None:
            staying = sum(worker.state != "draining" for worker in look.load.workers)
            self._worker_rows_per_s = look.load.rows_per_s / staying

    def collect(self) -> Iterable[Metric]:
        """For the registry."""
        look = self._look
        yield GaugeMetricFamily(
            "xuankan_queue_up", "1 while the server answers about the queue.", look is not None
        )
        if look is not None:
            yield from self._lanes(look)
            yield from _whole(look)

    def _lanes(self, look: Scrape) -> Iterable[Metric]:
        load, by_lane = look.load, ["lane"]
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
            requests.add_metric([lane, "queued"], load.queued[lane])
            requests.add_metric([lane, "running"], load.length[lane] - load.queued[lane])
            rows = load.queued[lane] * load.rows_per_request
            work.add_metric([lane], rows / self._worker_rows_per_s)
            wait.add_metric([lane], self._wait_s(load, lane))
            if lane in look.oldest_s:
                oldest.add_metric([lane], look.oldest_s[lane])
        yield from (requests, work, wait, oldest)

    def _wait_s(self, load: Load, lane: Lane) -> float:
        if (known := expected_wait_s(load, lane)) is not None:
            return known
        staying = sum(worker.state != "draining" for worker in load.workers)
        if not staying:
            return math.inf
        return sum(load.queued.values()) * load.rows_per_request / (staying * self._worker_rows_per_s)


def _whole(look: Scrape) -> Iterable[Metric]:
    load = look.load
    workers = GaugeMetricFamily("xuankan_workers", "Live workers, by state.", labels=["state"])
    for state in ("starting", "running", "draining"):
        workers.add_metric([state], sum(worker.state == state for worker in load.workers))
    yield workers
    yield GaugeMetricFamily(
        "xuankan_capacity_rows_per_second",
        "Rows per second of all workers while rows wait.",
        load.rows_per_s or 0,
    )
    yield GaugeMetricFamily("xuankan_dead_letters", "Entries of the dead stream.", look.dead)
    if (memory := load.memory) is not None:
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
        self._keys = keys
        self._server = Server(url, keys)
        self._metrics = QueueMetrics()
        self._unasked: set[str] = set()
        self._started_ms = self._server.now_ms()
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
        await self._server.close()

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
        keys = self._keys
        await self._server.synchronise()
        names = sorted(
            name.decode() for name in cast(set[bytes], await self._may("SMEMBERS", keys.workers) or ())
        )
        beats = [await self._may("GET", keys.worker(name)) for name in names]
        length: dict[Lane, int] = {}
        queued: dict[Lane, int] = {}
        oldest_s: dict[Lane, float] = {}
        for lane in LANES:
            stream = keys.stream(lane)
            pending = await self._may("XPENDING", stream, GROUP)
            length[lane] = int(await self._may("XLEN", stream) or 0)
            queued[lane] = max(0, length[lane] - (0 if pending is None else int(pending["pending"])))
            if (age_s := await self._oldest_s(lane, queued[lane])) is not None:
                oldest_s[lane] = age_s
        info = await self._may("INFO", "memory")
        load = Load(
            length=length,
            queued=queued,
            workers=tuple(WorkerPace.from_json(beat) for beat in beats if beat is not None),
            memory=None if info is None else Memory.from_info(info),
        )
        return Scrape(load, oldest_s, int(await self._may("XLEN", keys.dead) or 0))

    async def _oldest_s(self, lane: Lane, queued: int) -> float | None:
        """The age of the oldest that waits, from what was there before it, as its content is not for us.

        It came after the last that was handed out, and after the last look that found none waiting: so this
        is at most the time between two looks, or two arrivals, too long.
        """
        groups = cast(
            Sequence[Mapping[str, Any]] | None, await self._may("XINFO GROUPS", self._keys.stream(lane))
        )
        if "XINFO GROUPS" in self._unasked:
            return None
        now_ms = self._server.now_ms()
        if not queued:
            self._empty_ms[lane] = now_ms
            return 0.0
        handed_out = next(
            (_text(row["last-delivered-id"]) for row in groups or () if _text(row["name"]) == GROUP), "0"
        )
        before_ms = max(float(handed_out.partition("-")[0]), self._empty_ms.get(lane, 0.0))
        return max(0.0, now_ms - (before_ms or self._started_ms)) / 1000

    async def _may(self, *command: str | int) -> Any:
        """Run a command; None for what this user may not ask, and for what is not there yet."""
        try:
            return await self._server.command(*command)
        except exceptions.NoPermissionError:
            name = str(command[0])
            if name not in self._unasked:
                self._unasked.add(name)
                _log.warning(
                    "the server does not allow this user to ask; metric left out", extra=fields(command=name)
                )
            return None
        except exceptions.ResponseError as error:
            if str(error).startswith(("NOGROUP", "no such key")):
                return None
            raise


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else name
