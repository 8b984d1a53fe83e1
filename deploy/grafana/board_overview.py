"""The dashboard "Overview"."""

from __future__ import annotations

from collections.abc import Iterator

from panels import figure, over_time
from queries import INTERACTIVE, Row, quantile, rate


def overview() -> Iterator[Row]:
    """Whether everything is fine, and if not, where to look."""
    yield (
        "Now",
        [
            figure("Workers", "Workers that take requests.", 'sum(xuankan_workers{state="running"})', "none"),
            figure(
                "Wait of a new interactive request",
                "Expected wait until it is processed. At 60 s producers start holding requests back.",
                'max(xuankan_queue_wait_seconds{lane="interactive"})',
                "s",
                bad_from=30,
            ),
            figure(
                "Rankings slower than 5 s",
                "Share of interactive rankings in the last hour; the objective is at most 1 %.",
                "xuankan:interactive_slow:ratio1h",
                "percentunit",
                bad_from=0.01,
            ),
            figure(
                "Dead letters",
                "Requests that no worker could finish: `xuankan dead list`.",
                "max(xuankan_dead_letters)",
                "none",
                bad_from=1,
            ),
        ],
    )
    yield (
        "Requests",
        [
            over_time(
                "Arrivals",
                "Requests read by workers.",
                [(rate("xuankan_requests_received_total", "lane"), "{{lane}}")],
                "reqps",
            ),
            over_time(
                "Outcomes",
                "Requests ended, by status. `invalid` and `cancelled` come from the producers.",
                [(rate("xuankan_requests_ended_total", "status"), "{{status}}")],
                "reqps",
                stacked=True,
            ),
            over_time(
                "Receipt to ranking, interactive",
                "Excludes the path to and from the producer. Points link to traces.",
                [
                    (quantile(share, "xuankan_request_seconds", where=INTERACTIVE), name)
                    for share, name in ((0.5, "median"), (0.95, "95 %"), (0.99, "99 %"))
                ],
                "s",
                exemplars=True,
            ),
            over_time(
                "Rows scored",
                "(manuscript, journal) pairs, and the capacity of the workers while rows wait.",
                [
                    (rate("xuankan_rows_total"), "scored"),
                    ("max(xuankan_capacity_rows_per_second)", "capacity"),
                ],
                "rowsps",
            ),
        ],
    )
    yield (
        "Portal",
        [
            over_time(
                "Answers",
                "HTTP answers, by status.",
                [(rate("xuankan_portal_requests_total", "status"), "{{status}}")],
                "reqps",
                stacked=True,
            ),
            over_time(
                "Submission to ranking",
                "As seen by callers who wait.",
                [
                    (quantile(0.5, "xuankan_portal_ranking_seconds"), "median"),
                    (quantile(0.95, "xuankan_portal_ranking_seconds"), "95 %"),
                ],
                "s",
            ),
            over_time(
                "Problems",
                "Answers without a ranking, by code.",
                [(rate("xuankan_portal_problems_total", "code"), "{{code}}")],
                "reqps",
            ),
            over_time(
                "Open",
                "Calls waiting for a ranking, and event streams.",
                [
                    ("sum(xuankan_portal_waiting)", "waiting"),
                    ("sum(xuankan_portal_streams)", "event streams"),
                ],
                "none",
            ),
        ],
    )
