"""The serving path on a real server: rankings, lanes, draining, cancelling, watching."""

from __future__ import annotations

import asyncio
import time
import urllib.error
import urllib.request

import pytest

from tests.support.engine import ScriptedEngine
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
from xuankan.errors import EngineError, InputError
from xuankan.protocol import scripts
from xuankan.protocol.wire import Failure, Result
from xuankan_worker.worker import Worker


async def test_a_burst_ranks_everything_queued_and_leaves_nothing(server_url: str, queue: Queue) -> None:
    asked = [request(lane="bulk" if n % 3 else "interactive", length=20 + 7 * n) for n in range(20)]
    await queue.push(*asked)
    engine = ScriptedEngine()
    await run_burst(server_url, engine)
    for one in asked:
        assert_ranked(await queue.result(one), one)
    assert await queue.left() == 0
    assert await queue.dead() == []
    assert sum(rows for rows, _ in engine.batches) == sum(len(one.candidates) for one in asked)
    assert engine.opened == 0


async def test_a_burst_on_an_empty_server_ends_at_once(server_url: str, queue: Queue) -> None:
    await run_burst(server_url, ScriptedEngine())
    assert await queue.left() == 0


async def test_a_result_says_how_it_was_made_and_where_the_time_went(server_url: str, queue: Queue) -> None:
    asked = request(warnings=("the abstract was cut",), traceparent="00-abc-def-01", reply="portal-1")
    async with running(server_url, ScriptedEngine(row_s=0.001)):
        before_ms = time.time() * 1000
        await queue.push(asked)
        result = await queue.result(asked)
    assert result.warnings == asked.warnings
    assert result.traceparent == asked.traceparent
    assert (result.release, result.worker, result.scored, result.deliveries) == (
        "release-1",
        "worker-1",
        40,
        1,
    )
    assert before_ms - 50 < result.completed_ms < time.time() * 1000 + 50
    assert result.timings.engine_ms >= 10
    spent_ms = sum(
        (
            result.timings.queue_ms,
            result.timings.batch_ms,
            result.timings.engine_ms,
            result.timings.rank_ms,
        )
    )
    assert spent_ms <= result.completed_ms - before_ms + 50
    assert await queue.command("LRANGE", KEYS.reply("portal-1"), 0, -1) == [asked.id.encode()]
    assert 0 < await queue.command("PTTL", KEYS.reply("portal-1")) <= scripts.REPLY_TTL_MS
    assert 0 < await queue.command("PTTL", KEYS.result(asked.id)) <= scripts.RESULT_TTL_MS


async def test_interactive_requests_overtake_bulk(server_url: str, queue: Queue) -> None:
    bulk = [request(lane="bulk") for _ in range(12)]
    urgent = request()
    engine = ScriptedEngine(contexts=1)
    engine.gate.clear()
    async with running(server_url, engine):
        await queue.push(*bulk)
        await engine.wait_started()
        await queue.push(urgent)
        await eventually(lambda: queue.is_pending(urgent))
        engine.gate.set()
        ended = [await queue.committed_ms(one) for one in (urgent, *bulk)]
    # The batch that ran when it came, its own, and bulk's share; a bulk request has three batches.
    assert sum(one < ended[0] for one in ended) <= 1


async def test_draining_finishes_what_is_held_and_takes_nothing_new(server_url: str, queue: Queue) -> None:
    held, late = [request(), request(lane="bulk")], request()
    engine = ScriptedEngine()
    engine.gate.clear()
    async with running(server_url, engine) as worker:
        await queue.push(*held)
        await engine.wait_started()
        await eventually(lambda: worker.status().in_flight == 2)
        worker.stop()
        assert worker.not_ready() == "draining"
        await eventually(queue.is_unread)
        await queue.push(late)
        engine.gate.set()
        await worker.wait()
    for one in held:
        assert_ranked(await queue.result(one), one)
    assert await queue.left() == 1
    assert await queue.find(late.id) is None
    await run_burst(server_url, ScriptedEngine())
    assert (await queue.result(late)).deliveries == 1


async def test_a_cancelled_request_costs_no_engine_time(server_url: str, queue: Queue) -> None:
    runs, waits = request(candidates=range(16)), request()
    engine = ScriptedEngine(contexts=1)
    engine.gate.clear()
    cancelled = Result(
        waits.id, "cancelled", "", "", "producer", 0.0, failure=Failure("cancelled", "no longer wanted")
    )
    async with running(server_url, engine) as worker:
        for one in (runs, waits):
            await scripts.submit(queue.client, KEYS, one.id, one.lane, None, one.encode())
            await engine.wait_started() if one is runs else None
        await eventually(lambda: worker.status().in_flight == 2)
        await scripts.finish(queue.client, KEYS, waits.id, cancelled.encode())
        await eventually(lambda: worker.status().in_flight == 1)
        engine.gate.set()
        assert_ranked(await queue.result(runs), runs)
    assert sum(rows for rows, _ in engine.batches) == 16
    assert (await queue.result(waits)).worker == "producer"
    assert await queue.left() == 0


async def test_a_request_that_has_a_result_is_not_scored_again(server_url: str, queue: Queue) -> None:
    asked = request()
    await queue.push(asked)
    await run_burst(server_url, ScriptedEngine())
    first = await queue.result(asked)
    await queue.push(asked)
    engine = ScriptedEngine()
    await run_burst(server_url, engine)
    assert engine.batches == []
    assert await queue.left() == 0
    assert await queue.result(asked) == first


async def test_one_id_twice_on_the_stream_gives_one_result(server_url: str, queue: Queue) -> None:
    asked = request(reply="portal")
    await queue.push(asked, asked)
    await run_burst(server_url, ScriptedEngine())
    assert_ranked(await queue.result(asked), asked)
    assert await queue.command("LLEN", KEYS.reply("portal")) == 1
    assert await queue.left() == 0


async def test_an_entry_of_an_earlier_submission_does_not_answer_a_later_one(
    server_url: str, queue: Queue
) -> None:
    stale, asked = request(candidates=[1]), request()
    await queue.push_raw(b"garbage", asked.id)
    await scripts.submit(queue.client, KEYS, asked.id, asked.lane, None, asked.encode())
    await queue.push(stale)
    await run_burst(server_url, ScriptedEngine())
    assert_ranked(await queue.result(asked), asked)
    assert await queue.left() == 0


async def test_a_deadline_that_passes_while_rows_wait(server_url: str, queue: Queue) -> None:
    engine = ScriptedEngine(contexts=1)
    engine.gate.clear()
    runs = request(candidates=range(16))
    async with running(server_url, engine, lease_s=0.3):
        await queue.push(runs)
        await engine.wait_started()
        waits = request(deadline_ms=round(time.time() * 1000) + 150)
        await queue.push(waits)
        result = await queue.result(waits)  # comes although the only context is stuck
        assert (result.status, result.failure and result.failure.code) == ("expired", "deadline_exceeded")
    assert_ranked(await queue.result(runs), runs)
    assert sum(rows for rows, _ in engine.batches) == 16


async def test_an_engine_that_fails_everything_ends_the_worker_and_loses_nothing(
    server_url: str, queue: Queue
) -> None:
    asked = [request(candidates=[n]) for n in range(12)]
    await queue.push(*asked)
    with pytest.raises(EngineError, match="requests in a row failed"):
        await run_burst(server_url, ScriptedEngine(faults=10_000))
    await run_burst(server_url, ScriptedEngine())
    ended = [(await queue.result(one)).status for one in asked]
    assert ended.count("ok") >= 7
    assert set(ended) <= {"ok", "failed"}
    assert await queue.left() == 0


class Unopenable(ScriptedEngine):
    def open_slot(self, index: int) -> None:  # type: ignore[override]
        raise EngineError(f"no memory for context {index}")


async def test_a_context_that_cannot_be_opened_is_an_error_of_the_start(server_url: str) -> None:
    with pytest.raises(EngineError, match="no memory"):
        async with Worker(config(server_url), served_model(Unopenable())):
            pass


@pytest.mark.parametrize(
    "changes", [{"name": "a b"}, {"max_batch": 0}, {"lease_s": 0.0}, {"url": "http://nowhere"}]
)
async def test_an_option_out_of_range_is_named(changes: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(changes))):
        Worker(config(**({"url": "redis://127.0.0.1"} | changes)), served_model(ScriptedEngine()))  # type: ignore[arg-type]


def _get(port: int | None, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


async def test_metrics_and_probes(server_url: str, queue: Queue) -> None:
    async with running(server_url, ScriptedEngine(), metrics_port=0) as worker:

        async def get(path: str) -> tuple[int, str]:
            return await asyncio.to_thread(_get, worker.metrics_port, path)

        await queue.push(request(), request(catalogue="another"))
        await queue.push_raw(b"garbage", None)
        await eventually(lambda: queue.is_empty())
        await eventually(lambda: worker.status().in_flight == 0)
        assert (await get("/healthz"))[0] == 200
        assert (await get("/readyz"))[0] == 200
        assert (await get("/elsewhere"))[0] == 404
        status, text = await get("/metrics")
        assert status == 200
        lines = set(text.splitlines())
        assert 'xuankan_requests_received_total{lane="interactive"} 3.0' in lines
        assert 'xuankan_requests_ended_total{code="",lane="interactive",status="ok"} 1.0' in lines
        mismatched = (
            'xuankan_requests_ended_total{code="catalogue_mismatch",lane="interactive",status="invalid"}'
        )
        assert f"{mismatched} 1.0" in lines
        assert 'xuankan_dead_entries_total{code="undecodable"} 1.0' in lines
        assert 'xuankan_rows_total{step="cross_encoder"} 40.0' in lines
        assert "xuankan_requests_in_flight 0.0" in lines
        assert "xuankan_server_up 1.0" in lines
        worker.stop()
        assert (await get("/readyz")) == (503, "draining\n")
