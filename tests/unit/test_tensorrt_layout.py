"""Which shape runs a batch, and where the batch lies in memory."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.support.fake_plan import random_batch
from xuankan.errors import EngineError
from xuankan_worker.engines.tensorrt.layout import (
    SCORES,
    Layout,
    Output,
    PlanKind,
    PlanProfile,
    PlanProfiles,
    encoder_outputs,
    fill,
    offsets,
)

STATIC = [
    PlanProfile(0, 64, 32, static=True),
    PlanProfile(1, 128, 4, static=True),
    PlanProfile(2, 128, 16, static=True),
    PlanProfile(3, 256, 8, static=True),
]
DYNAMIC = PlanProfile(4, 300, 32, static=False)
OUTPUTS: dict[PlanKind, tuple[Output, ...]] = {
    "cross_encoder": SCORES,
    "encoder": encoder_outputs(journals=13, dimensions=8, neighbours=21),
}


@pytest.mark.parametrize(
    ("rows", "tokens", "number"),
    [
        (1, 1, 1),
        (4, 128, 1),
        (5, 64, 0),  # 2,048 tokens as a shorter shape, and as a longer one
        (8, 65, 2),
        (8, 129, 3),
        (32, 64, 0),
        (9, 129, 4),
        (1, 300, 4),
        (32, 300, 4),
    ],
)
def test_the_cheapest_shape_that_fits_is_taken(rows: int, tokens: int, number: int) -> None:
    assert PlanProfiles([*STATIC, DYNAMIC]).choose(rows, tokens).number == number


@pytest.mark.parametrize(("rows", "tokens"), [(33, 1), (1, 301)])
def test_a_batch_that_no_shape_takes_is_refused(rows: int, tokens: int) -> None:
    with pytest.raises(EngineError, match=f"takes {rows} rows of {tokens} tokens: rebuild it"):
        PlanProfiles([*STATIC, DYNAMIC]).choose(rows, tokens)
    with pytest.raises(EngineError, match="takes 9 rows of 129 tokens"):
        PlanProfiles(STATIC).choose(9, 129)


def test_shapes_that_small_batches_never_need_are_left_out() -> None:
    profiles = PlanProfiles([*STATIC, DYNAMIC])
    assert [profile.number for profile in profiles.within(4).every] == [1, 3, 4]
    assert profiles.within(64).every == profiles.every


def test_the_fallback_counts_as_a_shape_where_it_alone_runs_the_longest_rows() -> None:
    assert PlanProfiles([*STATIC, DYNAMIC]).shapes() == ((64, 32), (128, 4), (128, 16), (256, 8), (300, 32))
    short = DYNAMIC._replace(tokens=256)
    assert PlanProfiles([*STATIC, short]).shapes() == ((64, 32), (128, 4), (128, 16), (256, 8))
    assert PlanProfiles([DYNAMIC]).shapes() == ((300, 32),)


@given(st.data())
def test_a_batch_is_where_the_device_looks_for_it(data: st.DataObject) -> None:
    layout = Layout.of([*STATIC, DYNAMIC], OUTPUTS)
    block = np.full(layout.input_bytes, 0xEE, np.uint8)
    rows, tokens = data.draw(st.integers(1, 32)), data.draw(st.integers(1, 300))
    used = data.draw(st.integers(1, rows))
    batch = random_batch(data.draw(st.integers(0, 99)), used, data.draw(st.integers(1, 300)))
    batch.lengths[:] = np.minimum(batch.lengths, tokens)
    fill(block, batch, rows, tokens)
    at = offsets(rows, tokens)

    def read(offset: int, *shape: int) -> NDArray[np.int32]:
        assert offset % 256 == 0
        return block[offset : offset + 4 * math.prod(shape)].view(np.int32).reshape(shape)

    width = min(tokens, batch.input_ids.shape[1])
    ids = read(at.tokens, tokens, rows)
    np.testing.assert_array_equal(ids[:width, :used], batch.input_ids.T[:width])
    assert not ids[:, used:].any()
    assert not ids[width:].any()
    np.testing.assert_array_equal(read(at.lengths, rows), [*batch.lengths, *[1] * (rows - used)])
    places = read(at.places, tokens, rows)
    positions = np.arange(tokens)[:, None]
    np.testing.assert_array_equal(places // 2, np.broadcast_to(positions, places.shape))
    np.testing.assert_array_equal(places[:, :used] % 2, positions >= batch.first_lengths)
    assert (block[at.end :] == 0xEE).all()


@given(
    kind=st.sampled_from(sorted(OUTPUTS)),
    rows=st.integers(1, 32),
    used=st.integers(1, 32),
    seed=st.integers(0, 9),
)
def test_outputs_lie_apart_and_are_read_as_they_were_written(
    kind: PlanKind, rows: int, used: int, seed: int
) -> None:
    profiles = [profile._replace(kind=kind) for profile in (*STATIC, DYNAMIC)]
    layout, used = Layout.of(profiles, OUTPUTS), min(rows, used)
    block = np.random.default_rng(seed).integers(0, 256, layout.output_bytes, np.uint8)
    begins, end = layout.output_places(kind, rows)
    assert end <= layout.output_bytes
    wanted: list[NDArray[Any]] = []
    for number, (name, columns, dtype) in enumerate(OUTPUTS[kind]):
        assert begins[name] % 256 == 0
        values = np.arange(rows * columns).reshape(rows, columns).astype(dtype) + number
        wanted.append(values[:used])
        block[begins[name] : begins[name] + values.nbytes] = values.view(np.uint8).ravel()
    found = layout.read(block, kind, rows, used)
    block[:] = 0  # what was read is a copy
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
