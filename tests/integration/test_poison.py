"""Requests that kill the worker that scores them: they end, and they take no other request with them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator

from tests.support.world import Queue, assert_ranked, request
from xuankan.protocol.keys import Lane
from xuankan.protocol.wire import Request

POISON = 25_000  # no token of `request`, whose tokens are below 20,000


@contextlib.contextmanager
def supervised(url: str, name: str) -> Generator[None]:
    """A worker that is started again whenever it dies."""
    command = [sys.executable, "-m", "tests.support.deadly_worker", url, name, str(POISON)]
    supervisor = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        yield
    finally:
        os.killpg(supervisor.pid, signal.SIGKILL)
        supervisor.wait()


async def test_requests_that_kill_workers_end_and_their_neighbours_are_ranked(
    server_url: str, queue: Queue
) -> None:
    lanes: tuple[Lane, Lane] = ("interactive", "bulk")
    asked = [request(lane=lanes[n % 2], length=40) for n in range(24)]
    for n in (2, 3, 12):
        asked[n] = request(lane=lanes[n % 2], tokens=[1000] * 20 + [POISON])
    await queue.push(*asked)
    with supervised(server_url, "first"), supervised(server_url, "second"):
        results = [await queue.result(one) for one in asked]
    for n, (one, result) in enumerate(zip(asked, results, strict=True)):
        if n in (2, 3, 12):
            assert (result.status, result.failure and result.failure.code) == (
                "failed",
                "too_many_deliveries",
            )
            assert result.deliveries == 6  # the sixth was refused
        else:
            assert_ranked(result, one)
            assert result.deliveries <= 3
    records = {record[b"id"].decode(): record for record in await queue.dead()}
    assert records.keys() == {asked[n].id for n in (2, 3, 12)}
    for request_id, record in records.items():
        assert Request.decode(record[b"request"]).id == request_id
        history = json.loads(record[b"history"])
        assert [one["delivery"] for one in history] == [1, 2, 3, 4, 5]
        assert {one["worker"] for one in history} <= {"first", "second"}
        seen = [one["seen_ms"] for one in history]
        assert seen == sorted(seen)
        assert float(record[b"entry"].split(b"-")[0]) <= seen[0] <= float(record[b"buried_ms"])
    assert await queue.left() == 0
    assert await queue.command("KEYS", "*:history:*") == []
