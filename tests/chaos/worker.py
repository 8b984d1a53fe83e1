"""A worker process of a run: the real worker on the scripted engine."""

from __future__ import annotations

import asyncio
from typing import Final

from tests.chaos.world import KEYS, served_model
from xuankan.logs import configure
from xuankan_worker.cli.worker import serve
from xuankan_worker.config import WorkerConfig

ROW_S: Final = 0.0004
"""What the model takes for a row."""


def main(url: str, name: str, lease_s: float) -> None:
    """Serve until a signal."""
    configure("json", "info")
    config = WorkerConfig(
        url, name=name, keys=KEYS, lease_s=lease_s, block_s=0.5, max_batch=16, prefetch_rows=64
    )
    asyncio.run(serve(config, served_model(ROW_S)))
