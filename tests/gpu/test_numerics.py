"""Scores on the GPU are the model's: by shape, by row, by path, and whoever else is running."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import tiny_bert
from tests.support.gpu import SHAPES, TOLERANCE, Say, batch_of, error_of
from xuankan_worker.engines import Slot, TokenBatch
from xuankan_worker.engines.tensorrt.context import StreamContext
from xuankan_worker.engines.tensorrt.engine import TensorRTEngine, open_tensorrt
from xuankan_worker.engines.tensorrt.shapes import Shape

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(600)]
_SAME = 2e-3
"""Between two runs whose kernels may sum in another order."""


@pytest.fixture
def slot(engine: TensorRTEngine) -> Iterator[Slot]:
    slot = engine.open_slot(0)
    yield slot
    slot.close()


@pytest.mark.parametrize("shape", SHAPES)
def test_a_full_batch_scores_as_in_float64(slot: Slot, shape: Shape, say: Say) -> None:
    batch = batch_of(1, shape.rows, shape.bucket)
    error = error_of(slot.score(batch), batch)
    say(f"{shape.rows} x {shape.bucket}: largest error {error:.5f}")
    assert error < TOLERANCE


@pytest.mark.parametrize(
    ("rows", "tokens"), [(1, 1), (1, 2), (31, 63), (3, 128), (5, 65), (15, 127), (7, 200), (1, 512), (3, 400)]
)
def test_a_padded_batch_scores_as_in_float64(slot: Slot, rows: int, tokens: int) -> None:
    batch = batch_of(2, rows, tokens)
    assert error_of(slot.score(batch), batch) < TOLERANCE


@pytest.mark.parametrize(("rows", "tokens"), [(15, 129), (9, 130), (16, 256), (5, 511), (16, 512), (13, 333)])
def test_a_shape_that_was_not_built_runs_by_the_fallback(slot: Slot, rows: int, tokens: int) -> None:
    assert not [s for s in SHAPES if s.rows >= rows and s.bucket >= tokens]
    batch = batch_of(3, rows, tokens)
    assert error_of(slot.score(batch), batch) < TOLERANCE


def test_odd_and_built_shapes_alternate(slot: Slot) -> None:
    for seed, (rows, tokens) in enumerate([(9, 130), (8, 256), (12, 100), (11, 300), (4, 512), (9, 130)]):
        batch = batch_of(seed, rows, tokens)
        assert error_of(slot.score(batch), batch) < TOLERANCE


@pytest.mark.parametrize("shape", SHAPES)
def test_a_row_knows_nothing_of_its_neighbours(slot: Slot, shape: Shape) -> None:
    batch = batch_of(4, shape.rows, shape.bucket)
    other = batch_of(5, shape.rows, shape.bucket)
    before = slot.score(batch)
    kept = shape.rows // 2
    for whole, changed in zip(_parts(other), _parts(batch), strict=True):
        whole[kept] = changed[kept]
    np.testing.assert_allclose(slot.score(other)[kept], before[kept], atol=_SAME)
    order = np.random.default_rng(6).permutation(shape.rows)
    shuffled = TokenBatch(*(part[order] for part in _parts(batch)))
    np.testing.assert_allclose(slot.score(shuffled), before[order], atol=_SAME)


def test_what_lies_in_the_padding_does_not_matter(slot: Slot) -> None:
    batch = batch_of(7, 8, 256)
    before = slot.score(batch)
    batch.input_ids[np.arange(256) >= batch.lengths[:, None]] = 11
    np.testing.assert_array_equal(slot.score(batch), before)


def test_a_graph_computes_what_single_launches_compute(
    engine: TensorRTEngine, release: Path, monkeypatch: pytest.MonkeyPatch, say: Say
) -> None:
    def refuse(_context: StreamContext, _profile: object) -> bool:
        return False

    monkeypatch.setattr(StreamContext, "record", refuse)
    plain = open_tensorrt(release, 32, contexts=1, depth=1)
    slots = engine.open_slot(0), plain.open_slot(0)
    for shape in SHAPES:
        batch = batch_of(8, shape.rows, shape.bucket)
        graphed, launched = (slot.score(batch) for slot in slots)
        say(
            f"{shape.rows} x {shape.bucket}: graph and launches differ by {abs(graphed - launched).max():.2g}"
        )
        np.testing.assert_allclose(graphed, launched, atol=_SAME)
    for slot in slots:
        slot.close()
    plain.close()


def test_four_contexts_at_the_same_time(engine: TensorRTEngine) -> None:
    assert engine.info.contexts == 4
    slots = [engine.open_slot(index) for index in range(engine.info.slots)]
    random = np.random.default_rng(9)
    batches: list[TokenBatch] = []
    for seed in range(60):
        shape = SHAPES[seed % len(SHAPES)]
        rows, tokens = random.integers(1, shape.rows + 1), random.integers(1, shape.bucket + 1)
        batches.append(batch_of(seed, int(rows), int(tokens)))
    batches += [batch_of(seed, 9, 200) for seed in range(4)]  # not built
    alone = [slots[0].score(batch) for batch in batches]
    for batch, scores in list(zip(batches, alone, strict=True))[::12]:
        assert error_of(scores, batch) < TOLERANCE

    def drive(index: int) -> None:
        for number in 3 * [int(place) for place in np.random.default_rng(index).permutation(len(batches))]:
            np.testing.assert_allclose(slots[index].score(batches[number]), alone[number], atol=_SAME)

    with ThreadPoolExecutor(len(slots)) as threads:
        list(threads.map(drive, range(len(slots))))
    for slot in slots:
        slot.close()


def test_the_engine_says_what_it_is(engine: TensorRTEngine) -> None:
    info = engine.info
    assert info.name == "tensorrt"
    assert info.buckets == (64, 128, 256, 512)
    assert info.shapes == SHAPES
    assert info.max_batch == 32
    assert info.slots == 8
    assert info.vocabulary_size == tiny_bert.VOCABULARY
    assert "NVIDIA" in info.device
    assert "-fp16-tensorrt" in info.fingerprint


def _parts(batch: TokenBatch) -> tuple[Any, Any, Any]:
    return batch.input_ids, batch.lengths, batch.first_lengths
