"""`python -m tests.support.clocked_producer URL DEADLINE_S`: ranks one manuscript for each line of its input.

In a process of its own, because a process has one wall clock.
"""

from __future__ import annotations

import asyncio
import sys

import click

from tests.support import portal
from xuankan.errors import RequestError, WaitTimeout


async def _serve(url: str, deadline_s: float) -> None:
    async with portal.producer(url) as producer:
        click.echo("ready")
        while line := await asyncio.to_thread(sys.stdin.readline):
            try:
                await producer.rank(portal.manuscript(int(line)), deadline_s=deadline_s)
                click.echo("ok")
            except (RequestError, WaitTimeout) as error:
                click.echo(type(error).__name__)


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], float(sys.argv[2])))
