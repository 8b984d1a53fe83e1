"""How good a ranking of journals is, given the journal that published each manuscript."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Quality:
    """Shares (0 to 1) of `n` manuscripts whose journal is among the first k, and the mean reciprocal rank."""

    n: int
    top_1: float
    top_3: float
    top_5: float
    top_10: float
    recall_100: float
    mrr: float

    def as_dict(self) -> dict[str, float]:
        """Plain values."""
        return asdict(self)


def measure(scores: NDArray[np.float32], truth: NDArray[np.int64]) -> Quality:
    """The quality of `scores`, float [N, J], for the journals `truth`, int [N]; a tie is lost."""
    own = scores[np.arange(len(truth)), truth][:, None]
    rank: NDArray[np.int64] = np.sum(scores >= own, axis=1)

    def within(k: int) -> float:
        return float(np.mean(rank <= k))

    return Quality(
        len(truth), within(1), within(3), within(5), within(10), within(100), float(np.mean(1 / rank))
    )
