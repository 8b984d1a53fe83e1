"""The worker: its parts, their start, and their end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import platform
import time
import uuid
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from types import TracebackType

from redis import exceptions

from xuankan.errors import DeviceLost, EngineError, MemoryExhausted, ServerUnavailable
from xuankan.logs import fields
from xuankan.protocol.heartbeat import WorkerStatus
from xuankan.protocol.keys import LANES
from xuankan.transport.server import end_tasks
from xuankan_worker.config import WorkerConfig
from xuankan_worker.consumer.cancellations import Cancellations
from xuankan_worker.consumer.heartbeat import Heartbeat
from xuankan_worker.consumer.intake import Intake
from xuankan_worker.consumer.recovery import Recovery
from xuankan_worker.dispatch.dispatcher import Dispatcher
from xuankan_worker.engines.base import Copies
from xuankan_worker.execution.served_model import ServedModel
from xuankan_worker.queue.connection import QueueConnection
from xuankan_worker.queue.streams import Streams
from xuankan_worker.telemetry.endpoint import HttpEndpoint
from xuankan_worker.telemetry.metrics import WorkerMetrics
from xuankan_worker.telemetry.throughput import Throughput

_log = logging.getLogger(__name__)
_GOODBYE_S = 2.0
_LOST_WAIT_S = 1.0
"""How long a slot may take to notice that its device is lost, before its thread is left behind."""


class Worker:
    """Serves a shard's streams with one engine.

    Usable inside another program: `async with Worker(config, served):` serves until the block ends, then
    drains. The server need not be there at the start. Made inside a running event loop.
    """

    def __init__(self, config: WorkerConfig, served: ServedModel) -> None:
        self._config = config
        self._served = served
        self._stopping = asyncio.Event()
        self._metrics = metrics = WorkerMetrics()
        self._server = QueueConnection(config.url, config.keys, self._on_server_change)
        self._dispatcher = Dispatcher(config, served, self._server, metrics)
        self._streams = streams = Streams(self._server, config.keys, config.name, self._stopping)
        self._recovery = Recovery(config, streams, self._dispatcher, metrics)
        self._intake = Intake(config, streams, self._dispatcher, self._recovery, metrics)
        self._heartbeat = Heartbeat(
            *(config, self._server, streams, self._dispatcher, self._recovery),
            *(self.status, metrics.name_shared),
        )
        self._cancellations = Cancellations(config, self._server, self._dispatcher)
        self._http = HttpEndpoint(metrics.registry, self.not_ready)
        self._started_s = time.monotonic()
        self._incarnation = uuid.uuid4().hex[:12]
        self._throughput = Throughput(self._started_s)
        self._state = "starting"
        self._main: asyncio.Task[None] | None = None
        metrics.contexts.set(served.engine.info.contexts)
        if isinstance(served.engine, Copies):
            metrics.batches.measure_copies(served.engine)
        metrics.info.info(
            {
                "name": config.name,
                "release": served.release,
                "engine": served.engine.info.name,
                "catalogue": served.catalogue.version,
            }
        )

    async def __aenter__(self) -> Worker:
        """Warm the engine and begin to serve.

        Raises:
            EngineError: a slot cannot be opened.
            OSError: the metrics port cannot be listened on.
        """
        if self._config.metrics_port is not None:
            await self._http.start(self._config.metrics_host, self._config.metrics_port)
        try:
            await self._dispatcher.pool.start()
        except BaseException:
            await self._http.stop()
            await self._server.close()
            raise
        if not self._stopping.is_set():
            self._state = "running"
        info = self._served.engine.info
        if info.name == "tensorrt":
            self._metrics.gpu.start()
        _log.info(
            "worker ready",
            extra=fields(
                name=self._config.name,
                engine=info.name,
                device=info.device,
                contexts=info.contexts,
                release=self._served.release,
                journals=len(self._served.catalogue),
                metrics_port=self.metrics_port,
            ),
        )
        self._main = asyncio.create_task(self._serve())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drain."""
        self.stop()
        await self.wait()

    @property
    def metrics_port(self) -> int | None:
        """The port of `/metrics`, None if it is not served."""
        return self._http.port or None

    def stop(self) -> None:
        """Take nothing new, finish what is held, then end."""
        if not self._stopping.is_set():
            self._state = "draining"
            self._stopping.set()
            _log.info("draining", extra=fields(in_flight=len(self._dispatcher.held)))

    async def wait(self) -> None:
        """Wait until the worker has ended: after `stop`, or in a burst when the streams are empty.

        Raises:
            DeviceLost: nothing runs on the engine's device any more.
            MemoryExhausted: this process or its device has no memory left.
            EngineError: the engine failed everything.
            ServerUnavailable: the server refuses for a reason that waiting does not change.
                In all cases what the worker held is left to others; where the engine is to blame, at once.
        """
        assert self._main is not None
        await asyncio.shield(self._main)

    def not_ready(self) -> str | None:
        """Why no traffic should be counted on, None if all is well."""
        if self._state != "running":
            return self._state
        return None if self._server.up else "the Redis/Valkey server cannot be reached"

    def status(self) -> WorkerStatus:
        """What this worker says of itself."""
        now_s = time.monotonic()
        self._throughput.look(now_s, self._dispatcher.rows_done, self._dispatcher.waiting_rows)
        info, counted = self._served.engine.info, self._metrics.batches
        return WorkerStatus(
            name=self._config.name,
            state=self._state,
            host=platform.node(),
            pid=os.getpid(),
            incarnation=self._incarnation,
            up_s=round(now_s - self._started_s, 6),
            version=_version(),
            release=self._served.release,
            template=self._served.template.fingerprint,
            catalogue=self._served.catalogue.version,
            engine=info.name,
            device=info.device,
            contexts=info.contexts,
            max_batch=min(self._config.max_batch, info.max_batch),
            started_ms=self._server.clock.now_ms() - (now_s - self._started_s) * 1000,
            in_flight=len(self._dispatcher.held),
            waiting_rows=self._dispatcher.waiting_rows,
            requests_done=self._dispatcher.requests_done,
            rows_done=self._dispatcher.rows_done,
            rows_per_s=round(self._throughput.rows_per_s, 2),
            capacity_rows_per_s=round(self._throughput.capacity_rows_per_s, 2),
            batches_done=counted.batches,
            tokens_done=counted.real_tokens,
            padding_tokens=counted.run_tokens - counted.real_tokens,
            busy_contexts=self._dispatcher.pool.busy,
            gpu=self._metrics.gpu.load,
        )

    def _on_server_change(self, up: bool) -> None:
        self._metrics.server_up.set(up)
        if not up:
            self._metrics.disconnects.inc()

    async def _serve(self) -> None:
        helpers = [
            asyncio.create_task(self._dispatcher.committer.run()),
            asyncio.create_task(self._heartbeat.run()),
            asyncio.create_task(self._recovery.run(self._stopping)),
            asyncio.create_task(self._cancellations.run()),
        ]
        readers = [asyncio.create_task(self._intake.run(lane, self._stopping)) for lane in LANES]
        work = asyncio.create_task(self._work(readers))
        everything: set[asyncio.Future[None]] = {work, self._dispatcher.broken, *helpers}
        wait_s, blameless = None, False
        try:
            ended, _ = await asyncio.wait(everything, return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                task.result()
            with contextlib.suppress(exceptions.RedisError, OSError):  # its heartbeat runs out by itself
                await self._heartbeat.sign_off()
            _log.info(
                "worker done",
                extra=fields(requests=self._dispatcher.requests_done, rows=self._dispatcher.rows_done),
            )
        except DeviceLost:  # what ran may have broken it, and that counts
            wait_s = _LOST_WAIT_S
            raise
        except (EngineError, MemoryError) as error:
            wait_s, blameless = _LOST_WAIT_S, True
            if isinstance(error, MemoryError):
                raise MemoryExhausted("the worker's process has no memory left") from error
            raise
        finally:
            self._state = "stopped"
            self._stopping.set()
            await end_tasks(*everything, *readers)
            # What they raised is known or of no interest now.
            await asyncio.gather(*everything, *readers, return_exceptions=True)
            if blameless:
                await self._hand_back()
            await self._dispatcher.pool.stop(wait_s)
            self._metrics.gpu.stop()
            await self._http.stop()
            await self._server.close()

    async def _hand_back(self) -> None:
        """Give back what we hold, as nothing of it is to blame; else it is left when its leases are over."""
        held = len(self._dispatcher.held)
        with contextlib.suppress(ServerUnavailable, TimeoutError, MemoryError):
            async with asyncio.timeout(_GOODBYE_S):
                await self._streams.hand_back()
            _log.warning("handed back what this worker held", extra=fields(requests=held))

    async def _work(self, readers: Sequence[asyncio.Task[None]]) -> None:
        await asyncio.gather(*readers)
        await self._dispatcher.empty.wait()


def _version() -> str:
    try:
        return version("xuankan")
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "unknown"
