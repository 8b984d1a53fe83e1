"""How good a ranking of journals is, given the journal that published each manuscript. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Quality:
    """How well rankings agree with where the papers appeared.

    Attributes:
        papers: how many papers were ranked.
        top1, top3, top5, top10: share of papers whose journal is among the first k.
        mrr: mean reciprocal rank; a journal that is not among the candidates counts 0.
        recall: share of papers whose journal is among the candidates at all.
    """

    papers: int
    top1: float
    top3: float
    top5: float
    top10: float
    mrr: float
    recall: float

    def as_dict(self) -> dict[str, float]:
        """The attributes as a plain dict, rounded to what a reader can use."""
        return {name: round(value, 5) for name, value in asdict(self).items()}


def ranks_of(
    scores: NDArray[np.floating], candidates: NDArray[np.integer], truth: NDArray[np.integer]
) -> NDArray[np.int64]:
    """The rank of each paper's own journal.

    Ties are broken by catalogue position, as the worker breaks them.

    Args:
        scores: float [N, C], higher is better.
        candidates: int [N, C], journal of each score; -1 where a row has fewer than C candidates.
        truth: int [N], the journal where the paper appeared.

    Returns:
        int64 [N]; 1 is best, 0 means that the journal is not among the candidates.
    """
    hit = candidates == truth[:, None]
    found = hit.any(axis=1)
    column = hit.argmax(axis=1)
    own = np.take_along_axis(scores, column[:, None], axis=1)
    better = (candidates >= 0) & ((scores > own) | ((scores == own) & (candidates < truth[:, None])))
    return np.where(found, better.sum(axis=1) + 1, 0)


def quality_of(ranks: NDArray[np.int64]) -> Quality:
    """Summarize ranks as `ranks_of` gives them.

    Raises:
        ValueError: there are no ranks.
    """
    if not len(ranks):
        raise ValueError("no ranks to summarize")
    found = ranks > 0
    reciprocal = np.divide(1.0, ranks, out=np.zeros(len(ranks)), where=found)

    def within(k: int) -> float:
        return float((found & (ranks <= k)).mean())

    return Quality(
        papers=len(ranks),
        top1=within(1),
        top3=within(3),
        top5=within(5),
        top10=within(10),
        mrr=float(reciprocal.mean()),
        recall=float(found.mean()),
    )


def measure(scores: NDArray[np.float32], truth: NDArray[np.int64]) -> Quality:
    """The quality of scores of all journals; a tie is lost, and `recall` is the share within the first 100.

    Args:
        scores: float [N, J], higher is better.
        truth: int [N], the journal where each manuscript appeared.
    """
    own = scores[np.arange(len(truth)), truth][:, None]
    ranks: NDArray[np.int64] = np.sum(scores >= own, axis=1)
    return replace(quality_of(ranks), recall=float(np.mean(ranks <= 100)))
