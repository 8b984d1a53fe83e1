"""Producers in the small world, manuscripts for them, and workers beside them."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Generator
from functools import cache
from pathlib import Path
from typing import Any

from tests.support.world import KEYS, catalogue, expected
from xuankan import Manuscript, Producer, Ranking, RankingOptions, SyncProducer
from xuankan.client.prepare import Preparer

_WORDS = (
    "plasma",
    "graph",
    "surgery",
    "ecology",
    "synthesis",
    "policy",
    "waves",
    "bounds",
    "reefs",
    "credit",
)


def producer(url: str, **changes: Any) -> Producer:
    return Producer(url, **(_options() | changes))


def sync_producer(url: str, **changes: Any) -> SyncProducer:
    return SyncProducer(url, **(_options() | changes))


def _options() -> dict[str, Any]:
    return {"namespace": KEYS.namespace, "catalogue": catalogue(), "server_timeout_s": 20.0}


def manuscript(number: int = 0) -> Manuscript:
    """One of many manuscripts of different content and length."""
    body = " ".join(_WORDS[(number * 7 + place * place) % len(_WORDS)] for place in range(20 + number % 40))
    return Manuscript(f"On case {number} of {_WORDS[number % 10]}", f"We study the {body} of {number}.")


@cache
def _preparer() -> Preparer:
    return Preparer.load(None, catalogue(), None)


def assert_right(ranking: Ranking, of: Manuscript, **options: Any) -> None:
    """The ranking is the one that the model gives, computed here by hand."""
    assert [place.journal for place in ranking] == ranked_ids(of, **options)


def ranked_ids(of: Manuscript, **options: Any) -> list[str]:
    """The journals that the model gives, computed by hand."""
    asked = _preparer().request(of, RankingOptions(**options), request_id="x", reply="x", now_ms=0)
    return [journal for journal, _ in expected(asked)]


@contextlib.contextmanager
def worker_process(url: str) -> Generator[subprocess.Popen[bytes]]:
    """A worker on the scripted engine, in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.scripted_worker", url, "worker-1", "0"],
        cwd=Path(__file__).parents[2],
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
