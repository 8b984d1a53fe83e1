"""A batch as graphs for GPUs take it."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.support import tiny_bert
from xuankan_worker.engines.sequence import SEQUENCE_INPUTS, sequence_feed, write_sequence


def test_a_feed_is_sequence_major_and_names_every_place() -> None:
    batch = tiny_bert.random_batch(2, tokens=4, lengths=[4, 3])
    batch.first_lengths[:] = [2, 0]
    feed = sequence_feed(batch)
    assert tuple(feed) == SEQUENCE_INPUTS
    np.testing.assert_array_equal(feed["tokens"], batch.input_ids.T)
    np.testing.assert_array_equal(feed["places"], [[0, 1], [2, 3], [5, 5], [7, 7]])
    np.testing.assert_array_equal(feed["lengths"], [4, 3])
    assert all(value.dtype == np.int32 and value.flags.c_contiguous for value in feed.values())


@given(
    rows=st.integers(1, 5), more_rows=st.integers(0, 4), width=st.integers(3, 40), tokens=st.integers(3, 40)
)
def test_padding_is_well_formed_whatever_was_there_before(
    rows: int, more_rows: int, width: int, tokens: int
) -> None:
    batch = tiny_bert.random_batch(rows, tokens=width, lengths=[min(width, tokens)] * rows)
    arrays = [np.full((tokens, rows + more_rows), -1, np.int32) for _ in range(2)]
    lengths = np.full(rows + more_rows, -1, np.int32)
    write_sequence(batch, arrays[0], arrays[1], lengths)
    common = min(width, tokens)
    np.testing.assert_array_equal(arrays[0][:common, :rows], batch.input_ids[:, :common].T)
    assert not arrays[0][common:].any()
    assert not arrays[0][:, rows:].any()
    np.testing.assert_array_equal(arrays[1] // 2, np.tile(np.arange(tokens)[:, None], rows + more_rows))
    assert lengths[rows:].tolist() == [1] * more_rows
