"""The pool of slots under an engine that fails, dawdles and dies."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.support.engine import BUCKETS, ScoresOnly, ScriptedEngine
from tests.support.scheduling import job
from tests.support.world import request, served_model
from xuankan.errors import DeviceLost, EngineError
from xuankan_worker.engines.base import EngineInfo, TokenBatch
from xuankan_worker.execution.pool import ContextPool, Run
from xuankan_worker.in_flight import InFlight
from xuankan_worker.scheduling.batcher import BatchLimits
from xuankan_worker.scheduling.scheduler import Scheduler

POISON = 29999
SHAPES = tuple((bucket, rows) for bucket in BUCKETS for rows in (4, 16))


@dataclass
class FaultyEngine(ScriptedEngine):
    """Fails some batches at random, all batches of a broken context, and every batch with a poisoned row.

    Attributes:
        fails: share of batches that fail for no reason.
        broken: a context that fails everything.
        loses_after: batches after which the device is lost.
        ran: by context, how many batches it ran.
    """

    fails: float = 0.0
    broken: int | None = None
    loses_after: int | None = None
    seed: int = 0
    ran: Counter[int] = field(default_factory=Counter[int])
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.random = random.Random(self.seed)
        self.order = [threading.Lock() for _ in range(self.contexts)]

    def open_slot(self, index: int) -> FaultySlot:  # type: ignore[override]
        self.opened += 1
        return FaultySlot(self, index)


class FaultySlot(ScoresOnly):
    def __init__(self, engine: FaultyEngine, index: int) -> None:
        self._engine, self._context = engine, index % engine.contexts
        self._thread = threading.get_ident()
        self._busy = False

    def score(self, batch: TokenBatch) -> NDArray[np.float32]:
        engine = self._engine
        assert not self._busy
        assert self._thread == threading.get_ident()
        self._busy = True
        try:
            # The slots of a context run one after the other.
            with engine.order[self._context]:
                with engine.lock:
                    engine.ran[self._context] += 1
                    fails, pause_s = (
                        engine.random.random() < engine.fails,
                        engine.random.choice((0, 0, 0.002)),
                    )
                    lost = engine.loses_after is not None and sum(engine.ran.values()) > engine.loses_after
                time.sleep(pause_s)
            if lost:
                raise DeviceLost("an illegal address was accessed")
            if fails or self._context == engine.broken or (batch.input_ids == POISON).any():
                raise EngineError("failed")
            # A score names its row: manuscript's first token, then the row's length.
            return (batch.input_ids[:, 1] * 1000 + batch.lengths).astype(np.float32)
        finally:
            self._busy = False

    def close(self) -> None:
        self._engine.opened -= 1


class Stage:
    """Scheduler and pool as the dispatcher ties them together."""

    def __init__(self, engine: FaultyEngine, info: EngineInfo) -> None:
        self.engine, self.info = engine, info
        self.scheduler = Scheduler(BatchLimits(info.buckets, info.max_batch, 8192, info.shapes))
        self.pool = ContextPool(served_model(engine), self._on_run)
        self.done: list[InFlight] = []
        self.given_up: list[InFlight] = []
        self.runs: list[Run] = []
        self.lost: Exception | None = None
        self.ended = asyncio.Event()

    def pump(self) -> None:
        loads = self.pool.loads(time.monotonic())
        while self.lost is None and (taken := self.scheduler.next(loads)) is not None:
            context, batch = taken
            assert loads[context].free
            if batch.failed_in is not None:
                assert context != batch.failed_in
            self.pool.submit(context, batch)
            loads = self.pool.loads(time.monotonic())
            assert all(load.batches <= self.info.depth for load in loads)
        if not self.pool.running and (self.lost or not self.scheduler.jobs):
            self.ended.set()
        # Nothing idles while something waits.
        waits = any(self.scheduler.waiting_rows(lane) for lane in ("interactive", "bulk"))
        assert (
            self.lost or not waits or self.pool.busy == self.info.contexts or self.engine.broken is not None
        )

    def _on_run(self, run: Run, seconds: float) -> None:
        assert seconds > 0
        self.runs.append(run)
        if run.scores is not None:
            done, broken = self.scheduler.scored(run.batch, run.scores, run.started_s, run.ended_s)
            assert not broken
            self.done += done
        elif isinstance(run.error, DeviceLost):
            self.lost = run.error
        else:
            self.given_up += self.scheduler.failed(run.batch, run.context, self.info.contexts)
        self.pump()

    async def run(self, jobs: list[InFlight]) -> None:
        await self.pool.start()
        try:
            for one in jobs:
                self.scheduler.add(one)
                self.pump()
                if one.remaining % 3 == 0:
                    await asyncio.sleep(0)  # so that some arrive while others run
            async with asyncio.timeout(60):
                await self.ended.wait()
        finally:
            await self.pool.stop()
        assert self.engine.opened == 0


def make_jobs(count: int, seed: int, poisoned: int = 0) -> list[InFlight]:
    rng = np.random.default_rng(seed)
    jobs: list[InFlight] = []
    for number in range(count):
        tokens = rng.integers(1000, 20000, int(rng.integers(5, 200)))
        if number < poisoned:
            tokens[-1] = POISON
        candidates = rng.choice(40, int(rng.integers(1, 41)), replace=False).tolist()
        lane = "bulk" if rng.random() < 0.5 else "interactive"
        jobs.append(job(request(tokens=tokens.tolist(), candidates=candidates, lane=lane)))
    return jobs


def assert_scored(one: InFlight) -> None:
    expected = (int(one.request.tokens[0]) * 1000 + one.lengths).astype(np.float32)
    np.testing.assert_array_equal(one.scores, expected)


@settings(max_examples=25)
@given(
    st.integers(1, 3),
    st.integers(1, 3),
    st.booleans(),
    st.sampled_from([0.0, 0.05, 0.3]),
    st.integers(0, 2),
    st.integers(0, 1000),
)
def test_whatever_fails_fails_alone(
    contexts: int, depth: int, shaped: bool, fails: float, poisoned: int, seed: int
) -> None:
    engine = FaultyEngine(
        contexts=contexts, depth=depth, shapes=SHAPES if shaped else (), fails=fails, seed=seed
    )
    jobs = make_jobs(12, seed, poisoned)

    async def main() -> Stage:
        stage = Stage(engine, engine.info)
        await stage.run(jobs)
        return stage

    stage = asyncio.run(main())
    assert set(stage.done) | set(stage.given_up) == set(jobs)
    assert set(jobs[:poisoned]) <= set(stage.given_up)
    if not fails:
        assert len(stage.given_up) == poisoned
    for one in stage.done:
        assert_scored(one)


async def test_a_context_that_fails_everything_costs_no_request() -> None:
    engine = FaultyEngine(contexts=2, depth=2, shapes=SHAPES, broken=1)
    stage = Stage(engine, engine.info)
    jobs = make_jobs(20, 1)
    await stage.run(jobs)
    assert stage.given_up == []
    for one in jobs:
        assert_scored(one)
    assert all(run.context == 1 for run in stage.runs if run.error is not None)
    # What failed there was tried whole in the other.
    assert all(run.batch.attempts == 0 for run in stage.runs if run.error is not None)


async def test_both_contexts_work_and_the_next_batch_is_at_hand() -> None:
    engine = FaultyEngine(contexts=2, depth=2, shapes=SHAPES)
    stage = Stage(engine, engine.info)
    jobs = [job(request(candidates=range(32), length=100, lane="bulk")) for _ in range(30)]
    in_flight: list[int] = []
    original = stage.pool.submit

    def submit(context: int, batch: object) -> None:
        original(context, batch)  # type: ignore[arg-type]
        in_flight.append(stage.pool.running)

    stage.pool.submit = submit  # type: ignore[method-assign]
    await stage.run(jobs)
    assert max(in_flight) == 4
    assert min(engine.ran.values()) > sum(engine.ran.values()) / 4


@pytest.mark.parametrize("after", [0, 5])
async def test_a_lost_device_ends_everything_with_nothing_given_up(after: int) -> None:
    engine = FaultyEngine(contexts=2, depth=2, shapes=SHAPES, loses_after=after)
    stage = Stage(engine, engine.info)
    await stage.run(make_jobs(20, 2))
    assert isinstance(stage.lost, DeviceLost)
    assert stage.given_up == []
    assert sum(engine.ran.values()) <= after + 4
