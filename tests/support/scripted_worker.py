"""`python -m tests.support.scripted_worker URL NAME ROW_S [lost]`: a worker process on the scripted engine.

With `lost`, its device is.
"""

from __future__ import annotations

import asyncio
import sys

from tests.support.engine import ScriptedEngine
from tests.support.world import config, served_model
from xuankan.logs import configure
from xuankan_worker.cli.worker import serve

if __name__ == "__main__":
    url, name, row_s, *lost = sys.argv[1:]
    configure("json", "info")
    asyncio.run(
        serve(
            config(url, name=name, lease_s=0.5),
            served_model(ScriptedEngine(row_s=float(row_s), lost=bool(lost))),
        )
    )
