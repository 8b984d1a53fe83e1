"""What every engine must do, whatever hardware it is for."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.support import gpu, tiny_bert
from xuankan.errors import EngineError
from xuankan_worker.engines import Engine, EngineKind, Slot, TokenBatch, open_engine
from xuankan_worker.engines.tensorrt.shapes import Shape

KINDS = ["onnx", pytest.param("tensorrt", marks=pytest.mark.gpu)]
MAX_BATCH = 8
SHAPES = tuple(Shape(bucket, MAX_BATCH) for bucket in (16, 32, 48))
TOLERANCE = {"onnx": 1e-4, "tensorrt": 0.02}
"""From the float64 model."""
SAME = {"onnx": 1e-6, "tensorrt": 5e-3}
"""Between two runs of the same row; on a GPU another shape has other kernels."""


@pytest.fixture(scope="module", params=KINDS)
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    kind: EngineKind = request.param
    directory = tmp_path_factory.mktemp("release")
    if kind == "onnx":
        release = tiny_bert.write_release(directory)
    elif reason := gpu.missing():
        pytest.skip(reason)
    else:
        release = gpu.write_gpu_release(directory, SHAPES)
    engine = open_engine(kind, release, MAX_BATCH)
    yield engine
    engine.close()


@pytest.fixture
def tolerance(engine: Engine) -> float:
    return TOLERANCE[engine.info.name]


@pytest.fixture
def same(engine: Engine) -> float:
    return SAME[engine.info.name]


@pytest.fixture
def slot(engine: Engine) -> Iterator[Slot]:
    slot = engine.open_slot(0)
    yield slot
    slot.close()


def test_scores_are_the_models(slot: Slot, tolerance: float) -> None:
    batch = tiny_bert.random_batch(MAX_BATCH, lengths=[1, 2, 3, 15, 16, 17, 33, 48])
    scores = slot.score(batch)
    assert scores.shape == (MAX_BATCH,)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, tiny_bert.expected_scores(batch), atol=tolerance)


def test_a_score_does_not_depend_on_the_padding(slot: Slot, same: float) -> None:
    batch = tiny_bert.random_batch(4, lengths=[20, 20, 9, 31], tokens=32)
    random = np.random.default_rng(9)
    padded = np.concatenate([batch.input_ids, np.zeros((4, 16), np.int32)], axis=1)
    for row, length in enumerate(batch.lengths):
        padded[row, length:] = random.integers(0, tiny_bert.VOCABULARY, 48 - length)
    other = replace(batch, input_ids=padded)
    np.testing.assert_allclose(slot.score(batch), slot.score(other), atol=same)


def test_a_score_does_not_depend_on_neighbours_or_order(slot: Slot, same: float) -> None:
    batch = tiny_bert.random_batch(MAX_BATCH)
    together = slot.score(batch)
    order = np.random.default_rng(1).permutation(MAX_BATCH)
    np.testing.assert_allclose(slot.score(rows(batch, order)), together[order], atol=same)
    alone = [slot.score(rows(batch, np.array([row])))[0] for row in range(MAX_BATCH)]
    np.testing.assert_allclose(alone, together, atol=same)


def test_contexts_run_at_the_same_time(engine: Engine, tolerance: float) -> None:
    batches = [tiny_bert.random_batch(MAX_BATCH, seed=seed) for seed in range(24)]
    expected = [tiny_bert.expected_scores(batch) for batch in batches]
    slots = [engine.open_slot(index) for index in range(engine.info.slots)]

    def drive(index: int) -> None:
        for batch, wanted in list(zip(batches, expected, strict=True))[index::2]:
            np.testing.assert_allclose(slots[index % len(slots)].score(batch), wanted, atol=tolerance)

    with ThreadPoolExecutor(len(slots)) as threads:
        list(threads.map(drive, range(len(slots))))
    for slot in slots:
        slot.close()


def test_the_engine_says_what_it_is(engine: Engine) -> None:
    info = engine.info
    assert info.name in TOLERANCE
    assert list(info.buckets) == sorted(set(info.buckets))
    assert info.buckets[-1] == tiny_bert.POSITIONS
    assert info.max_batch == MAX_BATCH
    assert info.contexts >= 1
    assert info.vocabulary_size == tiny_bert.VOCABULARY
    assert info.device
    assert info.fingerprint


def test_a_slot_survives_a_bad_batch(slot: Slot) -> None:
    batch = tiny_bert.random_batch(3)
    before = slot.score(batch)
    with pytest.raises(EngineError):
        slot.score(replace(batch, lengths=np.zeros(3, np.int32)))
    np.testing.assert_array_equal(slot.score(batch), before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_ids": np.zeros(4, np.int32)}, r"input_ids has shape \(4,\)"),
        ({"input_ids": np.zeros((0, 4), np.int32)}, r"input_ids has shape \(0, 4\)"),
        ({"input_ids": np.zeros((9, 4), np.int32)}, "9 rows in a batch; engine .* runs at most 8"),
        ({"input_ids": np.zeros((2, 48), np.int64)}, "input_ids is int64, not int32"),
        ({"lengths": np.ones(3, np.int32)}, r"lengths has shape \(3,\), not \(2,\)"),
        ({"lengths": np.array([5, 0], np.int32)}, "row 1: lengths is 0, not 1 to 48"),
        ({"lengths": np.array([49, 5], np.int32)}, "row 0: lengths is 49, not 1 to 48"),
        ({"first_lengths": np.array([1, -1], np.int32)}, "row 1: first_lengths is -1"),
        ({"input_ids": np.full((2, 48), 97, np.int32)}, "row 0, position 0: token 97 is not in the vocab"),
        ({"input_ids": np.full((2, 48), -1, np.int32)}, "row 0, position 0: token -1 is not in the vocab"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(slot: Slot, change: dict[str, Any], message: str) -> None:
    batch = tiny_bert.random_batch(2, lengths=[7, 8])
    with pytest.raises(EngineError, match=message):
        slot.score(replace(batch, **change))


def test_a_row_longer_than_the_model_is_refused(slot: Slot) -> None:
    batch = TokenBatch(np.zeros((1, 64), np.int32), np.array([49], np.int32), np.array([3], np.int32))
    with pytest.raises(EngineError, match="row 0: lengths is 49, not 1 to 48"):
        slot.score(batch)


def test_a_closed_slot_says_so(engine: Engine) -> None:
    slot = engine.open_slot(0)
    slot.close()
    slot.close()
    with pytest.raises(EngineError, match="closed"):
        slot.score(tiny_bert.random_batch(1))


def test_a_slot_that_the_engine_lacks_is_refused(engine: Engine) -> None:
    with pytest.raises(EngineError, match=f"no slot {engine.info.slots}"):
        engine.open_slot(engine.info.slots)


def rows(batch: TokenBatch, order: Any) -> TokenBatch:
    return TokenBatch(batch.input_ids[order], batch.lengths[order], batch.first_lengths[order])
