"""Queries that dashboards ask in many places."""

from __future__ import annotations

from collections.abc import Sequence

from panels import Panel

Row = tuple[str, Sequence[Panel]]
"""A row of a dashboard: its name and its panels."""
INTERACTIVE = '{lane="interactive"}'
BULK = '{lane="bulk"}'
INCOMPATIBLE = (
    '{code=~"tokenizer_mismatch|catalogue_mismatch|unsupported_version|sealed_unreadable|not_sealed"}'
)


def rate(metric: str, by: str = "", where: str = "") -> str:
    """A counter's rate over all workers."""
    total = f"rate({metric}{where}[$__rate_interval])"
    return f"sum by ({by}) ({total})" if by else f"sum({total})"


def quantile(share: float, histogram: str, by: str = "", where: str = "") -> str:
    """A quantile of a histogram over all workers."""
    labels = f"{by}, le" if by else "le"
    return f"histogram_quantile({share}, {rate(histogram + '_bucket', labels, where)})"


def buckets(histogram: str, where: str = "") -> str:
    """A histogram's buckets over all workers, for a heat map."""
    return f"sum by (le) (increase({histogram}_bucket{where}[$__rate_interval]))"
