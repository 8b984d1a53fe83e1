"""What an encoder says on the GPU is what the model says: by shape, alone and beside cross-encoder rows."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest

from tests.support import tiny_bert, tiny_encoder
from tests.support.gpu import SHAPES, TOLERANCE, Say, batch_of, error_of, write_encoder_release
from xuankan_worker.engines import Encoded, Slot, open_engine
from xuankan_worker.engines.tensorrt.engine import TensorRTEngine, open_tensorrt
from xuankan_worker.engines.tensorrt.shapes import Shape

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(600)]
ENCODER_SHAPES = (Shape(64, 16), Shape(256, 8))
HALF = 0.03
"""Of logits and cosines computed in FP16; logits spread by one."""


@pytest.fixture(scope="module")
def both(world: None, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: ARG001 (comes first)
    return write_encoder_release(tmp_path_factory.mktemp("both"), ENCODER_SHAPES, SHAPES[:3])


@pytest.fixture(scope="module")
def engine(both: Path) -> Iterator[TensorRTEngine]:
    engine = open_tensorrt(both, 16)
    yield engine
    engine.close()


@pytest.fixture
def slot(engine: TensorRTEngine) -> Iterator[Slot]:
    slot = engine.open_slot(0)
    yield slot
    slot.close()


@pytest.mark.parametrize(("rows", "tokens"), [(16, 64), (8, 256), (1, 1), (3, 65), (16, 200), (9, 256)])
def test_it_says_what_the_model_says_in_float64(slot: Slot, rows: int, tokens: int, say: Say) -> None:
    batch = batch_of(1, rows, tokens)
    found, wanted = slot.encode(batch), tiny_encoder.expected(batch)
    say(f"{rows} x {tokens}: logits off by {np.abs(found.logits - wanted.logits).max():.5f}")
    tiny_encoder.assert_close(found, wanted, HALF)


def test_an_encoder_alone_is_served_by_auto(tmp_path: Path) -> None:
    release = write_encoder_release(tmp_path, ENCODER_SHAPES)
    engine = open_engine("auto", release, 16)
    assert engine.info.name == "tensorrt"
    assert engine.info.buckets == ()
    assert engine.info.encoder is not None
    assert engine.info.encoder.shapes == ENCODER_SHAPES
    slot = engine.open_slot(0)
    batch = batch_of(2, 5, 100)
    tiny_encoder.assert_close(slot.encode(batch), tiny_encoder.expected(batch), HALF)
    slot.close()
    engine.close()


def test_encoder_and_cross_encoder_rows_at_the_same_time(engine: TensorRTEngine) -> None:
    slots = [engine.open_slot(index) for index in range(engine.info.slots)]
    batches = [batch_of(seed, 1 + seed % 16, 1 + 7 * seed % 128) for seed in range(24)]
    assert max(batch.input_ids.shape[1] for batch in batches) <= tiny_bert.POSITIONS
    alone = [slots[0].encode(batch) for batch in batches]
    scores = [slots[0].score(batch) for batch in batches]
    assert error_of(scores[-1], batches[-1]) < TOLERANCE

    def drive(index: int) -> None:
        order = [int(place) for place in np.random.default_rng(index).permutation(2 * len(batches))]
        for number in order:
            batch = batches[number // 2]
            if number % 2:
                np.testing.assert_allclose(slots[index].score(batch), scores[number // 2], atol=2e-3)
            else:
                _assert_same(slots[index].encode(batch), alone[number // 2])

    with ThreadPoolExecutor(len(slots)) as threads:
        list(threads.map(drive, range(len(slots))))
    for slot in slots:
        slot.close()


def _assert_same(found: Encoded, wanted: Encoded) -> None:
    for one, other in zip(astuple(found), astuple(wanted), strict=True):
        if one.dtype == np.float32:
            np.testing.assert_allclose(one, other, atol=5e-3)
