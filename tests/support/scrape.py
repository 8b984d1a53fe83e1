"""Exporters, and reading /metrics as a scraper does."""

from __future__ import annotations

import asyncio
import contextlib
import urllib.error
import urllib.request
from collections.abc import AsyncGenerator

from prometheus_client.parser import text_string_to_metric_families

from tests.support.world import KEYS
from xuankan_worker.operations.exporter import Exporter

OPENMETRICS = "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
"""What Prometheus asks for."""


def _fetch(port: int, path: str, accept: str) -> tuple[int, str, str]:
    asked = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", headers={"Accept": accept} if accept else {}
    )
    try:
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read().decode()


async def fetch(port: int | None, path: str = "/metrics", accept: str = "") -> tuple[int, str, str]:
    """Status, content type and body."""
    assert port
    return await asyncio.to_thread(_fetch, port, path, accept)


async def values(port: int | None) -> dict[str, float]:
    """Every sample by its name and labels, as `name{label=value,...}` with sorted labels."""
    _, _, text = await fetch(port)
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


@contextlib.asynccontextmanager
async def exporting(url: str) -> AsyncGenerator[Exporter]:
    exporter = Exporter(url, KEYS)
    await exporter.start("127.0.0.1", 0)
    try:
        yield exporter
    finally:
        await exporter.stop()
