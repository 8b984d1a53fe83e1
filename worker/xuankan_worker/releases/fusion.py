"""How a fusion's weights are fitted; serving computes it in `execution.fusion`.

Weights are those that make papers' own journals the likeliest (a conditional logit: McFadden 1974), found by
Newton's method; the loss is convex.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xuankan_worker.execution.fusion import Floats, log_softmax


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
    every = parts.astype(np.float64)
    count, _, features = every.shape
    each = np.ones(count, np.float64)
    if importance is not None:
        each = importance.astype(np.float64)
        each /= each.mean()
    x = every - np.take_along_axis(every, column[:, None, None], axis=1)  # the own journal at 0

    def scores_of(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        scores = x @ weights
        return scores if valid is None else np.where(valid, scores, -np.inf)

    def loss_of(weights: NDArray[np.float64]) -> float:
        own = np.take_along_axis(log_softmax(scores_of(weights)), column[:, None], axis=1)[:, 0]
        return float(-(each * own).mean() + 0.5 * ridge * weights @ weights)

    def derivatives(weights: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        shares = np.exp(log_softmax(scores_of(weights))) * each[:, None]
        mean: NDArray[np.float64] = np.einsum("nc,ncf->nf", shares, x)
        second: NDArray[np.float64] = np.einsum("nc,ncf,ncg->fg", shares, x, x, optimize=True)
        second -= (mean / each[:, None]).T @ mean
        return mean.sum(axis=0) / count + ridge * weights, second / count + ridge * np.eye(features)

    weights: NDArray[np.float64] = np.zeros(int(features))
    loss = loss_of(weights)
    for _ in range(50):
        gradient, second = derivatives(weights)
        step = np.linalg.solve(second, gradient)
        # Newton's step may overshoot far from the best: half of it until the loss falls.
        size, better = 1.0, loss
        while size > 1e-6 and (better := loss_of(weights - size * step)) > loss:
            size /= 2
        done, loss = loss - better < 1e-9, min(better, loss)
        weights -= size * step
        if done:
            break
    return weights
