"""The dashboard "GPU and batches"."""

from __future__ import annotations

from collections.abc import Iterator

from panels import over_time, spread
from queries import Row, buckets, rate


def batches() -> Iterator[Row]:
    """Whether the hardware is kept busy with useful work."""
    yield (
        "Batches",
        [
            over_time("Rows of a batch", "Mean.", [("xuankan:batch_rows:mean5m", "rows")], "none"),
            over_time(
                "Padding",
                "Share of the tokens computed.",
                [
                    (
                        rate("xuankan_tokens_total", where='{kind="padding"}')
                        + " / "
                        + rate("xuankan_tokens_total"),
                        "padding",
                    )
                ],
                "percentunit",
            ),
            over_time(
                "Why batches are no larger",
                "Full; shared with other contexts; drained: nothing else was waiting; retry: failed before.",
                [(rate("xuankan_dispatches_total", "reason"), "{{reason}}")],
                "ops",
                stacked=True,
            ),
            over_time(
                "Batches by bucket",
                "By padded tokens per row.",
                [(rate("xuankan_batches_total", "bucket"), "{{bucket}}")],
                "ops",
                stacked=True,
            ),
            over_time(
                "How full shapes are",
                "Rows scored divided by rows computed, by bucket.",
                [
                    (
                        rate("xuankan_shape_rows_total", "bucket")
                        + " / "
                        + rate("xuankan_batches_total", "bucket"),
                        "{{bucket}}",
                    )
                ],
                "none",
            ),
            over_time(
                "Failed batches",
                "They are retried, finally row by row.",
                [(rate("xuankan_batch_failures_total", "instance"), "{{instance}}")],
                "ops",
            ),
        ],
    )
    yield (
        "Engine",
        [
            over_time(
                "Busy contexts",
                "Share that is running a batch.",
                [
                    (
                        "sum by (instance) (xuankan_busy_contexts) / sum by (instance) (xuankan_contexts)",
                        "{{instance}}",
                    )
                ],
                "percentunit",
                most=1,
            ),
            spread(
                "Time per batch", "For which it occupies its context.", buckets("xuankan_batch_seconds"), "s"
            ),
            over_time(
                "Processor use",
                "Cores used by the engine's threads, by the whole process, and for assembling batches.",
                [
                    (rate("xuankan_engine_cpu_seconds_total"), "engine"),
                    (
                        'sum(rate(process_cpu_seconds_total{job="xuankan-worker"}[$__rate_interval]))',
                        "whole process",
                    ),
                    (rate("xuankan_assembly_seconds_total"), "assembling"),
                ],
                "none",
            ),
            over_time(
                "Batches at the engine",
                "Running, or ready for a context.",
                [("sum by (instance) (xuankan_batches_in_flight)", "{{instance}}")],
                "none",
            ),
        ],
    )
    yield (
        "GPU",
        [
            over_time(
                "Busy",
                "Share of the last sampling period in which a kernel was running.",
                [("xuankan_gpu_busy_ratio", "{{instance}} GPU {{gpu}}")],
                "percentunit",
                most=1,
            ),
            over_time(
                "Memory",
                "In use by all processes, and total.",
                [
                    ("xuankan_gpu_memory_used_bytes", "{{instance}} used"),
                    ("xuankan_gpu_memory_limit_bytes", "{{instance}} total"),
                ],
                "bytes",
            ),
            over_time(
                "Power",
                "A GPU at its limit lowers its clock.",
                [("xuankan_gpu_power_watts", "{{instance}} GPU {{gpu}}")],
                "watt",
                width="third",
            ),
            over_time(
                "Clock",
                "Of the multiprocessors.",
                [("xuankan_gpu_clock_hertz", "{{instance}} GPU {{gpu}}")],
                "hertz",
                width="third",
            ),
            over_time(
                "Temperature",
                "",
                [("xuankan_gpu_temperature_celsius", "{{instance}} GPU {{gpu}}")],
                "celsius",
                width="third",
            ),
        ],
    )
