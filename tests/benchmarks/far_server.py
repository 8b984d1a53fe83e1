"""How fast a worker is whose server is far away: `python -m tests.benchmarks.far_server`.

A worker on the scripted engine (two contexts of 5,000 rows a second) empties a queue of requests of 40 rows
through a proxy that delays every byte in each direction.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import click
from tests.support.engine import ScriptedEngine
from tests.support.proxy import Proxy
from tests.support.server import ValkeyProcess
from tests.support.world import KEYS, Queue, request, running

from xuankan.transport.client import open_client

_DELAYS_S = (0.0, 0.02, 0.2)


async def _measure(server: ValkeyProcess, delay_s: float, seconds: float) -> float:
    proxy = Proxy(server.port)
    await proxy.start()
    proxy.delay_s = delay_s
    queue = Queue(open_client(server.url))
    await queue.command("FLUSHALL")
    asked = request(lane="bulk", length=20)
    pipeline = queue.client.pipeline(transaction=False)
    for number in range(20_000):
        one = replace(asked, id=f"far-{number}")
        pipeline.xadd(KEYS.stream("bulk"), {"id": one.id, "request": one.encode()})
    await pipeline.execute()
    engine = ScriptedEngine(row_s=0.0002)
    async with running(f"redis://127.0.0.1:{proxy.port}/0", engine, lease_s=30) as worker:
        await asyncio.sleep(max(3.0, 20 * delay_s))  # until it knows how far the server is
        before, started_s = worker.status().rows_done, time.monotonic()
        await asyncio.sleep(seconds)
        rate = (worker.status().rows_done - before) / (time.monotonic() - started_s)
        await queue.command("DEL", KEYS.stream("bulk"))
    await queue.client.aclose()
    await proxy.close()
    return rate


async def _main(seconds: float) -> None:
    with tempfile.TemporaryDirectory() as directory:
        server = ValkeyProcess(Path(directory))
        server.start()
        try:
            for delay_s in _DELAYS_S:
                rate = await _measure(server, delay_s, seconds)
                click.echo(f"{delay_s * 1000:4.0f} ms each way: {rate:8,.0f} rows/s")
        finally:
            server.kill()


@click.command()
@click.option("--seconds", default=10.0, show_default=True)
def main(seconds: float) -> None:
    """Print rows a second at 0, 20 and 200 ms each way."""
    asyncio.run(_main(seconds))


if __name__ == "__main__":
    main()
