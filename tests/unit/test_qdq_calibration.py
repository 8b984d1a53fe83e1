"""Histograms of activations and where they are clipped; Kendall's τ and the loss that it judges with."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xuankan_worker.releases.calibrate import BINS, Histogram, entropy, min_max, percentile
from xuankan_worker.releases.judge import Rankings, loss
from xuankan_worker.releases.scores import kendall_tau


def histogram(counts: list[int], width: float = 1.0) -> Histogram:
    result = Histogram()
    result.counts[: len(counts)] = counts
    result.width = width
    return result


def brute_force_entropy(counts: list[int]) -> int:
    """The best number of bins, by the definition, in plain loops."""
    while counts[-1] == 0:
        counts = counts[:-1]
    best, chosen = math.inf, len(counts)
    for bins in range(128, len(counts) + 1):
        p = [float(count) for count in counts[:bins]]
        p[-1] += sum(counts[bins:])
        q = [0.0] * bins
        for level in range(128):
            start, end = level * bins // 128, (level + 1) * bins // 128
            filled = [place for place in range(start, end) if counts[place]]
            for place in filled:
                q[place] = sum(counts[start:end]) / len(filled)
        total_p, total_q = sum(p), sum(q)
        divergence = 0.0
        for a, b in zip(p, q, strict=True):
            if a:
                divergence += a / total_p * math.log(a / total_p * total_q / b) if b else math.inf
        if divergence < best:
            best, chosen = divergence, bins
    return chosen


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("shape", ["normal", "long tail", "sparse"])
def test_entropy_is_what_brute_force_finds(seed: int, shape: str) -> None:
    random = np.random.default_rng(seed)
    values = np.abs(random.standard_normal(3000)) * 40
    if shape == "long tail":
        values = np.concatenate([values, random.uniform(100, 260, 10)])
    elif shape == "sparse":
        values = values[:60] * 2
    counts = np.bincount(values.astype(int), minlength=128).tolist()
    assert entropy(histogram(counts, 0.25)) == 0.25 * brute_force_entropy(counts)


def test_entropy_clips_a_few_outliers_and_min_max_does_not() -> None:
    values = np.abs(np.random.default_rng(0).standard_normal(200_000)).astype(np.float32)
    found = Histogram()
    found.add(np.append(values, np.float32(50)))
    assert min_max(found) == pytest.approx(50, rel=0.01)
    assert 2 < entropy(found) < 10
    assert percentile(found) == pytest.approx(float(np.percentile(values, 99.99)), abs=0.1)


def test_few_values_are_not_clipped() -> None:
    assert entropy(histogram([5, 3, 1])) == 3
    assert percentile(histogram([5, 3, 1]), 100) == 3


@given(st.lists(st.lists(st.floats(0, 1e4, width=32), min_size=1, max_size=20), min_size=1, max_size=6))
def test_a_histogram_holds_all_that_it_was_given(parts: list[list[float]]) -> None:
    found = Histogram()
    for part in parts:
        found.add(np.array(part, np.float32))
    largest = max(value for part in parts for value in part)
    assert found.counts.sum() == sum(len(part) for part in parts)
    assert largest <= found.width * BINS * (1 + 1e-6)
    assert abs(min_max(found) - largest) <= 2 * found.width


def brute_force_tau(first: list[float], second: list[float]) -> float:
    agree = ties_first = ties_second = pairs = 0
    for i in range(len(first)):
        for j in range(i):
            a, b = first[i] - first[j], second[i] - second[j]
            pairs += 1
            ties_first += a == 0
            ties_second += b == 0
            agree += (a * b > 0) - (a * b < 0)
    scale = math.sqrt((pairs - ties_first) * (pairs - ties_second))
    return agree / scale if scale else math.nan


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=12))
def test_kendall_tau_is_what_counting_pairs_gives(scores: list[tuple[int, int]]) -> None:
    first, second = ([float(value) for value in column] for column in zip(*scores, strict=True))
    found = kendall_tau(np.array([first]), np.array([second]))
    np.testing.assert_allclose(found, [brute_force_tau(first, second)], rtol=1e-12)


def test_kendall_tau_of_equal_and_reversed_rankings() -> None:
    scores = np.array([[1.0, 2, 3, 4], [4, 3, 2, 1]])
    np.testing.assert_array_equal(kendall_tau(scores, scores * 7 - 3), [1, 1])
    np.testing.assert_array_equal(kendall_tau(scores, -scores), [-1, -1])


def test_loss_is_relative_to_the_reference() -> None:
    """Four papers, three right before and two after; the lost one falls from rank 1 to rank 2."""
    candidates = np.tile(np.arange(3), (4, 1))
    rankings = Rankings([], candidates, np.zeros((4, 3), np.float32), np.array([0, 0, 0, 2]))
    before = np.array([[3, 2, 1]] * 4, np.float32)
    after = before.copy()
    after[1] = [2, 3, 1]
    found = loss(rankings, before.ravel(), after.ravel(), 0.0)
    assert (found.papers, found.candidates, found.top1) == (4, 3, 0.75)
    assert found.top1_loss == pytest.approx(100 / 3, abs=0.01)
    mrr = (3 + 1 / 3) / 4
    assert found.mrr_loss == pytest.approx(100 * 0.5 / 4 / mrr, abs=0.01)
    assert found.kendall_tau == pytest.approx((3 + 1 / 3) / 4, abs=1e-4)
    assert found.top1_error > 0


def test_the_first_stage_counts_with_its_weight() -> None:
    candidates = np.arange(3)[None]
    rankings = Rankings([], candidates, np.array([[0, 0, 5]], np.float32), np.array([2]))
    logits = np.array([3, 2, 1], np.float32)
    assert loss(rankings, logits, -logits, 0.0).top1 == 0
    assert loss(rankings, logits, -logits, 10.0).top1 == 1
    assert loss(rankings, logits, -logits, 10.0).top1_loss == 0
