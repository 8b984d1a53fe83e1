"""The dashboard "Models and quality"."""

from __future__ import annotations

from collections.abc import Iterator

from panels import over_time, rows, spread
from queries import INCOMPATIBLE, Row, buckets, rate


def releases() -> Iterator[Row]:
    """What is served, and whether its answers look as they used to."""
    yield (
        "What is served",
        [
            rows(
                "Workers",
                "Release, engine and catalogue of each worker: all the same, except during an upgrade.",
                "xuankan_worker_info",
            ),
            over_time(
                "Workers by release",
                "",
                [("count by (release) (xuankan_worker_info)", "{{release}}")],
                "none",
                stacked=True,
            ),
            over_time(
                "Refused as incompatible",
                "Producers with another tokenizer, catalogue, protocol or key.",
                [
                    (
                        rate(
                            "xuankan_requests_ended_total",
                            "code",
                            INCOMPATIBLE,
                        ),
                        "{{code}}",
                    )
                ],
                "reqps",
            ),
        ],
    )
    yield (
        "Quality, as far as it shows without ground truth",
        [
            spread(
                "Score of the first journal",
                "How confident rankings are. A shift means different manuscripts or a different release.",
                buckets("xuankan_top_score"),
                "percentunit",
            ),
            over_time(
                "Score of the first journal",
                "By the worker's release.",
                [
                    (
                        _by_release("xuankan_top_score_sum") + " / " + _by_release("xuankan_top_score_count"),
                        "{{release}}",
                    ),
                ],
                "percentunit",
            ),
            over_time(
                "Failed", "Share of ended requests.", [("xuankan:failed:ratio10m", "{{lane}}")], "percentunit"
            ),
            over_time(
                "Tokens per row",
                "Mean, without padding: how long manuscripts are.",
                [
                    (
                        rate("xuankan_tokens_total", where='{kind="real"}')
                        + " / "
                        + rate("xuankan_rows_total"),
                        "tokens",
                    )
                ],
                "none",
            ),
        ],
    )


def _by_release(metric: str) -> str:
    rated = f"rate({metric}[$__rate_interval])"
    return f"sum by (release) ({rated} * on (instance) group_left (release) xuankan_worker_info)"
