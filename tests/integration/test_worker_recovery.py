"""What a worker does when workers die, are stopped, or lose their device."""

from __future__ import annotations

import asyncio
import logging
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager

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
    run_burst,
    running,
    served_model,
)
from xuankan.errors import DeviceLost
from xuankan.protocol.keys import GROUP
from xuankan.protocol.wire import Request
from xuankan_worker.engines.base import TokenBatch
from xuankan_worker.worker import Worker


async def read_as(queue: Queue, consumer: str, count: int) -> list[bytes]:
    """Take entries as a worker would, and do nothing with them."""
    stream = KEYS.stream("interactive")
    await queue.command("XGROUP", "CREATE", stream, GROUP, "0", "MKSTREAM")
    reply = await queue.command(
        "XREADGROUP", "GROUP", GROUP, consumer, "COUNT", count, "STREAMS", stream, ">"
    )
    return [entry for entry, _ in reply[0][1]]


async def test_a_restarted_worker_first_finishes_what_it_held(server_url: str, queue: Queue) -> None:
    asked = [request() for _ in range(3)]
    await queue.push(*asked)
    await read_as(queue, "worker-1", 2)
    await run_burst(server_url, ScriptedEngine())
    for one, deliveries in zip(asked, (2, 2, 1), strict=True):
        assert_ranked(await queue.result(one), one)
        assert (await queue.result(one)).deliveries == deliveries
    assert await queue.left() == 0


async def test_what_a_dead_worker_held_is_taken_over_after_its_lease(server_url: str, queue: Queue) -> None:
    asked = request()
    await queue.push(asked)
    await read_as(queue, "dead", 1)
    async with running(server_url, ScriptedEngine(), lease_s=0.3):
        result = await queue.result(asked)
    assert_ranked(result, asked)
    assert (result.deliveries, result.worker) == (2, "worker-1")
    assert await queue.left() == 0


async def test_a_request_delivered_too_often_ends_as_failed_and_dead(server_url: str, queue: Queue) -> None:
    asked, neighbour = request(), request()
    await queue.push(asked, neighbour)
    first, _ = await read_as(queue, "worker-1", 2)
    await queue.command("XCLAIM", KEYS.stream("interactive"), GROUP, "worker-1", 0, first, "RETRYCOUNT", 5)
    await run_burst(server_url, ScriptedEngine())
    result = await queue.result(asked)
    assert (result.status, result.failure and result.failure.code) == ("failed", "too_many_deliveries")
    (record,) = await queue.dead()
    assert (record[b"id"].decode(), record[b"code"], record[b"deliveries"]) == (
        asked.id,
        b"too_many_deliveries",
        b"6",
    )
    assert Request.decode(record[b"request"]).id == asked.id
    assert_ranked(await queue.result(neighbour), neighbour)
    assert await queue.left() == 0


async def test_a_lease_is_renewed_while_a_batch_takes_longer_than_it(server_url: str, queue: Queue) -> None:
    asked = request(candidates=range(8))
    slow, other = ScriptedEngine(contexts=1), ScriptedEngine()
    slow.gate.clear()
    async with running(server_url, slow, lease_s=0.3):
        entry = await queue.push_raw(asked.encode(), asked.id)
        await slow.wait_started()
        async with running(server_url, other, name="other", lease_s=0.3):
            await asyncio.sleep(1.0)  # three leases, in which the other must not take it over
            pending = await queue.pending("interactive", entry)
            assert pending is not None
            assert (pending["consumer"], pending["times_delivered"]) == (b"worker-1", 1)
            slow.gate.set()
            assert_ranked(await queue.result(asked), asked)
    assert other.batches == []


async def test_a_worker_lets_go_of_what_another_has_taken_over(server_url: str, queue: Queue) -> None:
    asked = request(candidates=range(32))
    engine = ScriptedEngine(contexts=1)
    engine.gate.clear()
    async with running(server_url, engine) as worker:
        entry = await queue.push_raw(asked.encode(), asked.id)
        await engine.wait_started()
        await queue.command("XCLAIM", KEYS.stream("interactive"), GROUP, "other", 0, entry)
        await eventually(lambda: worker.status().in_flight == 0)
        engine.gate.set()
        await eventually(lambda: worker.status().waiting_rows == 0)
    pending = await queue.pending("interactive", entry)
    assert pending is not None
    assert pending["consumer"] == b"other"
    assert await queue.find(asked.id) is None
    assert len(engine.batches) == 1  # the rest of its rows was forgotten


@contextmanager
def process(url: str, name: str, row_s: float, *options: str) -> Generator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tests.support.scripted_worker", url, name, str(row_s), *options]
    worker = subprocess.Popen(command, stderr=subprocess.PIPE)
    try:
        yield worker
    finally:
        worker.kill()
        worker.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains(server_url: str, queue: Queue, number: signal.Signals) -> None:
    asked = request()
    with process(server_url, "drained", 0.01) as worker:
        await queue.push(asked)
        await eventually(lambda: queue.is_pending(asked))
        worker.send_signal(number)
        _, log = await asyncio.to_thread(worker.communicate, timeout=30)
        assert worker.returncode == 0
    assert b"draining" in log
    assert_ranked(await queue.result(asked), asked)
    assert await queue.left() == 0


async def test_a_second_signal_ends_at_once_and_nothing_is_lost(server_url: str, queue: Queue) -> None:
    asked = request()
    with process(server_url, "hurried", 3.0) as worker:
        await queue.push(asked)
        await eventually(lambda: queue.is_pending(asked))
        worker.send_signal(signal.SIGTERM)
        assert worker.stderr is not None
        while b"draining" not in await asyncio.to_thread(worker.stderr.readline):
            pass
        worker.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(worker.wait, timeout=10) == 128 + signal.SIGTERM
    await run_burst(server_url, ScriptedEngine(), name="hurried")
    assert_ranked(await queue.result(asked), asked)


async def test_a_killed_workers_requests_are_ranked_by_another(server_url: str, queue: Queue) -> None:
    asked = [request() for _ in range(4)]
    with process(server_url, "killed", 0.05) as worker:
        await queue.push(*asked)
        await eventually(lambda: queue.is_pending(asked[0]))
        worker.kill()
        async with running(server_url, ScriptedEngine(), lease_s=0.5):
            for one in asked:
                assert_ranked(await queue.result(one), one)
    assert await queue.left() == 0


async def test_a_lost_device_ends_the_worker_and_another_finishes(
    server_url: str, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    asked = [request() for _ in range(4)]
    engine = ScriptedEngine(depth=2)
    engine.gate.clear()

    async def serve_until_lost() -> None:
        async with asyncio.timeout(30), Worker(config(server_url), served_model(engine)) as worker:
            await queue.push(*asked)
            await engine.wait_started()
            await eventually(lambda: worker.status().in_flight == 4)
            engine.lost = True
            engine.gate.set()
            await worker.wait()

    with pytest.raises(DeviceLost, match="scripted loss"):
        await serve_until_lost()
    assert "the device is lost; other workers will take over its requests" in caplog.messages
    assert await queue.left() == 4
    for one in asked:
        assert await queue.find(one.id) is None
        assert await queue.is_pending(one)
    assert len(engine.batches) <= engine.info.slots  # nothing was tried again
    await run_burst(server_url, ScriptedEngine())  # the same worker, started anew
    for one in asked:
        assert_ranked(await queue.result(one), one)
    assert await queue.dead() == []


async def test_a_process_whose_device_is_lost_exits_and_another_takes_over(
    server_url: str, queue: Queue
) -> None:
    asked = request()
    with process(server_url, "lost", 0.0, "lost") as worker:
        await queue.push(asked)
        _, log = await asyncio.to_thread(worker.communicate, timeout=30)
        assert worker.returncode == 1
    assert b"the device is lost" in log
    async with running(server_url, ScriptedEngine(), lease_s=0.5):
        result = await queue.result(asked)
    assert_ranked(result, asked)
    assert result.deliveries == 2


class HalfDead(ScriptedEngine):
    """One slot notices that the device is lost, the others never come back from it."""

    def open_slot(self, index: int) -> ScriptedSlot:
        slot = super().open_slot(index)
        return DeadSlot(self) if index == 0 else slot


class DeadSlot(ScriptedSlot):
    def score(self, batch: TokenBatch) -> NDArray[np.float32]:
        del batch
        raise DeviceLost("noticed by one")


async def test_slots_that_hang_in_a_lost_device_do_not_keep_the_worker(server_url: str, queue: Queue) -> None:
    engine = HalfDead(contexts=2, depth=2)
    engine.gate.clear()

    async def serve_until_lost() -> None:
        async with asyncio.timeout(20), Worker(config(server_url), served_model(engine)) as worker:
            await eventually(lambda: queue.command("PUBSUB", "CHANNELS"))
            await eventually(lambda: worker.not_ready() is None)
            await queue.push(request())
            await worker.wait()

    try:
        with pytest.raises(DeviceLost, match="noticed by one"):
            await serve_until_lost()
    finally:
        engine.gate.set()
    assert await queue.left() == 1
