"""Batches for an engine of static shapes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.scheduling import Ask, drain, queue, rows_of
from xuankan_worker.scheduling.batcher import Batch, Batcher, BatchLimits

BUCKETS = (64, 128, 192, 256)
ROW_COUNTS = st.sampled_from([(16,), (4, 16), (8, 16), (4, 16, 22), (1, 3)])
ASKS = st.builds(
    Ask, st.sampled_from(["interactive", "bulk"]), st.lists(st.integers(1, 256), min_size=1, max_size=60)
)


def limits(counts: tuple[int, ...] = (16,), **changes: int) -> BatchLimits:
    shapes = tuple((bucket, rows) for bucket in BUCKETS for rows in counts)
    return BatchLimits(BUCKETS, counts[-1], counts[-1] * BUCKETS[-1], shapes, **changes)


def batcher_with(counts: tuple[int, ...], *asks: Ask) -> Batcher[Ask]:
    batcher: Batcher[Ask] = Batcher(limits(counts))
    for ask in asks:
        queue(batcher, ask)
    return batcher


def shapes_of(batches: list[Batch[Ask]]) -> list[tuple[int, int, int]]:
    return [(batch.bucket, batch.rows, batch.padded_rows) for batch in batches]


@given(st.lists(ASKS, max_size=12), ROW_COUNTS, st.lists(st.integers(0, 3), min_size=1, max_size=6))
def test_every_row_comes_out_once_in_a_shape_that_the_engine_has(
    asks: list[Ask], counts: tuple[int, ...], idle: list[int]
) -> None:
    batcher = batcher_with(counts, *asks)
    batches: list[Batch[Ask]] = []
    while True:
        now = idle[len(batches) % len(idle)]
        batch = batcher.take([1000.0] * (2 if not now else 0), now) or batcher.take()
        if batch is None:
            break
        batches.append(batch)
    taken = Counter(row for batch in batches for row in rows_of(batch))
    assert taken == Counter((ask, row) for ask in asks for row in range(len(ask.lengths)))
    for batch in batches:
        assert batch.padded_rows in counts
        assert batch.rows == len(rows_of(batch)) <= batch.padded_rows
        assert max(ask.lengths[row] for ask, row in rows_of(batch)) <= batch.bucket


@given(st.lists(ASKS, max_size=12), ROW_COUNTS)
def test_ahead_of_time_only_whole_batches_are_taken(asks: list[Ask], counts: tuple[int, ...]) -> None:
    batcher = batcher_with(counts, *asks)
    while (batch := batcher.take([5000.0, 3000.0], idle=0)) is not None:
        assert batch.rows == batch.padded_rows
        assert 2 * batch.rows >= counts[-1]


@given(st.lists(ASKS, max_size=12), ROW_COUNTS)
def test_a_place_stays_empty_only_if_no_row_could_have_had_it(
    asks: list[Ask], counts: tuple[int, ...]
) -> None:
    batcher = batcher_with(counts, *asks)
    waiting = Counter((ask, row) for ask in asks for row in range(len(ask.lengths)))
    while (batch := batcher.take()) is not None:
        waiting -= Counter(rows_of(batch))
        if batch.rows < batch.padded_rows:
            assert all(ask.lengths[row] > batch.bucket for ask, row in waiting)


@settings(max_examples=30)
@given(st.integers(1, 256), st.sampled_from([0, 8]))
def test_bulk_is_overtaken_so_often_and_no_oftener(length: int, patience: int) -> None:
    batcher: Batcher[Ask] = Batcher(limits(patience=patience))
    first = Ask("bulk", [length])
    queue(batcher, first)
    rng = np.random.default_rng(length)
    for batches in range(patience + 1):
        while batcher.waiting_rows("bulk") < 200:
            queue(batcher, Ask("bulk", rng.integers(1, 257, 40).tolist()))
        batch = batcher.take([], 1) if batches % 2 else batcher.take([9000.0], 0) or batcher.take()
        assert batch is not None
        if any(ask is first for ask, _ in rows_of(batch)):
            return
    pytest.fail(f"the oldest request still waits after {patience + 1} batches")


def test_an_interactive_request_leads_the_next_batch_whole_or_not() -> None:
    batcher = batcher_with((16,), Ask("bulk", [60] * 100), Ask("bulk", [250] * 100))
    queue(batcher, urgent := Ask("interactive", [120] * 3))
    batch = batcher.take([5000.0], idle=0)
    assert batch is not None
    # Its own rows, and rows of the next shorter bucket in the places that are left.
    assert (batch.bucket, Counter(ask is urgent for ask, _ in rows_of(batch))) == (128, {True: 3, False: 13})


def test_rows_that_make_no_whole_batch_wait_while_all_contexts_are_busy() -> None:
    batcher = batcher_with((16,), Ask("interactive", [250] * 15))
    assert batcher.take([5000.0, 100.0], idle=0) is None
    assert shapes_of(drain(batcher)) == [(256, 15, 16)]


def test_empty_places_go_to_shorter_rows() -> None:
    batcher = batcher_with((16,), Ask("interactive", [250] * 10 + [180] * 10 + [100] * 12))
    # Sorted by length and cut every 16 rows: no other way takes fewer tokens.
    assert shapes_of(drain(batcher)) == [(256, 16, 16), (192, 16, 16)]


def test_few_rows_run_in_a_small_shape() -> None:
    assert shapes_of(drain(batcher_with((4, 16), Ask("bulk", [250] * 3)))) == [(256, 3, 4)]
    assert shapes_of(drain(batcher_with((4, 16), Ask("bulk", [250] * 14)))) == [(256, 14, 16)]
    # Twice four cost less than sixteen.
    assert [b.padded_rows for b in drain(batcher_with((4, 16), Ask("bulk", [250] * 21)))] == [16, 4, 4]


@pytest.mark.parametrize(
    ("counts", "wanted"),
    [((16,), [16] * 4), ((4, 16), [16] * 4), ((4, 16, 22), [16] * 4), ((8, 32), [32] * 2), ((22,), [22] * 3)],
)
def test_a_request_alone_is_spread_over_the_contexts_without_more_padding(
    counts: tuple[int, ...], wanted: list[int]
) -> None:
    batcher = batcher_with(counts, Ask("interactive", [250] * 64))
    busy: list[float] = []
    batches: list[Batch[Ask]] = []
    while len(busy) < 2:
        batch = batcher.take(busy, 2 - len(busy))
        assert batch is not None
        batches.append(batch)
        busy.append(batch.tokens)
    while (batch := batcher.take(busy, idle=0)) is not None:
        batches.append(batch)
        busy[busy.index(min(busy))] += batch.tokens
    batches += drain(batcher)
    assert [batch.padded_rows for batch in batches] == wanted


def test_a_bound_on_rows_below_the_shape_is_kept() -> None:
    batcher: Batcher[Ask] = Batcher(BatchLimits((256,), 10, 8192, ((256, 16),)))
    queue(batcher, Ask("bulk", [250] * 25))
    assert shapes_of(drain(batcher)) == [(256, 10, 16), (256, 10, 16), (256, 5, 16)]


def test_without_shapes_a_batch_ahead_is_whole_too() -> None:
    batcher: Batcher[Ask] = Batcher(BatchLimits(BUCKETS))
    queue(batcher, Ask("bulk", [250] * 20))
    assert [batch and batch.rows for batch in (batcher.take([9.0], 0), batcher.take([9.0], 0))] == [16, None]
