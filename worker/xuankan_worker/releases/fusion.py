"""One ranking of several parts: first stage, encoder, nearness, cross-encoder. Pure arithmetic, NumPy only.

The fused score of a journal is the sum of its parts' scores times their weights. Weights are those that make
papers' own journals the likeliest (a conditional logit: McFadden 1974), found by Newton's method; the loss
is convex.

Rows of the cross-encoder are computed for some candidates only. These keep the probability that they have
together without it, and share it by the softmax of their fused scores with it; the others keep what they had.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


def log_softmax(scores: Floats) -> NDArray[np.float64]:
    """Along the last axis; −inf stays."""
    shifted = scores.astype(np.float64) - scores.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def fit_weights(
    parts: Floats,
    column: NDArray[np.integer],
    valid: NDArray[np.bool_] | None = None,
    importance: NDArray[np.floating] | None = None,
    ridge: float = 1e-3,
) -> NDArray[np.float64]:
    """The weights of F parts.

    Args:
        parts: float [N, C, F], scores of the candidates of N papers.
        column: int [N], which candidate is the paper's own journal.
        valid: bool [N, C], candidates that are there; default: all.
        importance: float [N], of the papers; default: equal.
        ridge: of the squared weights, for parts that say the same.

    Returns:
        float64 [F].
    """
    count, _, features = parts.shape
    each: NDArray[np.float64] = np.ones(count)
    if importance is not None:
        each = importance.astype(np.float64) / float(importance.mean())
    x = parts - np.take_along_axis(parts, column[:, None, None], axis=1)  # the own journal at 0

    def scores_of(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        scores = x @ weights
        return scores if valid is None else np.where(valid, scores, -np.inf)

    def loss_of(weights: NDArray[np.float64]) -> float:
        own = np.take_along_axis(log_softmax(scores_of(weights)), column[:, None], axis=1)[:, 0]
        return float(-(each * own).mean() + 0.5 * ridge * weights @ weights)

    weights = np.zeros(features)
    loss = loss_of(weights)
    for _ in range(50):
        shares: NDArray[np.float64] = np.exp(log_softmax(scores_of(weights))) * each[:, None]
        mean: NDArray[np.float64] = np.einsum("nc,ncf->nf", shares, x)
        gradient = mean.sum(axis=0) / count + ridge * weights
        second: NDArray[np.float64] = np.einsum("nc,ncf,ncg->fg", shares, x, x, optimize=True)
        second -= (mean / each[:, None]).T @ mean
        step: NDArray[np.float64] = np.linalg.solve(second / count + ridge * np.eye(features), gradient)
        # Newton's step may overshoot far from the best: half of it until the loss falls.
        size, better = 1.0, loss
        while size > 1e-6 and (better := loss_of(weights - size * step)) > loss:
            size /= 2
        done, loss = loss - better < 1e-9, min(better, loss)
        weights = weights - size * step
        if done:
            break
    return weights


def with_rows(base: Floats, fused: Floats, chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Log-probabilities of candidates of which some have rows (see the module's text).

    Args:
        base: float [N, C], scores without rows.
        fused: float [N, C], scores with them, of the chosen.
        chosen: bool [N, C], candidates that have rows.
    """
    before = log_softmax(base)
    inside = np.where(chosen, before, -np.inf)
    with np.errstate(divide="ignore", invalid="ignore"):
        mass = np.log(np.exp(inside).sum(axis=1, keepdims=True))
        within = log_softmax(np.where(chosen, fused, -np.inf))
    return np.where(chosen, within + mass, before)


def in_play(base: Floats, coverage: float, most: int) -> NDArray[np.bool_]:
    """The candidates that get rows: the likeliest that together reach a probability, `most` at most.

    Args:
        base: float [N, C], scores without rows.
        coverage: the probability.
        most: rows of a manuscript.
    """
    shares = np.exp(log_softmax(base))
    order = np.argsort(-shares, axis=1, kind="stable")
    ranked = np.take_along_axis(shares, order, axis=1)
    before = np.cumsum(ranked, axis=1) - ranked
    taken: NDArray[np.bool_] = (before < coverage) & (np.arange(shares.shape[1]) < most)
    chosen = np.zeros(shares.shape, bool)
    np.put_along_axis(chosen, order, taken, axis=1)
    return chosen


def calibration_error(
    probability: Floats, right: NDArray[np.bool_], bins: int = 15
) -> tuple[float, list[tuple[float, float, int]]]:
    """Expected calibration error and its reliability diagram.

    Bins hold equally many predictions (Nguyen & O'Connor 2015); the error is the mean over predictions of
    how far their bin's mean probability is from its share of right ones (Guo et al. 2017, eq. 3).

    Args:
        probability: float [N], of predictions.
        right: bool [N].
        bins: how many.

    Returns:
        The error, and of each bin mean probability, share right, and count.
    """
    order = np.argsort(probability, kind="stable")
    table = [
        (float(probability[part].mean()), float(right[part].mean()), len(part))
        for part in np.array_split(order, bins)
        if len(part)
    ]
    error = sum(abs(mean - share) * size for mean, share, size in table) / len(probability)
    return error, table
