"""Bad input on a real server: each kind is answered clearly, and its neighbours in the run are ranked."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import Any

import msgpack
import numpy as np
import pytest

from tests.support.engine import ScriptedEngine
from tests.support.world import KEYS, Queue, assert_ranked, catalogue, request, run_burst
from xuankan.protocol.template import Template
from xuankan.protocol.wire import Request, Result


@contextlib.asynccontextmanager
async def neighbours(url: str, queue: Queue, **changes: Any) -> AsyncGenerator[None]:
    """Queue good requests before and after what the block queues; serve; check the neighbours' rankings."""
    before, after = [request() for _ in range(3)], [request() for _ in range(3)]
    await queue.push(*before)
    yield
    await queue.push(*after)
    await run_burst(url, ScriptedEngine(), **changes)
    for asked in (*before, *after):
        assert_ranked(await queue.result(asked), asked)
    assert await queue.left() == 0


def assert_refused(result: Result | None, code: str, *words: str) -> None:
    assert result is not None
    assert result.status == "invalid"
    assert result.failure is not None
    assert result.failure.code == code
    assert not result.ranking
    for word in words:
        assert word in result.failure.message


def altered(asked: Request, **fields: object) -> bytes:
    message = msgpack.unpackb(asked.encode())
    return msgpack.packb(message | fields)  # type: ignore[return-value]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x00",
        b"\xff" * 100,
        b"not a request",
        msgpack.packb([1, 2, 3]),
        msgpack.packb({"v": 1}),
        b"\x81" * 3000,
        np.random.default_rng(3).bytes(10_000),
    ],
)
async def test_garbage_under_an_id_is_answered(server_url: str, queue: Queue, body: bytes) -> None:
    async with neighbours(server_url, queue):
        await queue.push_raw(body, "garbage")
    assert_refused(await queue.find("garbage"), "undecodable")
    assert await queue.dead() == []


@pytest.mark.parametrize("request_id", [None, b"\xff\xfe", "", "a b", "x" * 200])
async def test_garbage_without_a_usable_id_goes_to_the_dead_stream(
    server_url: str, queue: Queue, request_id: str | bytes | None
) -> None:
    async with neighbours(server_url, queue):
        entry = await queue.push_raw(b"garbage", request_id, "bulk")
    (record,) = await queue.dead()
    assert record[b"code"] == b"undecodable"
    assert record[b"entry"] == entry.encode()
    assert record[b"lane"] == b"bulk"
    assert record[b"request"] == b"garbage"


async def test_an_entry_of_other_fields_goes_to_the_dead_stream(server_url: str, queue: Queue) -> None:
    async with neighbours(server_url, queue):
        await queue.command("XADD", KEYS.stream("interactive"), "*", "colour", "blue")
    (record,) = await queue.dead()
    assert record[b"colour"] == b"blue"


async def test_ten_megabytes_of_garbage_are_refused_unread(server_url: str, queue: Queue) -> None:
    asked = request()
    async with neighbours(server_url, queue):
        await queue.push_raw(altered(asked, tokens=bytes(10_000_000)), asked.id)
        await queue.push_raw(bytes(10_000_000), None)
    assert_refused(await queue.find(asked.id), "undecodable", "at most 262144 are read")
    (record,) = await queue.dead()
    assert int(record[b"bytes"]) > 10_000_000
    assert b"request" not in record


async def test_a_future_protocol_version_is_named(server_url: str, queue: Queue) -> None:
    asked = request()
    async with neighbours(server_url, queue):
        await queue.push_raw(altered(asked, v=2, new_field=[1]), asked.id)
    assert_refused(await queue.find(asked.id), "unsupported_version", "version 2", "version 1")


async def test_another_id_inside_than_outside_is_refused(server_url: str, queue: Queue) -> None:
    asked = request()
    async with neighbours(server_url, queue):
        await queue.push_raw(asked.encode(), "outside")
    assert_refused(await queue.find("outside"), "id_mismatch", asked.id)
    assert await queue.find(asked.id) is None


@pytest.mark.parametrize(
    ("changes", "code", "word"),
    [
        ({"fingerprint": "0123456789abcdef"}, "tokenizer_mismatch", Template.default().fingerprint),
        ({"catalogue": "another"}, "catalogue_mismatch", catalogue().version),
        ({"candidates": [1, 40]}, "unknown_journal", "0 to 39"),
        ({"candidates": [2**32 - 1]}, "unknown_journal", "4294967295"),
        ({"candidates": list(range(40)) + list(range(100, 2000))}, "too_many_candidates", "at most 1000"),
        ({"tokens": [1000, -1]}, "token_out_of_range", "token -1"),
        ({"tokens": [1000, 2**31 - 1]}, "token_out_of_range", "token 2147483647"),
        (
            {"tokens": [1000] * (Template.default().max_manuscript_tokens + 1)},
            "too_many_tokens",
            str(Template.default().max_manuscript_tokens),
        ),
    ],
)
async def test_a_request_that_this_worker_cannot_score_is_refused(
    server_url: str, queue: Queue, changes: dict[str, Any], code: str, word: str
) -> None:
    asked = request(**changes)
    async with neighbours(server_url, queue):
        await queue.push(asked)
    result = await queue.find(asked.id)
    assert_refused(result, code, word)
    assert result is not None
    assert result.release == "release-1"


async def test_the_limit_on_candidates_is_the_workers(server_url: str, queue: Queue) -> None:
    allowed, refused = request(candidates=range(40)), request(candidates=range(40))
    await queue.push(allowed)
    await run_burst(server_url, ScriptedEngine(), max_candidates=40)
    await queue.push(refused)
    await run_burst(server_url, ScriptedEngine(), max_candidates=39)
    assert_ranked(await queue.result(allowed), allowed)
    assert_refused(await queue.find(refused.id), "too_many_candidates", "40 journals", "at most 39")


async def test_a_deadline_in_the_past_expires(server_url: str, queue: Queue) -> None:
    asked = request(deadline_ms=1_600_000_000_000)
    async with neighbours(server_url, queue):
        await queue.push(asked)
    result = await queue.find(asked.id)
    assert result is not None
    assert (result.status, result.failure and result.failure.code) == ("expired", "deadline_exceeded")


async def test_a_row_that_the_engine_cannot_score_fails_its_request_only(
    server_url: str, queue: Queue
) -> None:
    poisoned, spoiled = request(tokens=[5555] * 40), request(tokens=[6666] * 40)
    good = [request(length=40) for _ in range(4)]
    await queue.push(good[0], poisoned, good[1], spoiled, *good[2:])
    await run_burst(server_url, ScriptedEngine(poison=5555, spoiled=6666))
    for asked in good:
        assert_ranked(await queue.result(asked), asked)
    for asked in (poisoned, spoiled):
        result = await queue.result(asked)
        assert (result.status, result.failure and result.failure.code) == ("failed", "engine_error")
    records = await queue.dead()
    assert {record[b"id"].decode() for record in records} == {poisoned.id, spoiled.id}
    assert {Request.decode(record[b"request"]).id for record in records} == {poisoned.id, spoiled.id}
    assert await queue.left() == 0
