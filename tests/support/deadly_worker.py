"""`python -m tests.support.deadly_worker URL NAME TOKEN`: a worker that a row with TOKEN kills, started anew.

A supervisor as systemd or Kubernetes is one, but that forks, so that a start costs milliseconds. It ends when
its worker ends by itself.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import numpy as np
from numpy.typing import NDArray

from tests.support.engine import ScriptedEngine, ScriptedSlot
from tests.support.world import config, served_model
from xuankan.logs import configure
from xuankan_worker.cli.worker import serve
from xuankan_worker.engines.base import TokenBatch


class DeadlyEngine(ScriptedEngine):
    """A row with the token `poison` kills the process."""

    def open_slot(self, index: int) -> ScriptedSlot:
        super().open_slot(index)
        return DeadlySlot(self)


class DeadlySlot(ScriptedSlot):
    def score(self, batch: TokenBatch) -> NDArray[np.float32]:
        if self._engine.poison in batch.input_ids:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().score(batch)


if __name__ == "__main__":
    url, name, token = sys.argv[1:]
    configure("json", "info")
    made = served_model(DeadlyEngine(poison=int(token), row_s=0.0002))
    while (child := os.fork()) != 0:
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != -signal.SIGKILL:
            sys.exit(0)
    asyncio.run(serve(config(url, name=name, lease_s=0.5), made))
