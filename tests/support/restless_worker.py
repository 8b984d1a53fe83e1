"""`python -m tests.support.restless_worker URL NAME RESTARTS LIFE_S LEASE_S ROW_S`: dies again and again.

A supervisor whose worker is killed `LIFE_S` after it began to serve, whatever it does then, and started again
at once; after so many restarts it lives on. It forks, so that a start costs milliseconds.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from tests.support.engine import ScriptedEngine
from tests.support.world import config, served_model
from xuankan.logs import configure
from xuankan_worker.config import WorkerConfig
from xuankan_worker.execution.served_model import ServedModel
from xuankan_worker.worker import Worker


async def _serve(config: WorkerConfig, served: ServedModel, life_s: float | None) -> None:
    async with Worker(config, served) as worker:
        if life_s is not None:
            await asyncio.sleep(life_s)
            os.kill(os.getpid(), signal.SIGKILL)
        await worker.wait()


def _main() -> None:
    url, name, restarts, life_s, lease_s, row_s = sys.argv[1:]
    configure("json", "info")
    made = served_model(ScriptedEngine(row_s=float(row_s)))
    for _ in range(int(restarts)):
        if (child := os.fork()) == 0:
            asyncio.run(_serve(config(url, name=name, lease_s=float(lease_s)), made, float(life_s)))
        os.waitpid(child, 0)
    asyncio.run(_serve(config(url, name=name, lease_s=float(lease_s)), made, None))


if __name__ == "__main__":
    _main()
