"""Traces of requests: where each one's time went, as spans below the span of whoever submitted it.

The producer sends its trace context with the request (`traceparent`). When a request has ended, its time is
known part by part (`Timings`), so its spans are made then, in one go, and nothing is kept while it runs.
Times are the server's: they agree among workers, and with a producer as far as its clock does with it.

Without the extra `tracing`, or without OTEL_EXPORTER_OTLP_ENDPOINT, nothing is traced.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from xuankan_worker.in_flight import EntryOutcome

try:
    from opentelemetry import trace
except ImportError:  # the extra `tracing` is not installed
    trace = None

_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_NS_PER_MS: Final = 1_000_000


class Part(NamedTuple):
    """A span: its name, and its Unix times in milliseconds on the server's clock."""

    name: str
    start_ms: float
    end_ms: float


def trace_id_of(traceparent: str | None) -> str | None:
    """The trace that a request belongs to, if it is sampled: 32 hexadecimal digits."""
    found = None if traceparent is None else _TRACEPARENT.fullmatch(traceparent)
    return found[1] if found is not None and int(found[3], 16) & 1 else None


def parts(outcome: EntryOutcome, commit_s: float) -> Iterator[Part]:
    """The whole stay of a request that ended, then its parts, one after the other.

    Args:
        outcome: of a request that has a result.
        commit_s: how long its commit took.
    """
    result = outcome.result
    assert result is not None
    timings, received_ms = result.timings, outcome.entry.received_ms
    ready_ms = result.completed_ms
    visible_ms = ready_ms + commit_s * 1000
    yield Part("xuankan.process", received_ms, max(received_ms, visible_ms))
    end_ms = ready_ms
    spent: list[Part] = []
    for name, took_ms in (
        ("rank", timings.rank_ms),
        ("engine", timings.engine_ms),
        ("batch", timings.batch_ms),
        ("queue", timings.queue_ms),
    ):
        spent.append(Part(f"xuankan.process.{name}", end_ms - took_ms, end_ms))
        end_ms -= took_ms
    if result.status == "ok":
        yield from reversed(spent)
    yield Part("xuankan.process.commit", ready_ms, visible_ms)


def record(outcome: EntryOutcome, commit_s: float) -> None:
    """Make the spans of a request that ended, if its producer traces it; arguments as of `parts`."""
    result = outcome.result
    if trace is None or result is None or trace_id_of(result.traceparent) is None:
        return
    found = _TRACEPARENT.fullmatch(result.traceparent or "")
    assert found is not None
    remote = trace.SpanContext(
        int(found[1], 16), int(found[2], 16), True, trace.TraceFlags(int(found[3], 16))
    )
    if not remote.is_valid:
        return
    entry, tracer = outcome.entry, trace.get_tracer("xuankan_worker")
    attributes: dict[str, Any] = {
        "messaging.system": "redis",
        "messaging.operation.type": "process",
        "messaging.operation.name": "rank",
        "messaging.destination.name": entry.key.lane,
        "messaging.message.id": result.id,
        "xuankan.status": result.status,
        "xuankan.release": result.release,
        "xuankan.worker": result.worker,
        "xuankan.scored": result.scored,
        "xuankan.deliveries": result.deliveries,
    }
    whole, *rest = parts(outcome, commit_s)
    parent = trace.set_span_in_context(trace.NonRecordingSpan(remote))
    span = tracer.start_span(
        whole.name, parent, trace.SpanKind.CONSUMER, attributes, start_time=_ns(whole.start_ms)
    )
    if result.failure is not None:
        span.set_attribute("error.type", result.failure.code)
        span.set_status(trace.Status(trace.StatusCode.ERROR, result.failure.code))
    inside = trace.set_span_in_context(span)
    for part in rest:
        child = tracer.start_span(part.name, inside, start_time=_ns(part.start_ms))
        child.end(_ns(part.end_ms))
    span.end(_ns(whole.end_ms))


def _ns(unix_ms: float) -> int:
    return round(unix_ms * _NS_PER_MS)
