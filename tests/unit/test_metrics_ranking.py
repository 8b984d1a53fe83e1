from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from xuankan.candidates.quality import quality_of, ranks_of
from xuankan_worker.releases.scores import FUSION_WEIGHTS, fit_fusion_weight, fused


def test_rank_counts_the_better_candidates() -> None:
    scores = np.array([[0.1, 0.9, 0.5], [0.3, 0.2, 0.1]])
    candidates = np.array([[7, 8, 9], [7, 8, 9]])
    assert ranks_of(scores, candidates, np.array([9, 9])).tolist() == [2, 3]


def test_rank_is_zero_where_the_journal_is_no_candidate() -> None:
    assert ranks_of(np.array([[0.1, 0.9]]), np.array([[1, 2]]), np.array([3])).tolist() == [0]


def test_ties_go_to_the_journal_that_comes_first_in_the_catalogue() -> None:
    scores = np.array([[1.0, 1.0, 1.0]])
    candidates = np.array([[5, 2, 9]])
    assert [ranks_of(scores, candidates, np.array([j]))[0] for j in (2, 5, 9)] == [1, 2, 3]


def test_places_without_a_candidate_do_not_count() -> None:
    scores = np.array([[0.5, 9.0]])
    assert ranks_of(scores, np.array([[4, -1]]), np.array([4])).tolist() == [1]


def test_quality_of_known_ranks() -> None:
    quality = quality_of(np.array([1, 2, 4, 6, 20, 0]))
    assert (quality.papers, quality.top1, quality.top3, quality.top5, quality.top10) == (
        6,
        pytest.approx(1 / 6),
        pytest.approx(2 / 6),
        pytest.approx(3 / 6),
        pytest.approx(4 / 6),
    )
    assert quality.mrr == pytest.approx((1 + 1 / 2 + 1 / 4 + 1 / 6 + 1 / 20) / 6)
    assert quality.recall == pytest.approx(5 / 6)


def test_quality_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="no ranks"):
        quality_of(np.array([], dtype=np.int64))


@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(1, 20))
def test_quality_is_consistent(seed: int, papers: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    candidates = np.stack([rng.permutation(40)[:count] for _ in range(papers)])
    truth = rng.integers(0, 40, papers)
    ranks = ranks_of(rng.integers(0, 4, (papers, count)).astype(float), candidates, truth)
    assert ((ranks > 0) == (candidates == truth[:, None]).any(axis=1)).all()
    assert ranks.max(initial=0) <= count
    quality = quality_of(ranks)
    assert 0 <= quality.top1 <= quality.mrr <= quality.recall <= 1
    assert quality.top1 <= quality.top3 <= quality.top5 <= quality.top10 <= quality.recall


def test_fusion_weight_leans_on_the_better_score() -> None:
    rng = np.random.default_rng(0)
    candidates: NDArray[np.int64] = np.arange(30) + np.zeros((400, 1), dtype=np.int64)
    truth = rng.integers(0, 30, 400)
    hit: NDArray[np.float64] = (candidates == truth[:, None]).astype(np.float64)
    good: NDArray[np.float64] = hit * 3.0 + rng.normal(size=(400, 30))
    noise = rng.normal(size=(400, 30))
    assert fit_fusion_weight(good, noise, candidates, truth) < 0.3
    assert fit_fusion_weight(noise, good, candidates, truth) > 5.0
    other: NDArray[np.float64] = hit * 3.0 + rng.normal(size=(400, 30))
    both = fit_fusion_weight(good, other, candidates, truth)
    assert 0.4 < both < 2.5
    assert both in FUSION_WEIGHTS


def test_fused_is_the_worker_s_formula() -> None:
    assert fused(np.array([[1.0, 2.0]]), np.array([[-1.0, -3.0]]), 0.5).tolist() == [[0.5, 0.5]]
