"""Traces of requests by OpenTelemetry: from whoever submits, through the queue, to the engine.

A program with OpenTelemetry of its own finds Xuankan's spans among its own. `xuankan worker run` and `xuankan
portal` send theirs to a collector if OTEL_EXPORTER_OTLP_ENDPOINT names one; OpenTelemetry's other variables
(OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER, ...) count too. Without the extra `tracing` nothing is traced.

Manuscripts are unpublished work: spans tell of ids, lanes and times, never of content.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Awaitable, Callable, Generator, MutableMapping
from typing import TYPE_CHECKING, Any, Final, Literal

from xuankan.errors import InputError

try:
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError:  # the extra `tracing` is not installed
    trace = TraceContextTextMapPropagator = None

if TYPE_CHECKING:
    from opentelemetry.trace import Span

_Scope = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Scope]]
_Send = Callable[[_Scope], Awaitable[None]]
_App = Callable[[_Scope, _Receive, _Send], Awaitable[None]]
Kind = Literal["internal", "server", "producer"]
_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def configure(service: str) -> None:
    """Send this process's spans to the collector that the environment names; without one, do nothing.

    Args:
        service: what the process calls itself there, unless OTEL_SERVICE_NAME says otherwise.

    Raises:
        InputError: a collector is named, and the extra `tracing` is not installed.
    """
    variable = next((name for name in _ENDPOINTS if os.environ.get(name)), None)
    if variable is None:
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace import set_tracer_provider
    except ImportError as error:
        missing = "OpenTelemetry is not installed: pip install 'xuankan[tracing]', or unset it"
        raise InputError(variable, f"{os.environ[variable]!r} names a collector, but {missing}") from error
    name = os.environ.get("OTEL_SERVICE_NAME") or service
    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    set_tracer_provider(provider)


@contextlib.contextmanager
def span(
    name: str, kind: Kind = "internal", traceparent: str | None = None, **attributes: str
) -> Generator[Span | None]:
    """Make the block a span: below the current one, or below a caller's of whom `traceparent` tells.

    An exception marks the span as failed, by its type alone.
    """
    if trace is None or TraceContextTextMapPropagator is None:
        yield None
        return
    carrier = {} if traceparent is None else {"traceparent": traceparent}
    with trace.get_tracer("xuankan").start_as_current_span(
        name,
        TraceContextTextMapPropagator().extract(carrier) if carrier else None,
        trace.SpanKind[kind.upper()],
        attributes,
        record_exception=False,
        set_status_on_exception=False,
    ) as current:
        try:
            yield current
        except BaseException as error:
            current.set_attribute("error.type", type(error).__name__)
            current.set_status(trace.Status(trace.StatusCode.ERROR, type(error).__name__))
            raise


def traceparent() -> str | None:
    """The current span, as it travels with a request (W3C trace context); None if there is none."""
    if TraceContextTextMapPropagator is None:
        return None
    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get("traceparent")


class Traced:
    """ASGI middleware: makes every HTTP request a span, below the caller's if its headers tell of one."""

    def __init__(self, app: _App) -> None:
        self._app = app

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """Serve a connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        caller = next((value for name, value in scope["headers"] if name == b"traceparent"), None)
        # Two parts of the path at most: what follows are ids, and a name must not have one for each request.
        where = "/".join(scope["path"].split("/")[:3])
        method = str(scope["method"])
        with span(f"{method} {where}", "server", caller and caller.decode("latin-1")) as current:

            async def send_marked(message: _Scope) -> None:
                if message["type"] == "http.response.start" and current is not None:
                    current.set_attribute("http.response.status_code", int(message["status"]))
                await send(message)

            await self._app(scope, receive, send_marked)
