"""Fusing the parts of a ranking, and what neighbours say of journals."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from xuankan_worker.execution.fusion import in_play, log_softmax, with_rows
from xuankan_worker.execution.nearness import Kernel, nearness
from xuankan_worker.releases.fusion import fit_weights


@given(st.integers(0, 50))
def test_weights_are_found_again(seed: int) -> None:
    rng = np.random.default_rng(seed)
    parts = rng.normal(size=(4000, 8, 3))
    true = np.array([1.5, -0.5, 0.7])
    scores = parts @ true + rng.gumbel(size=(4000, 8))
    np.testing.assert_allclose(fit_weights(parts, scores.argmax(axis=1)), true, atol=0.15)


def test_large_parts_do_not_make_the_fit_diverge() -> None:
    rng = np.random.default_rng(0)
    parts = np.stack([rng.normal(size=(500, 20)) * 8, rng.normal(size=(500, 20)) * 0.02], axis=2)
    column = (parts[:, :, 0] * 3).argmax(axis=1)
    scores = parts @ fit_weights(parts, column)
    assert (scores.argmax(axis=1) == column).mean() > 0.99


def test_rows_share_the_probability_that_their_candidates_had() -> None:
    rng = np.random.default_rng(1)
    base, fused = rng.normal(size=(50, 10)), rng.normal(size=(50, 10))
    chosen = in_play(base, 0.8, 4)
    assert chosen.sum(axis=1).max() <= 4
    result = np.exp(with_rows(base, fused, chosen))
    before = np.exp(log_softmax(base))
    np.testing.assert_allclose(result.sum(axis=1), 1)
    np.testing.assert_allclose((result * chosen).sum(axis=1), (before * chosen).sum(axis=1))
    np.testing.assert_allclose(result[~chosen], before[~chosen])


def test_the_likeliest_candidates_get_rows() -> None:
    base = np.log(np.array([[0.5, 0.3, 0.15, 0.05]]))
    assert in_play(base, 0.75, 9).tolist() == [[True, True, False, False]]
    assert in_play(base, 0.81, 9).tolist() == [[True, True, True, False]]
    assert not in_play(base, 0.81, 0).any()


def test_neighbours_speak_for_their_journals() -> None:
    rng = np.random.default_rng(3)
    corpus = rng.normal(size=(60, 8)).astype(np.float32)
    corpus /= np.linalg.norm(corpus, axis=1, keepdims=True)
    journal, year = np.arange(60) % 5, np.full(60, 2015)
    every = corpus[:4] @ corpus.T
    papers = np.argsort(-every, axis=1)[:, :30]
    cosines = np.take_along_axis(every, papers, axis=1)
    near = nearness(cosines, papers, journal[papers], year, 6, Kernel(0.05, 6.0, 2016))
    for row in range(4):
        assert near.evidence[row, journal[row], 0] == row  # itself
        assert near.evidence[row, 5].tolist() == [-1, -1, -1]
        for j in range(5):
            own = papers[row][journal[papers[row]] == j]
            expected = np.append(cosines[row][journal[papers[row]] == j][:3], [cosines[row][-1]] * 3)[:3]
            np.testing.assert_allclose(near.mean[row, j], expected.mean(), rtol=1e-5)
            assert near.evidence[row, j][: len(own)].tolist() == own[:3].tolist()
            mass = np.exp(cosines[row] / 0.05)
            share = np.log(mass[journal[papers[row]] == j].sum() / mass.sum()) if len(own) else None
            if share is not None:
                np.testing.assert_allclose(near.density[row, j], share, rtol=1e-3, atol=1e-3)
