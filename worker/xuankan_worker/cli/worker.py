"""`xuankan worker`: run a worker, and look at those that run."""

from __future__ import annotations

# Only light imports here: the engine, numpy and redis are loaded by the commands that need them.
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from xuankan.cli.options import catalogue_option, log_format_option, namespace_option, redis_option
from xuankan.outlets import echo, json_text

if TYPE_CHECKING:
    from xuankan.protocol.queue_state import QueueState
    from xuankan_worker.config import WorkerConfig
    from xuankan_worker.engines import EngineKind
    from xuankan_worker.execution.served_model import ServedModel

_REDIS = redis_option("The Redis/Valkey server: redis://, rediss:// (TLS) or unix://.")
_NAMESPACE = namespace_option("Prefix of every key, so that deployments can share a server.")


@click.group()
def worker() -> None:
    """Run workers, which score requests from the queue, and show their status."""


@worker.command()
@_REDIS
@_NAMESPACE
@click.option(
    "--engine",
    type=click.Choice(["auto", "tensorrt", "onnx"]),
    default="auto",
    show_default=True,
    help="What runs the model. auto: TensorRT if there is a GPU for it, otherwise ONNX Runtime on the CPU.",
)
@click.option(
    "--model",
    "model_dir",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A model release, as `xuankan model train` writes it. Default: the packaged one.",
)
@catalogue_option("A catalogue, as `xuankan catalogue` writes it.")
@click.option(
    "--max-batch",
    type=click.IntRange(1, 1024),
    default=16,
    show_default=True,
    help="Most rows in a batch.",
)
@click.option(
    "--name",
    metavar="NAME",
    help="Name of this worker; keep it over restarts, so that it finds what it held. "
    "Default: host name and the first number that no other worker on this host uses.",
)
@click.option(
    "--lease-s",
    type=click.FloatRange(0.1, 3600),
    default=30.0,
    show_default=True,
    help="Seconds after which others take over the requests of a worker that no longer answers.",
)
@click.option("--burst", is_flag=True, help="Exit when the queue is empty.")
@click.option(
    "--metrics-port",
    type=click.IntRange(0, 65535),
    help="Serve /metrics, /healthz and /readyz on this port; 0 picks a free one and logs it. Default: none.",
)
@click.option(
    "--metrics-host",
    metavar="ADDRESS",
    default="127.0.0.1",
    show_default=True,
    help="Address of --metrics-port; 0.0.0.0 in a container.",
)
@log_format_option()
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
)
def run(
    url: str,
    namespace: str,
    engine: EngineKind,
    model_dir: Path | None,
    catalogue_file: Path | None,
    max_batch: int,
    name: str | None,
    lease_s: float,
    burst: bool,
    metrics_port: int | None,
    metrics_host: str,
    log_format: Literal["text", "json"],
    log_level: str,
) -> None:
    """Score requests until stopped.

    SIGTERM or Ctrl-C: takes nothing new, finishes what it holds, exits 0. A second one exits at once;
    other workers, or this one at its next start, then take over what it held. While the server cannot be
    reached, the worker waits for it.
    """
    import asyncio

    from xuankan.errors import XuankanError
    from xuankan.logs import configure
    from xuankan.protocol.keys import Keys
    from xuankan.tracing import configure as configure_tracing
    from xuankan_worker.config import WorkerConfig
    from xuankan_worker.execution.served_model import load_served_model
    from xuankan_worker.queue.consumer_name import claim_name

    configure(log_format, log_level)
    try:
        configure_tracing("xuankan-worker")
        config = WorkerConfig(
            url=url,
            name=name or claim_name(),
            keys=Keys(namespace),
            max_batch=max_batch,
            lease_s=lease_s,
            burst=burst,
            metrics_port=metrics_port,
            metrics_host=metrics_host,
        )
        served = load_served_model(engine, model_dir, catalogue_file, max_batch)
        try:
            asyncio.run(serve(config, served))
        finally:
            served.engine.close()
    except (XuankanError, OSError) as error:
        raise click.ClickException(str(error)) from error


@worker.command()
@_REDIS
@_NAMESPACE
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def status(url: str, namespace: str, as_json: bool) -> None:
    """Show the live workers, what is queued and running in each lane, and the dead entries."""
    import asyncio

    from redis.exceptions import RedisError

    from xuankan.errors import XuankanError
    from xuankan.protocol.keys import Keys
    from xuankan.protocol.queue_state import QueueReader
    from xuankan.transport.client import open_client

    async def look() -> QueueState:
        keys = Keys(namespace)
        redis = open_client(url, keys)
        try:
            return await QueueReader(keys, for_operators=True).read(redis)
        finally:
            await redis.aclose()

    try:
        found = asyncio.run(look())
    except XuankanError as error:
        raise click.ClickException(str(error)) from error
    except (RedisError, OSError) as error:
        raise click.ClickException(
            f"the Redis/Valkey server does not answer ({error}): check --redis, and that it is running"
        ) from error
    if as_json:
        echo(_to_json(found))
    else:
        _print_status(found)


async def serve(config: WorkerConfig, served: ServedModel) -> None:
    """Run a worker until a signal, or the end of a burst."""
    import asyncio
    import os
    import signal

    from xuankan_worker.worker import Worker

    worker = Worker(config, served)
    stops = 0

    def on_signal(number: int) -> None:
        nonlocal stops
        stops += 1
        if stops > 1:
            os._exit(128 + number)
        worker.stop()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    async with worker:
        await worker.wait()


def _print_status(found: QueueState) -> None:
    from rich.table import Table

    from xuankan.terminal import Terminal

    console = Terminal()
    if found.workers is None:
        console.print("this user may not see the workers")
    elif found.workers:
        table = Table("worker", "state", "engine", "release", "catalogue", "in flight", "done", "rows/s")
        for one in found.workers:
            table.add_row(
                one.name,
                one.state,
                f"{one.engine} x{one.contexts}",
                one.release,
                one.catalogue,
                str(one.in_flight),
                str(one.requests_done),
                f"{one.rows_per_s:.1f}",
            )
        console.print(table)
    else:
        console.print("no live worker")
    lanes = Table("lane", "queued", "running")
    for name, lane in found.lanes.items():
        lanes.add_row(name, _known(lane.queued), _known(lane.running))
    console.print(lanes)
    console.print(f"dead entries: {_known(found.dead)}")


def _to_json(found: QueueState) -> str:
    from dataclasses import asdict

    content = {
        "workers": None if found.workers is None else [asdict(worker) for worker in found.workers],
        "lanes": [
            {"lane": name, "queued": lane.queued, "running": lane.running}
            for name, lane in found.lanes.items()
        ],
        "dead": found.dead,
    }
    return json_text(content, indent=2)


def _known(count: int | None) -> str:
    return "–" if count is None else str(count)
