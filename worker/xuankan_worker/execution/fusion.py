"""One ranking of several parts: first stage, encoder, nearness, cross-encoder. Pure.

The fused score of a journal is the sum of its parts' scores times their weights.

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
    before: NDArray[np.float64] = np.cumsum(ranked, axis=1) - ranked
    taken: NDArray[np.bool_] = before < coverage
    taken[:, most:] = False
    chosen = np.zeros(shares.shape, bool)
    np.put_along_axis(chosen, order, taken, axis=1)
    return chosen
