"""How probable it is that the catalogue covers a manuscript's field. Pure; fitting and serving share it.

The encoder's row says three things of that, whatever the candidates are and whatever was asked:

- farthest: cosine of the K-th nearest paper. In a field of many papers here, all K are near.
- energy: log Σ exp(logit) over the journals, low for what is unlike all training papers (Liu et al. 2020).
- entropy: of the journals' probabilities; high where none is likely.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from xuankan_worker.execution.fusion import Floats

FEATURES = ("farthest", "energy", "entropy")


def fit_features(logits: Floats, cosines: Floats) -> NDArray[np.float64]:
    """The features of B manuscripts, float64 [B, 3].

    Args:
        logits: float [B, J], of the catalogue's journals.
        cosines: float [B, K], of the nearest papers; −inf for those of journals that the catalogue lacks.
    """
    values = logits.astype(np.float64)
    top = values.max(axis=1, keepdims=True)
    energy = top[:, 0] + np.log(np.exp(values - top).sum(axis=1))
    shares = np.exp(values - energy[:, None])
    entropy = energy - (shares * values).sum(axis=1)
    lowest = np.where(np.isfinite(cosines), cosines, np.inf).min(axis=1)
    farthest = np.where(np.isfinite(lowest), lowest, 0.0)
    return np.stack([farthest, energy, entropy], axis=1)


def fit_of(weights: Mapping[str, float], features: NDArray[np.float64]) -> NDArray[np.float64]:
    """The probabilities, float64 [B], of features, [B, 3], by the weights of a release."""
    logit = features @ np.array([weights[name] for name in FEATURES]) + weights["constant"]
    return 1 / (1 + np.exp(-np.clip(logit, -30.0, 30.0)))
