"""Contexts and slots of the TensorRT engine, on a device without a GPU."""

from __future__ import annotations

import queue
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import astuple
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.fake_cuda import FakeCuda, Status
from tests.support.fake_plan import (
    FakeProgram,
    expected,
    expected_encoded,
    open_fake,
    open_fake_encoder,
    random_batch,
)
from xuankan.errors import DeviceLost, EngineError
from xuankan_worker.engines import TokenBatch
from xuankan_worker.engines.tensorrt.cuda import Cuda, Stream
from xuankan_worker.engines.tensorrt.engine import TensorRTEngine

ILLEGAL = Status.cudaErrorIllegalAddress


def opened(**options: Any) -> tuple[TensorRTEngine, FakeCuda, FakeProgram]:
    cuda = FakeCuda()
    program = FakeProgram(cuda)
    return open_fake(cuda, program, **options), cuda, program


@settings(max_examples=15)
@given(
    contexts=st.integers(1, 4),
    depth=st.integers(1, 3),
    seed=st.integers(0, 999),
    faults=st.dictionaries(
        st.tuples(st.sampled_from(["cudaMemcpyAsync", "cudaGraphLaunch"]), st.integers(0, 400)),
        st.sampled_from([Status.cudaErrorInvalidValue, Status.cudaErrorMemoryAllocation]),
        max_size=12,
    ),
)
def test_every_batch_gets_its_own_scores_or_its_own_failure(
    contexts: int, depth: int, seed: int, faults: dict[tuple[str, int], Status]
) -> None:
    engine, cuda, program = opened(contexts=contexts, depth=depth)
    slots = [engine.open_slot(index) for index in range(engine.info.slots)]
    before = cuda.calls.copy()
    cuda.pause_s = 0.001
    cuda.faults = {(name, before[name] + number): status for (name, number), status in faults.items()}
    failures: queue.SimpleQueue[EngineError] = queue.SimpleQueue()

    def drive(index: int) -> None:
        for number in range(12):
            batch = random_batch(1000 * seed + 100 * index + number)
            try:
                scores = slots[index].score(batch)
            except EngineError as error:
                failures.put(error)
            else:
                np.testing.assert_array_equal(scores, expected(batch))

    with ThreadPoolExecutor(len(slots)) as threads:
        list(threads.map(drive, range(len(slots))))
    struck = [key for key in cuda.faults if key[1] < cuda.calls[key[0]]]
    assert failures.qsize() == len(struck)
    allocating = ("cudaMalloc", "cudaHostAlloc", "cudaEventCreateWithFlags", "cudaStreamCreateWithFlags")
    assert [cuda.calls[name] - before[name] for name in allocating] == [0] * 4
    assert cuda.calls["cudaStreamSynchronize"] == before["cudaStreamSynchronize"]
    for slot in slots:
        slot.close()
    engine.close()
    assert not cuda.live
    assert program.closed == 1


def test_a_lost_device_fails_every_slot_and_nothing_hangs() -> None:
    engine, cuda, program = opened()
    slots = [engine.open_slot(index) for index in range(4)]
    program.faulty = True

    def drive(index: int) -> None:
        for number in range(5):
            with pytest.raises(DeviceLost):
                slots[index].score(random_batch(number))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(drive, range(4)))
    calls = cuda.calls.copy()
    for slot in slots:
        slot.close()
    engine.close()
    engine.close()
    assert cuda.calls == calls  # nobody asks a dead device for anything
    assert program.closed == 0  # its destructors would


@pytest.mark.parametrize(
    "function", ["cudaMemcpyAsync", "cudaGraphLaunch", "cudaEventRecord", "cudaEventSynchronize"]
)
def test_a_sticky_error_of_any_call_is_a_lost_device(function: str) -> None:
    engine, cuda, _ = opened()
    slot = engine.open_slot(0)
    cuda.faults[function, cuda.calls[function]] = ILLEGAL
    with pytest.raises(DeviceLost, match=rf"{function}: cudaErrorIllegalAddress .* restart this process"):
        slot.score(random_batch(1, 4, 16))
    with pytest.raises(DeviceLost):
        engine.open_slot(1)
    slot.close()
    engine.close()


@pytest.mark.parametrize("function", ["cudaEventRecord", "cudaEventSynchronize"])
def test_memory_that_may_be_in_use_for_ever_is_a_lost_device(function: str) -> None:
    engine, cuda, _ = opened()
    slot = engine.open_slot(0)
    cuda.faults[function, cuda.calls[function]] = Status.cudaErrorInvalidValue
    with pytest.raises(DeviceLost, match=function):
        slot.score(random_batch(1))


def test_a_run_that_the_library_refuses_fails_one_batch_with_the_librarys_words() -> None:
    engine, _, program = opened()
    slot = engine.open_slot(0)
    odd = random_batch(3, rows=8, tokens=40)
    odd.lengths[:] = 40  # no static shape takes it: the fallback is not recorded, and so asks the library
    program.refused = 1
    with pytest.raises(EngineError, match="failed to run the batch: scripted refusal"):
        slot.score(odd)
    np.testing.assert_array_equal(slot.score(odd), expected(odd))
    slot.close()
    engine.close()


def test_memory_is_not_given_back_while_a_failed_batch_is_copied() -> None:
    engine, cuda, _ = opened()
    slot = engine.open_slot(0)
    cuda.pause_s = 0.1
    cuda.faults["cudaGraphLaunch", cuda.calls["cudaGraphLaunch"]] = Status.cudaErrorInvalidValue
    with pytest.raises(EngineError, match="cudaGraphLaunch"):
        slot.score(random_batch(1, 4, 16))
    slot.close()
    engine.close()
    assert not cuda.live


def test_a_shape_that_cannot_be_recorded_runs_without_graph(caplog: pytest.LogCaptureFixture) -> None:
    engine, cuda, _ = opened(contexts=1)
    cuda.faults["cudaStreamEndCapture", 1] = Status.cudaErrorStreamCaptureUnsupported
    slot = engine.open_slot(0)
    assert "a shape runs without a CUDA graph, and more slowly" in caplog.text
    for shape in ((8, 16), (8, 32), (4, 64)):
        batch = random_batch(5, *shape)
        np.testing.assert_array_equal(slot.score(batch), expected(batch))
    slot.close()
    engine.close()
    assert not cuda.live


@pytest.mark.parametrize("refused", range(4))
def test_a_shape_that_does_not_run_keeps_every_slot_from_opening(refused: int) -> None:
    engine, cuda, program = opened()
    program.refused = 1 + refused
    for index in range(2):
        with pytest.raises(EngineError, match="scripted refusal"):
            engine.open_slot(index)
    engine.close()
    assert not cuda.live
    assert program.closed == 1


@pytest.mark.parametrize("number", range(8))
@pytest.mark.parametrize("function", ["cudaMalloc", "cudaHostAlloc", "cudaStreamCreateWithFlags"])
def test_no_memory_leaves_nothing_behind(function: str, number: int) -> None:
    cuda = FakeCuda(faults={(function, number): Status.cudaErrorMemoryAllocation})
    program = FakeProgram(cuda)
    with ExitStack() as owned, suppress(EngineError):
        engine = open_fake(cuda, program)
        owned.callback(engine.close)
        for index in range(4):
            owned.callback(engine.open_slot(index).close)
    assert not cuda.live
    assert program.closed == 1


def test_slots_open_at_the_same_time_and_warm_once() -> None:
    engine, cuda, _ = opened(contexts=3, depth=2)
    with ThreadPoolExecutor(6) as threads:
        slots = list(threads.map(engine.open_slot, range(6)))
    assert cuda.calls["cudaGraphInstantiate"] == 9  # three static shapes in three contexts
    for slot in slots:
        slot.close()
        slot.close()
    engine.close()
    assert not cuda.live


def test_a_closed_engine_says_so() -> None:
    engine, cuda, _ = opened()
    slot = engine.open_slot(0)
    engine.close()
    with pytest.raises(EngineError, match="the engine is closed"):
        engine.open_slot(0)
    with pytest.raises(EngineError, match="the engine is closed"):
        slot.score(random_batch(1))
    slot.close()
    with pytest.raises(EngineError, match="the slot is closed"):
        slot.score(random_batch(1))
    assert not cuda.live


def test_a_score_that_is_no_number_fails_its_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, _, _ = opened()
    slot = engine.open_slot(0)

    def spoiled(batch: TokenBatch) -> Any:
        return np.where(np.arange(len(batch.lengths)) == 2, np.nan, 1.0)

    monkeypatch.setattr("tests.support.fake_plan.expected", spoiled)
    with pytest.raises(EngineError, match="row 2: the model gave no finite score"):
        slot.score(random_batch(1, rows=4))
    slot.close()
    engine.close()


def test_a_recording_that_fails_leaves_the_stream_usable() -> None:
    fake = FakeCuda()
    cuda = Cuda(fake)
    stream = Stream(cuda)

    def refuse() -> None:
        raise EngineError("refused")

    with pytest.raises(EngineError, match="refused"):
        stream.capture(refuse)
    stream.capture(lambda: None).close()
    stream.close()
    stream.close()
    assert not fake.live


def test_a_failure_of_the_library_is_told_from_a_lost_device() -> None:
    fake = FakeCuda()
    cuda = Cuda(fake)
    stream = Stream(cuda)
    cuda.probe(stream.handle)
    assert not cuda.lost
    fake.lose()
    with pytest.raises(DeviceLost, match="cudaErrorIllegalAddress"):
        cuda.probe(stream.handle)
    assert cuda.lost
    with pytest.raises(DeviceLost, match="cudaErrorIllegalAddress"):
        cuda.bind()


@pytest.mark.parametrize("both", [False, True])
def test_rows_of_encoder_and_cross_encoder_share_the_contexts(both: bool) -> None:
    cuda = FakeCuda(pause_s=0.001)
    encoder, pairs = FakeProgram(cuda), FakeProgram(cuda)
    engine = open_fake_encoder(cuda, encoder, pairs if both else None)
    slots = [engine.open_slot(index) for index in range(engine.info.slots)]
    streams = cuda.calls["cudaStreamCreateWithFlags"]
    assert streams == engine.info.contexts

    def drive(index: int) -> None:
        for number in range(20):
            batch = random_batch(100 * index + number, tokens=48)
            if both and number % 2:
                np.testing.assert_array_equal(slots[index].score(batch), expected(batch))
                continue
            found, wanted = slots[index].encode(batch), expected_encoded(batch)
            for one, other in zip(astuple(found), astuple(wanted), strict=True):
                assert one.dtype == other.dtype
                np.testing.assert_array_equal(one, other)

    with ThreadPoolExecutor(len(slots)) as threads:
        list(threads.map(drive, range(len(slots))))
    if not both:
        with pytest.raises(EngineError, match="has no cross-encoder"):
            slots[0].score(random_batch(1))
    for slot in slots:
        slot.close()
    engine.close()
    assert not cuda.live
    assert [encoder.closed, pairs.closed] == [1, int(both)]


def test_an_engine_without_encoder_says_so() -> None:
    engine, _, _ = opened()
    slot = engine.open_slot(0)
    with pytest.raises(EngineError, match="the release has no encoder"):
        slot.encode(random_batch(1))
    slot.close()
    engine.close()


def test_an_encoder_takes_no_batch_that_it_was_not_built_for() -> None:
    cuda = FakeCuda()
    engine = open_fake_encoder(cuda, FakeProgram(cuda), FakeProgram(cuda))
    slot = engine.open_slot(0)
    long = random_batch(1, rows=2, tokens=64)
    long.lengths[:] = 64
    assert slot.score(long).shape == (2,)
    with pytest.raises(EngineError, match="lengths is 64, not 1 to 48"):
        slot.encode(long)
    slot.close()
    engine.close()
