"""The arithmetic of measurements: spreads, percentiles, arrivals, floating-point operations. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xuankan_worker.manifest import Architecture


def encoder_parameters(shape: Architecture) -> int:
    """Weights and biases of the encoder's layers; embeddings, pooler and classifier are not counted."""
    hidden, inner = shape.hidden_size, shape.intermediate_size
    attention = 4 * (hidden * hidden + hidden)
    feed_forward = 2 * hidden * inner + inner + hidden
    norms = 4 * hidden
    return shape.layers * (attention + feed_forward + norms)


def flops(shape: Architecture, lengths: ArrayLike) -> float:
    """Floating-point operations of one forward pass over pairs of these lengths, padding not counted.

    `2·P·S + 4·L·H·S²` for a pair of S tokens: two for each parameter and token, and two matrix products of
    S×S×H for each layer's attention. This is the forward third of `6·N + 12·L·H·Q·T` for each token
    (Chowdhery et al. 2022, "PaLM", appendix B). What an engine leaves out because no score depends on it
    (all but one row of the last layer) counts as done, as is usual for "model FLOPs".
    """
    tokens = np.asarray(lengths, dtype=np.float64)
    linear = 2.0 * encoder_parameters(shape) * tokens
    attention = 4.0 * shape.layers * shape.hidden_size * tokens**2
    return float((linear + attention).sum())


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, lowest and highest of repeated measurements.

    Raises:
        ValueError: there are none.
    """
    if not values:
        raise ValueError("nothing was measured")
    return {
        "median": round(float(np.median(values)), 4),
        "min": round(min(values), 4),
        "max": round(max(values), 4),
    }


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """p50, p95 and p99 in milliseconds of latencies in seconds, with their number.

    A percentile is a value that was measured: the smallest that at least so many of them do not exceed.

    Raises:
        ValueError: there are none.
    """
    if not len(seconds):
        raise ValueError("no latency was measured")
    found = np.percentile(np.asarray(seconds), (50, 95, 99), method="inverted_cdf") * 1000
    named = {f"p{level}_ms": round(float(value), 3) for level, value in zip((50, 95, 99), found, strict=True)}
    return named | {"count": len(seconds)}


def arrivals(rate_per_s: float, seconds: float, seed: int) -> NDArray[np.float64]:
    """Times of a Poisson process, drawn beforehand: float64 [N], ascending, in seconds from its start.

    Independent processes with rates that add up to R are together one process of rate R.
    """
    random = np.random.default_rng(seed)
    expected = rate_per_s * seconds
    drawn = int(expected + 10 * np.sqrt(expected) + 10)  # ten standard deviations: never too few
    times = np.cumsum(random.exponential(1 / rate_per_s, drawn))
    return times[times < seconds]


def steady_rates(ended_s: ArrayLike, from_s: float, until_s: float, windows: int) -> list[float]:
    """Completions per second in equal windows of a run's steady part.

    Args:
        ended_s: when each request was seen to end, in any order, on one clock.
        from_s: where the steady part begins: after the first round.
        until_s: where it ends: before the last submission.
        windows: how many.
    """
    edges = np.linspace(from_s, until_s, windows + 1)
    counts, _ = np.histogram(np.asarray(ended_s, dtype=np.float64), edges)
    return [float(rate) for rate in counts / np.diff(edges)]


def kendall_tau(left: ArrayLike, right: ArrayLike) -> float:
    """Kendall's τ-b of two scorings of the same N things (Kendall 1945); 1.0 if both order nothing.

    The share of pairs ordered alike less the share ordered differently, corrected for ties. O(N²): for lists
    as long as a ranking's candidates.

    Raises:
        ValueError: the scorings are not of the same things, or of fewer than two.
    """
    a, b = np.asarray(left, dtype=np.float64), np.asarray(right, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1 or len(a) < 2:
        raise ValueError(f"scores of shapes {a.shape} and {b.shape} cannot be compared")
    upper = np.triu_indices(len(a), 1)
    first, second = np.sign(a[:, None] - a)[upper], np.sign(b[:, None] - b)[upper]
    scale = np.sqrt(float(np.abs(first).sum()) * float(np.abs(second).sum()))
    if scale == 0:
        return 1.0 if (first == second).all() else 0.0
    return float((first * second).sum() / scale)
