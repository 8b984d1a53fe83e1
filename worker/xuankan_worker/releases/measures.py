"""How sure a measured quality is, and how well probabilities were kept. Pure, NumPy only."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xuankan_worker.execution.fusion import Floats

MEASURES = ("top1", "top3", "top5", "top10", "mrr")
"""Of `xuankan.candidates.quality.Quality`."""
_RESAMPLES, _LIMITS = 2000, (0.025, 0.975)


class Interval(NamedTuple):
    """Where a measure lies with a probability of 95 %."""

    low: float
    high: float


class Bin(NamedTuple):
    """Predictions of like probability.

    Attributes:
        probability: their mean.
        right: share of them that came true.
        papers: how many.
    """

    probability: float
    right: float
    papers: int


class Reliability(NamedTuple):
    """How well probabilities agree with what came true.

    Attributes:
        error: expected calibration error: the mean over predictions of how far their bin's mean probability
            is from its share of right ones (Guo et al. 2017, eq. 3).
        bins: of equally many predictions each (Nguyen & O'Connor 2015), ascending.
    """

    error: float
    bins: list[Bin]


def intervals_of(ranks: NDArray[np.int64], seed: int = 0) -> dict[str, Interval]:
    """The percentile bootstrap (Efron 1979) of what `quality_of` says of ranks, by measure.

    A resample is drawn as the counts of its ranks, which is the same as drawing its papers.

    Args:
        ranks: int [N]; 0 means that the journal is not among the candidates.
        seed: of the resamples.
    """
    values, counts = np.unique(ranks, return_counts=True)
    found = values > 0
    reciprocal = np.divide(1.0, values, out=np.zeros(len(values)), where=found)
    worth = np.stack([*(found & (values <= k) for k in (1, 3, 5, 10)), reciprocal], axis=1)
    drawn = np.random.default_rng(seed).multinomial(len(ranks), counts / len(ranks), _RESAMPLES)
    low, high = np.quantile(drawn @ worth / len(ranks), _LIMITS, axis=0).tolist()
    return {name: Interval(*limits) for name, *limits in zip(MEASURES, low, high, strict=True)}


def reliability(probability: Floats, right: NDArray[np.bool_], bins: int = 15) -> Reliability:
    """How well calibrated predictions are.

    Args:
        probability: float [N].
        right: bool [N], whether each came true.
        bins: how many; fewer if there are fewer predictions.
    """
    parts = np.array_split(np.argsort(probability, kind="stable"), bins)
    table = [
        Bin(float(probability[part].mean()), float(right[part].mean()), len(part))
        for part in parts
        if len(part)
    ]
    off = sum(abs(part.probability - part.right) * part.papers for part in table)
    return Reliability(off / len(probability), table)


def auroc(higher: Floats, lower: Floats) -> float:
    """The probability that a value of the one kind exceeds one of the other; ties count half.

    Args:
        higher: float [N], values that should be the higher.
        lower: float [M].
    """
    ordered = np.sort(lower)
    below = np.searchsorted(ordered, higher, side="left")
    not_above = np.searchsorted(ordered, higher, side="right")
    return float((below + not_above).mean() / 2 / len(lower))


def auroc_interval(higher: Floats, lower: Floats, seed: int = 0) -> Interval:
    """The percentile bootstrap of `auroc`, both kinds drawn anew."""
    random = np.random.default_rng(seed)
    found = [
        auroc(random.choice(higher, len(higher)), random.choice(lower, len(lower)))
        for _ in range(_RESAMPLES // 4)
    ]
    return Interval(*np.quantile(found, _LIMITS).tolist())
