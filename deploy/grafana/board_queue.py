"""The dashboard "Queue and lanes"."""

from __future__ import annotations

from collections.abc import Iterator

from panels import over_time, spread
from queries import BULK, INTERACTIVE, Row, buckets, quantile, rate


def queue() -> Iterator[Row]:
    """What waits, for how long, and how it ends, by lane."""
    yield (
        "What is waiting",
        [
            over_time(
                "Requests on the streams",
                "Queued: no worker has read it. Running: a worker holds it.",
                [("max by (lane, state) (xuankan_queue_requests)", "{{lane}} {{state}}")],
                "none",
                stacked=True,
            ),
            over_time(
                "Seconds of work waiting",
                "For one worker of the current average speed.",
                [("max by (lane) (xuankan_queue_work_seconds)", "{{lane}}")],
                "s",
            ),
            over_time(
                "Age of the oldest waiting request",
                "Among those that no worker has read.",
                [("max by (lane) (xuankan_queue_oldest_seconds)", "{{lane}}")],
                "s",
            ),
            over_time(
                "Expected wait",
                "For a request submitted now. Producers hold back at 60 s, bulk at 600 s.",
                [("max by (lane) (xuankan_queue_wait_seconds)", "{{lane}}")],
                "s",
            ),
            over_time(
                "Rows in the workers",
                "Read, and waiting for a context.",
                [("sum by (lane) (xuankan_waiting_rows)", "{{lane}}")],
                "none",
                stacked=True,
            ),
            over_time(
                "Workers",
                "By state.",
                [("max by (state) (xuankan_workers)", "{{state}}")],
                "none",
                stacked=True,
            ),
        ],
    )
    yield (
        "How long it took",
        [
            spread(
                "Wait of interactive requests",
                "From receipt to reading.",
                buckets("xuankan_queue_seconds", INTERACTIVE),
                "s",
            ),
            spread(
                "Wait of bulk requests",
                "From receipt to reading.",
                buckets("xuankan_queue_seconds", BULK),
                "s",
            ),
            over_time(
                "Receipt to ranking, 95 %",
                "By lane.",
                [(quantile(0.95, "xuankan_request_seconds", "lane"), "{{lane}}")],
                "s",
                exemplars=True,
            ),
            over_time(
                "Slack to the deadline, lowest 5 %",
                "Time left when the ranking was ready, for requests with a deadline.",
                [(quantile(0.05, "xuankan_deadline_slack_seconds", "lane"), "{{lane}}")],
                "s",
            ),
            over_time(
                "Missed deadlines",
                "Share of ended requests.",
                [("xuankan:expired:ratio10m", "{{lane}}")],
                "percentunit",
            ),
            over_time(
                "Commits",
                "Round trip.",
                [
                    (quantile(0.5, "xuankan_commit_seconds"), "median"),
                    (quantile(0.95, "xuankan_commit_seconds"), "95 %"),
                ],
                "s",
            ),
        ],
    )
    yield (
        "What went wrong",
        [
            over_time(
                "Ended without a ranking",
                "By code; see docs/protocol.md.",
                [(rate("xuankan_requests_ended_total", "code", '{status!="ok"}'), "{{code}}")],
                "reqps",
                stacked=True,
            ),
            over_time(
                "Taken over, and already answered",
                "Requests of workers that died, and commits that found an existing result.",
                [
                    (rate("xuankan_requests_recovered_total"), "taken over"),
                    (rate("xuankan_results_duplicate_total"), "answered before"),
                ],
                "reqps",
            ),
            over_time(
                "Sent to the dead stream",
                "By code.",
                [(rate("xuankan_dead_entries_total", "code"), "{{code}}")],
                "reqps",
            ),
            over_time(
                "The server",
                "Memory used, and its limit.",
                [
                    ("max(xuankan_server_memory_used_bytes)", "used"),
                    ("max(xuankan_server_memory_limit_bytes)", "maxmemory"),
                ],
                "bytes",
            ),
        ],
    )
