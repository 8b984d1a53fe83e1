"""Fusing and calibrating two scores, and comparing two scorings.

Pure arithmetic over arrays: no model, no file, no clock.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from xuankan.candidates.quality import quality_of, ranks_of

FUSION_WEIGHTS: tuple[float, ...] = (0.0, *(round(float(w), 4) for w in np.geomspace(0.05, 20.0, 79)))
"""The grid that `fit_fusion_weight` searches."""


def kendall_tau(first: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.float64]:
    """How alike two scorings rank the same candidates: Kendall's τ-b of each row.

    τ-b = (P − Q) / √((T − ties of first)(T − ties of second)), with T = C (C − 1) / 2 pairs of candidates, of
    which P are in the same order in both and Q in opposite orders; a tie is neither (Kendall 1945, "The
    treatment of ties in ranking problems").

    Args:
        first: float [N, C], higher is better.
        second: the same of the other scoring.

    Returns:
        float64 [N], 1 for equal rankings, −1 for reversed ones; NaN where a row's scores are all equal.
    """
    result = np.empty(len(first), np.float64)
    for row, (a, b) in enumerate(zip(first, second, strict=True)):
        order_a, order_b = (np.sign(x[:, None] - x[None, :]).astype(np.int8) for x in (a, b))
        scale = math.sqrt(np.count_nonzero(order_a) * np.count_nonzero(order_b))
        result[row] = (order_a * order_b).sum(dtype=np.int64) / scale if scale else math.nan
    return result


def fused(
    model: NDArray[np.floating], first_stage: NDArray[np.floating], weight: float
) -> NDArray[np.float32]:
    """The score that rankings are sorted by: model score + weight × first-stage score, float32."""
    return (model.astype(np.float32) + np.float32(weight) * first_stage.astype(np.float32)).astype(np.float32)


def fit_fusion_weight(
    model: NDArray[np.floating],
    first_stage: NDArray[np.floating],
    candidates: NDArray[np.integer],
    truth: NDArray[np.integer],
) -> float:
    """The weight of the grid `FUSION_WEIGHTS` with the best MRR; shapes as in `ranks_of`.

    MRR is a step function of the weight, so neighbours on the grid are averaged: the middle of a good
    plateau wins over a lucky spike.
    """
    curve = np.array(
        [quality_of(ranks_of(fused(model, first_stage, w), candidates, truth)).mrr for w in FUSION_WEIGHTS]
    )
    smooth = np.convolve(np.pad(curve, 1, mode="edge"), np.full(3, 1 / 3), mode="valid")
    return FUSION_WEIGHTS[int(smooth.argmax())]


def fit_temperature(
    fused: NDArray[np.floating], candidates: NDArray[np.integer], truth: NDArray[np.integer]
) -> float:
    """The temperature that makes softmaxes of fused scores the most likely; shapes as in `ranks_of`.

    Least negative log-likelihood of the papers' own journals (Guo et al. 2017, "On Calibration of Modern
    Neural Networks", section 4.2); papers whose journal is not among the candidates say nothing.
    """
    hit = candidates == truth[:, None]
    found = hit.any(axis=1)
    column, logits = hit[found].argmax(axis=1)[:, None], fused[found].astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)

    def loss(temperature: float) -> float:
        scaled = logits / temperature
        own = np.take_along_axis(scaled, column, axis=1)[:, 0]
        return float((np.log(np.exp(scaled).sum(axis=1)) - own).mean())

    return min((round(float(t), 4) for t in np.geomspace(0.1, 50.0, 200)), key=loss)
