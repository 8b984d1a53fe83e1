"""A trace from the caller of a portal through the queue to the engine, as a collector receives it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Generator
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import pairwise
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support import portal
from tests.support.engine import ScriptedEngine
from tests.support.scrape import fetch
from tests.support.world import Queue, eventually, request, running
from xuankan import tracing as producer_tracing
from xuankan.errors import InputError

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Collector:
    """An OpenTelemetry collector, as far as it goes: takes spans by OTLP over HTTP."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.services: set[str] = set()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers["Content-Encoding"] == "gzip":
                    raise AssertionError("not asked for")
                collector.take(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base's name
                pass

        self._http = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def take(self, batch: Any) -> None:
        for resource in batch.resource_spans:
            self.services |= {
                one.value.string_value for one in resource.resource.attributes if one.key == "service.name"
            }
            self.spans += [span for scope in resource.scope_spans for span in scope.spans]

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def collector() -> Generator[Collector]:
    found = Collector()
    yield found
    found.close()


async def test_a_collector_gets_one_trace_from_the_caller_to_the_engine(
    server_url: str, queue: Queue, collector: Collector
) -> None:
    await queue.left()
    await asyncio.to_thread(traced, server_url, collector.url)
    assert collector.services == {"xuankan-test"}
    of_call = {span.name: span for span in collector.spans if span.trace_id.hex() == TRACE}
    parts = [f"xuankan.process.{part}" for part in ("queue", "batch", "engine", "rank", "commit")]
    assert set(of_call) == {"POST /v1/rankings", "xuankan.rank", "xuankan.process", *parts}
    whole = of_call["xuankan.process"]
    chain = [of_call["POST /v1/rankings"], of_call["xuankan.rank"], whole]
    assert chain[0].parent_span_id.hex() == CALLER
    for above, below in pairwise(chain):
        assert below.parent_span_id == above.span_id
    for name in parts:
        assert of_call[name].parent_span_id == whole.span_id
        assert of_call[name].start_time_unix_nano <= of_call[name].end_time_unix_nano
    for before, after in pairwise(parts):
        assert of_call[before].end_time_unix_nano == of_call[after].start_time_unix_nano
    engine = of_call["xuankan.process.engine"]
    assert engine.end_time_unix_nano - engine.start_time_unix_nano > 10_000_000  # 40 rows of 1 ms
    facts = {one.key: one.value.string_value or one.value.int_value for one in whole.attributes}
    assert facts["xuankan.status"] == "ok"
    assert (facts["messaging.system"], facts["messaging.destination.name"]) == ("redis", "interactive")
    assert (facts["xuankan.release"], facts["xuankan.scored"]) == ("release-1", 40)
    content = str(collector.spans)
    for word in portal.manuscript().abstract.split():
        assert word in ("We", "study", "the", "of", "0.") or word not in content, (
            "manuscripts are unpublished"
        )
    # What failed shows in a trace of its own.
    (failed,) = [span for span in collector.spans if span.trace_id.hex() != TRACE]
    assert (failed.name, failed.status.message, failed.status.code) == ("xuankan.rank", "RequestExpired", 2)


def traced(url: str, endpoint: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "tests.support.traced", url, f"00-{TRACE}-{CALLER}-01"],
        env=os.environ | {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint},
        check=True,
        timeout=60,
    )


async def test_what_no_trace_leads_to_is_ranked_all_the_same(server_url: str, queue: Queue) -> None:
    async with running(server_url, ScriptedEngine(), metrics_port=0) as worker:
        for traceparent in ("", "nonsense", f"00-{'0' * 32}-{'0' * 16}-01", f"00-{TRACE}-{CALLER}-00"):
            asked = request(traceparent=traceparent)
            await queue.push(asked)
            result = await queue.result(asked)
            assert (result.status, result.traceparent) == ("ok", traceparent)
        await eventually(lambda: worker.status().in_flight == 0)
        assert (await fetch(worker.metrics_port))[0] == 200


def test_a_collector_without_the_extra_is_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    producer_tracing.configure("x")  # nothing is asked for, so nothing is done
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(InputError, match=r"names a collector.*xuankan\[tracing\]"):
        producer_tracing.configure("x")
