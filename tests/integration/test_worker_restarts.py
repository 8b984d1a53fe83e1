"""Workers that die for reasons of their own: no request is blamed for it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.engine import ScriptedEngine, ScriptedSlot
from tests.support.world import (
    KEYS,
    Queue,
    assert_ranked,
    config,
    eventually,
    request,
    running,
    served_model,
)
from xuankan import Manuscript, Producer, RankingOptions
from xuankan.errors import EngineError, MemoryExhausted
from xuankan.protocol.heartbeat import WorkerStatus
from xuankan.protocol.keys import Keys
from xuankan.protocol.leases import NOBODY
from xuankan_worker.dispatch.dispatcher import MAX_FAILED_IN_A_ROW
from xuankan_worker.engines.base import TokenBatch
from xuankan_worker.worker import Worker

ROW_S = 0.005
LEASE_S = 1.0


@contextlib.contextmanager
def restless(url: str, restarts: int, life_s: float) -> Generator[None]:
    """A worker that is killed and started again so often."""
    command = [sys.executable, "-m", "tests.support.restless_worker", url, "restless", str(restarts)]
    command += [str(life_s), str(LEASE_S), str(ROW_S)]
    supervisor = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        yield
    finally:
        os.killpg(supervisor.pid, signal.SIGKILL)
        supervisor.wait()


async def test_a_worker_that_restarts_over_and_over_fails_nothing(server_url: str, queue: Queue) -> None:
    asked = [request() for _ in range(24)]
    await queue.push(*asked)
    with restless(server_url, 16, 0.35):
        for one in asked:
            assert_ranked(await queue.result(one), one)
    assert await queue.dead() == []


async def test_nor_does_one_beside_a_healthy_worker(server_url: str, queue: Queue) -> None:
    asked = [request() for _ in range(24)]
    await queue.push(*asked)
    with restless(server_url, 10, 0.35):
        async with running(server_url, ScriptedEngine(row_s=ROW_S), name="healthy", lease_s=LEASE_S):
            for one in asked:
                assert_ranked(await queue.result(one), one)
    assert await queue.dead() == []


async def test_a_worker_whose_predecessors_died_young_leaves_what_they_held_for_a_lease(
    server_url: str, queue: Queue
) -> None:
    asked = request()
    entry = await queue.push_raw(asked.encode(), asked.id)
    stream = KEYS.stream("interactive")
    await queue.command("XGROUP", "CREATE", stream, "workers", "0", "MKSTREAM")
    await queue.command("XREADGROUP", "GROUP", "workers", "worker-1", "STREAMS", stream, ">")
    gone = WorkerStatus(name="worker-1", incarnation="gone", up_s=0.1, died_young=1)
    await queue.command("SET", KEYS.worker("worker-1"), gone.encode(), "PX", 60_000)
    fresh = request()
    async with running(server_url, ScriptedEngine(), lease_s=60.0):
        await queue.push(fresh)
        assert_ranked(await queue.result(fresh), fresh)
        pending = await queue.pending("interactive", entry)
        assert pending is not None
        assert pending["times_delivered"] == 1
        status = WorkerStatus.decode(await queue.command("GET", KEYS.worker("worker-1")))
        assert status.died_young == 2
    async with running(server_url, ScriptedEngine(), lease_s=60.0):  # it signed off, and so did not die young
        assert_ranked(await queue.result(asked), asked)


async def test_two_workers_of_one_name_are_told(
    server_url: str, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    del queue
    async with running(server_url, ScriptedEngine()) as one:
        await eventually(lambda: one.status().state == "running")
        async with running(server_url, ScriptedEngine()):
            await eventually(lambda: "another worker has the same name" in caplog.text)


class _Short(ScriptedEngine):
    """Has no memory left, or fails everything."""

    error: Exception = MemoryError()

    def open_slot(self, index: int) -> ScriptedSlot:
        super().open_slot(index)
        return _ShortSlot(self, self.error)


class _ShortSlot(ScriptedSlot):
    def __init__(self, engine: ScriptedEngine, error: Exception) -> None:
        super().__init__(engine)
        self._error = error

    def score(self, batch: TokenBatch) -> NDArray[np.float32]:
        super().score(batch)
        raise self._error


@pytest.mark.parametrize(
    ("error", "raised"), [(MemoryError(), MemoryExhausted), (EngineError("broken"), EngineError)]
)
async def test_what_a_worker_held_whose_engine_is_to_blame_is_anybodys_at_once(
    server_url: str, queue: Queue, error: Exception, raised: type[Exception]
) -> None:
    asked = [request(length=20) for _ in range(12)]
    await queue.push(*asked)
    engine = _Short()
    engine.error = error
    with pytest.raises(raised):
        async with asyncio.timeout(20), Worker(config(server_url, lease_s=60), served_model(engine)) as short:
            await short.wait()
    command = ("XPENDING", KEYS.stream("interactive"), "workers", "-", "+", 100)
    left = await cast(Any, queue.client).execute_command(*command, parse_detail=True)
    assert {row["consumer"] for row in left} == {NOBODY.encode()}
    assert {row["times_delivered"] for row in left} == {0}
    blamed = {record[b"id"].decode() for record in await queue.dead()}
    assert len(blamed) == (0 if raised is MemoryExhausted else MAX_FAILED_IN_A_ROW - 1)
    async with running(server_url, ScriptedEngine(), name="healthy", lease_s=60):
        for one in asked:
            if one.id not in blamed:
                result = await queue.result(one)
                assert_ranked(result, one)
                assert result.deliveries == 1


@contextlib.contextmanager
def packaged(url: str, name: str) -> Generator[subprocess.Popen[bytes]]:
    """A worker with the packaged model, as `xuankan worker run` starts it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "xuankan.cli.main", "worker", "run", "--name", name],
        # Every array of some size is then new memory, whatever the allocator has kept.
        env={**os.environ, "XUANKAN_REDIS": url, "MALLOC_MMAP_THRESHOLD_": "4096"},
        stderr=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def stop_growing(pid: int) -> None:
    """Give a process no more address space than it has."""
    status = Path(f"/proc/{pid}/status").read_text()
    used = int(status.split("VmSize:")[1].split()[0]) * 1024
    resource.prlimit(pid, resource.RLIMIT_AS, (used, used))


async def test_a_worker_short_of_memory_fails_no_request(server_url: str, queue: Queue) -> None:
    text = "We measure the flow of electrons through thin films of many metals at low temperatures. " * 20
    options, keys = RankingOptions(candidates=30, top_k=3), Keys()

    async def is_ready() -> bool:
        return await queue.command("EXISTS", keys.worker("short")) == 1

    async with Producer(server_url) as producer:
        with packaged(server_url, "short") as short:
            await eventually(is_ready)
            stop_growing(short.pid)
            tickets = [await producer.submit(Manuscript(f"Films {n}", text), options) for n in range(8)]
            _, said = await asyncio.to_thread(short.communicate, None, 120)
        assert short.returncode == 1, said.decode()  # which makes a supervisor start it again
        assert b"memory" in said
        with packaged(server_url, "healthy"):
            for ticket in tickets:
                assert len(await producer.result(ticket, 60)) == 3
    assert await queue.command("XLEN", keys.dead) == 0
