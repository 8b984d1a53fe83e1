"""`xuankan exporter`: the queue, for Prometheus."""

from __future__ import annotations

from typing import Literal

import click

from xuankan.cli.options import log_format_option, namespace_option, redis_option


@click.command()
@redis_option()
@namespace_option("Prefix of every key.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=9108,
    show_default=True,
    help="Port to listen on; 0 picks a free one.",
)
@click.option(
    "--host",
    metavar="ADDRESS",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on; 0.0.0.0 in a container.",
)
@log_format_option()
def exporter(url: str, namespace: str, port: int, host: str, log_format: Literal["text", "json"]) -> None:
    """Serve metrics of the queue, which belong to no single worker, as /metrics until stopped.

    Waiting requests, their age, the seconds of work in them, live workers, dead letters, the server's
    memory: even while no worker is alive, which is when it matters. Run one per deployment. The operator's
    user of deploy/redis is sufficient.
    """
    import asyncio
    import logging
    import signal

    from xuankan.errors import XuankanError
    from xuankan.logs import configure, fields
    from xuankan.protocol.keys import Keys
    from xuankan_worker.operations.exporter import Exporter

    async def serve() -> None:
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopped.set)
        serving = Exporter(url, Keys(namespace))
        await serving.start(host, port)
        logging.getLogger(__name__).info("exporter ready", extra=fields(host=host, port=serving.port))
        await stopped.wait()
        await serving.stop()

    configure(log_format, "info")
    try:
        asyncio.run(serve())
    except (XuankanError, OSError) as error:
        raise click.ClickException(str(error)) from error
