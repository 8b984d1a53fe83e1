"""The dashboard "One bulk job"."""

from __future__ import annotations

from collections.abc import Iterator

from panels import figure, over_time
from queries import BULK, INTERACTIVE, Row, quantile, rate


def bulk() -> Iterator[Row]:
    """One bulk job: choose its time range. A job has no metrics of its own; this is what its lane did."""
    ended = 'sum(increase(xuankan_requests_ended_total{{lane="bulk"{}}}[$__range]))'
    yield (
        "In this time range",
        [
            figure("Ranked", "Manuscripts.", ended.format(', status="ok"'), "none"),
            figure(
                "Without a ranking",
                "Invalid, failed, expired or cancelled: the job's side file has the reasons.",
                ended.format(', status!="ok"'),
                "none",
                bad_from=1,
            ),
            figure(
                "Still queued",
                "Producers keep a bounded number in flight, so the rest of a backlog is not included.",
                'max(xuankan_queue_requests{lane="bulk", state="queued"})',
                "none",
            ),
            figure(
                "Time to finish what is queued",
                "At the workers' current speed.",
                'max(xuankan_queue_wait_seconds{lane="bulk"})',
                "s",
            ),
        ],
    )
    yield (
        "Pace",
        [
            over_time(
                "Manuscripts ranked",
                "",
                [(rate("xuankan_requests_ended_total", "status", BULK), "{{status}}")],
                "reqps",
                stacked=True,
            ),
            over_time(
                "Arrivals of both lanes",
                "What else the workers were doing.",
                [(rate("xuankan_requests_received_total", "lane"), "{{lane}}")],
                "reqps",
                stacked=True,
            ),
            over_time(
                "Busy contexts",
                "Below 100 % the job's producer is the bottleneck: raise --in-flight, or use more shards.",
                [("sum(xuankan_busy_contexts) / sum(xuankan_contexts)", "busy")],
                "percentunit",
                most=1,
            ),
            over_time(
                "Requests on the bulk stream",
                "",
                [('max by (state) (xuankan_queue_requests{lane="bulk"})', "{{state}}")],
                "none",
                stacked=True,
            ),
            over_time(
                "Interactive latency meanwhile",
                "95th percentile from receipt to ranking: what the job costs people who wait.",
                [
                    (
                        quantile(0.95, "xuankan_request_seconds", where=INTERACTIVE),
                        "95 %",
                    )
                ],
                "s",
            ),
        ],
    )
