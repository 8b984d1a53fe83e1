"""`xuankan top`: workers, lanes, batches and GPUs, live."""

from __future__ import annotations

import click

from xuankan.cli.options import namespace_option, redis_option


@click.command()
@redis_option()
@namespace_option()
@click.option(
    "--interval-s",
    type=click.FloatRange(0.2, 60),
    default=1.0,
    show_default=True,
    help="Seconds between updates; workers report every second.",
)
def top(url: str, namespace: str, interval_s: float) -> None:
    """Watch lanes, workers, batches and GPUs until `q` or Ctrl-C.

    It talks only to the server, so it runs anywhere and its user needs no more rights than `worker status`.
    When its output is a pipe or a file, it prints one snapshot.
    """
    import asyncio

    from xuankan.cli.render import console
    from xuankan.protocol.keys import Keys
    from xuankan_worker.operations.top.live import watch

    asyncio.run(watch(url, Keys(namespace), interval_s, console()))
