"""How well the batcher fills an engine of static shapes, on the rows of real papers."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.simulation import default_cost, limits_of, row_lengths, shuffled, simulate, unseen_papers
from xuankan_worker.engines.tensorrt.shapes import Shape, choose_buckets

LENGTHS = row_lengths(unseen_papers(128), 64, 384, 125)


def shapes(*rows: int) -> tuple[Shape, ...]:
    buckets, _ = choose_buckets(np.bincount(np.concatenate(LENGTHS), minlength=513), 14)
    return tuple(Shape(bucket, each) for bucket in buckets for each in rows)


@pytest.mark.parametrize("rows", [(16,), (4, 16), (32,)])
def test_under_load_at_most_a_twentieth_is_padding_and_no_context_idles(rows: tuple[int, ...]) -> None:
    load = shuffled(LENGTHS, 2)
    # What a worker prefetches by default: eight whole batches for each of four slots.
    found = simulate(load, limits_of(shapes(*rows)), 8 * 4 * rows[-1], default_cost)
    assert found.padding <= 0.05
    assert found.busy >= 0.99
    assert sum(batch.rows for batch in found.batches) / sum(b.padded_rows for b in found.batches) >= 0.98


def test_small_requests_share_batches() -> None:
    random = np.random.default_rng(0)
    load = [random.choice(lengths, 8, replace=False) for lengths in LENGTHS for _ in range(4)]
    found = simulate(load, limits_of(shapes(16)), 512, default_cost)
    assert found.padding <= 0.05


def test_a_request_alone_is_padded_no_more_than_under_load() -> None:
    limits = limits_of(shapes(16))
    padding = [simulate([lengths], limits, 512, default_cost).padding for lengths in LENGTHS]
    assert np.mean(padding) <= 0.05
