"""The portal's HTTP interface: submitting, waiting, looking, following and taking back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx2
import pytest

from tests.support.engine import ScriptedEngine
from tests.support.gateway import calling, gateway, paper, served, serving, states
from tests.support.portal import manuscript, producer
from tests.support.server import ValkeyProcess
from tests.support.world import Queue, eventually, running

pytestmark = pytest.mark.usefixtures("queue")


@pytest.fixture(scope="module")
def portal_url(shared_server: ValkeyProcess) -> Iterator[str]:
    with served(shared_server.url) as url:
        yield url


@pytest.fixture
async def portal_client(portal_url: str) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of a portal without keys or workers."""
    async with httpx2.AsyncClient(base_url=portal_url, timeout=30) as client:
        yield client


async def test_a_manuscript_goes_in_and_a_ranking_comes_out(server_url: str, queue: Queue) -> None:
    async with running(server_url, ScriptedEngine()), calling(server_url) as client:
        answer = await client.post("/v1/rankings", json=paper(1, top_k=3, candidates=12))
        async with producer(server_url) as python:
            ranking = await python.rank(manuscript(1), top_k=3, candidates=12)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["status"], body["scored"], body["release"]) == ("done", 12, "release-1")
    assert [place["journal"]["id"] for place in body["journals"]] == [place.journal for place in ranking]
    assert [place["score"] for place in body["journals"]] == [place.score for place in ranking]
    assert [place["rank"] for place in body["journals"]] == [1, 2, 3]
    assert body["journals"][0]["journal"]["publisher"] == "Example Press"
    assert body["journals"][0]["journal"]["apc_usd"] is None
    assert answer.headers["location"] == f"/v1/rankings/{body['id']}"
    assert answer.headers["cache-control"] == "no-store"
    assert min(body["timings_ms"].values()) >= 0
    assert await queue.left() == 0


async def test_filters_and_named_journals_decide_what_is_scored(server_url: str) -> None:
    async with running(server_url, ScriptedEngine()), calling(server_url) as client:
        named = await client.post("/v1/rankings", json=paper(journals=["journal-3", "journal-31"]))
        surgery = await client.post(
            "/v1/rankings", json=paper(filters={"subjects": ["Surgery"], "languages": []}, top_k=40)
        )
    assert {place["journal"]["id"] for place in named.json()["journals"]} == {"journal-3", "journal-31"}
    assert {place["journal"]["subjects"][0] for place in surgery.json()["journals"]} == {"surgery"}


async def test_who_does_not_wait_looks_later(server_url: str) -> None:
    engine = ScriptedEngine()
    async with calling(server_url) as client:
        first = await client.post("/v1/rankings", params={"wait_s": 0}, json=paper(lane="bulk"))
        assert (first.status_code, first.json()["status"], first.json()["lane"]) == (202, "queued", "bulk")
        where = first.headers["location"]
        assert first.json()["links"] == {"self": where, "events": f"{where}/events"}
        assert int(first.headers["retry-after"]) >= 1
        engine.gate.clear()
        async with running(server_url, engine):
            await engine.wait_started()
            look = await client.get(where)
            assert (look.status_code, look.json()["status"]) == (202, "running")
            waiting = asyncio.create_task(client.get(where, params={"wait_s": 30}))
            engine.gate.set()
            assert (await waiting).json()["status"] == "done"
        again = await client.get(where)
        assert (again.status_code, again.json()) == (200, (await waiting).json())


async def test_what_the_manuscript_cites_is_said_of_each_journal(server_url: str) -> None:
    """By every way to the ranking: it travels with the request."""
    async with running(server_url, ScriptedEngine()), calling(server_url) as client:
        body = paper(journals=["journal-1", "journal-2"], cited={"journal-2": 7, "nowhere": 3})
        answer = await client.post("/v1/rankings", json=body)
        later = await client.get(answer.headers["location"])
        plain = await client.post("/v1/rankings", json=paper(journals=["journal-1", "journal-2"]))
        wrong = await client.post("/v1/rankings", json=paper(cited={"journal-2": -1}))
    for found in (answer, later):
        assert {p["journal"]["id"]: p["cited"] for p in found.json()["journals"]} == {
            "journal-1": 0,
            "journal-2": 7,
        }
    assert [p["score"] for p in plain.json()["journals"]] == [p["score"] for p in answer.json()["journals"]]
    assert [p["cited"] for p in plain.json()["journals"]] == [None, None]
    assert (wrong.status_code, wrong.json()["code"]) == (400, "malformed")


async def test_a_wait_ends_in_time(server_url: str) -> None:
    async with calling(server_url) as client:
        answer = await client.post("/v1/rankings", params={"wait_s": 0.2}, json=paper())
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")


async def test_a_stream_tells_every_step(server_url: str) -> None:
    engine = ScriptedEngine()
    engine.gate.clear()
    async with calling(server_url) as client:
        where = (await client.post("/v1/rankings?wait_s=0", json=paper(2))).headers["location"]
        async with states(client, f"{where}/events") as events:
            assert (await anext(events))[0] == "queued"
            async with running(server_url, engine):
                name, state = await anext(events)
                while name == "queued":
                    name, state = await anext(events)
                assert (name, state["status"]) == ("running", "running")
                engine.gate.set()
                last = [event async for event in events]
        assert [name for name, _ in last] == ["done"]
        assert last[0][1] == (await client.get(where)).json()
        # Whoever comes later gets the end at once.
        async with states(client, f"{where}/events") as events:
            assert [event async for event in events] == last


async def test_whoever_leaves_a_stream_costs_nothing_any_more(server_url: str) -> None:
    of = gateway(server_url)
    with serving(of) as address:
        async with httpx2.AsyncClient(base_url=address) as client:
            where = (await client.post("/v1/rankings?wait_s=0", json=paper())).headers["location"]
            async with states(client, f"{where}/events") as events:
                assert (await anext(events))[0] == "queued"
                assert of.streams.used == 1
            await eventually(lambda: of.streams.used == 0)


async def test_what_is_taken_back_is_gone(server_url: str, queue: Queue) -> None:
    async with calling(server_url) as client:
        where = (await client.post("/v1/rankings?wait_s=0", json=paper())).headers["location"]
        async with states(client, f"{where}/events") as events:
            assert (await anext(events))[0] == "queued"
            assert (await client.delete(where)).status_code == 204
            name, problem = [event async for event in events][-1]
        assert (name, problem["code"]) == ("problem", "cancelled")
        assert await queue.left() == 0
        assert (await client.delete(where)).status_code == 204
        gone = await client.get(where)
    assert (gone.status_code, gone.json()["code"]) == (410, "cancelled")
    assert gone.json()["id"] == where.rpartition("/")[2]


async def test_what_is_done_cannot_be_taken_back(server_url: str) -> None:
    async with running(server_url, ScriptedEngine()), calling(server_url) as client:
        where = (await client.post("/v1/rankings", json=paper())).headers["location"]
        late = await client.delete(where)
        nothing = await client.delete("/v1/rankings/open.00000000000000000000000000000000")
    assert (late.status_code, late.json()["code"]) == (409, "already_ended")
    assert (nothing.status_code, nothing.json()["code"]) == (404, "not_found")


async def test_a_ranking_that_fails_says_so(server_url: str) -> None:
    async with running(server_url, ScriptedEngine(faults=1000)), calling(server_url) as client:
        failed = await client.post("/v1/rankings", json=paper())
    async with calling(server_url) as client:
        where = (await client.post("/v1/rankings?wait_s=0", json=paper(deadline_s=0.1))).headers["location"]
        await asyncio.sleep(0.1)
        async with running(server_url, ScriptedEngine()):
            late = await client.get(where, params={"wait_s": 20})
        lost = await client.get("/v1/rankings/open.00000000000000000000000000000000?wait_s=5")
    assert (failed.status_code, failed.json()["code"]) == (502, "ranking_failed")
    assert (late.status_code, late.json()["code"]) == (504, "expired")
    assert (lost.status_code, lost.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({}, 422, "title"),
        ({"title": "关于图论", "abstract": "本文研究图的着色问题并给出新的界。"}, 422, "abstract"),
        ({"title": "x" * 100_001}, 400, "title"),
        ({"title": 3}, 400, "title"),
        (paper(keywords=["a", 3]), 400, "keywords[1]"),
        (paper(topk=3), 400, "topk"),
        (paper(top_k=0), 400, "top_k"),
        (paper(top_k="3"), 400, "top_k"),
        (paper(candidates=5, journals=["journal-1"]), 422, "candidates"),
        (paper(journals=["journal-99"]), 422, "journal"),
        (paper(journals=[]), 400, "journals"),
        (paper(lane="slow"), 400, "lane"),
        (paper(deadline_s=-1), 400, "deadline_s"),
        (paper(filters={"languages": ["english"]}), 400, "filters.languages[0]"),
        (paper(filters={"language": ["en"]}), 400, "filters.language"),
        (paper(filters={"subjects": ["…"]}), 422, "filters.subjects"),
        (paper(filters={"subjects": ["astrology"]}), 422, "filters"),
        (paper(filters={"max_apc_usd": -1}), 400, "filters.max_apc_usd"),
        ([paper()], 400, None),
        (b"{", 400, None),
        (b'{"title": "\xff"}', 400, None),
        (b'{"title": "\\ud800 graph"}', 400, None),
        (b"[" * 100_000, 400, None),
    ],
)
async def test_what_cannot_be_used_is_named(
    portal_client: httpx2.AsyncClient, queue: Queue, body: Any, status: int, field: str | None
) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    answer = await portal_client.post("/v1/rankings?wait_s=0", headers=headers, content=content)
    problem = answer.json()
    assert (answer.status_code, problem["status"], problem.get("field")) == (status, status, field), problem
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["type"] == f"urn:xuankan:problem:{problem['code']}"
    assert problem["detail"]
    assert await queue.left() == 0


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/rankings", 405, "method_not_allowed"),
        ("GET", "/v1/nothing", 404, "not_found"),
        ("GET", "/page/../app.py", 404, "not_found"),
        ("GET", "/v1/rankings/abc", 404, "not_found"),
        ("GET", "/v1/rankings/open.00000000000000000000000000000000/events", 404, "not_found"),
        ("GET", "/v1/journals?limt=3", 400, "malformed"),
        ("GET", "/v1/journals?limit=x", 400, "malformed"),
        ("GET", "/v1/journals?limit=1&limit=2", 400, "malformed"),
        ("GET", "/v1/journals/astrology-today", 404, "not_found"),
        ("POST", "/v1/rankings?wait_s=61", 400, "malformed"),
        ("POST", "/v1/rankings?wait_s=nan", 400, "malformed"),
        ("POST", "/v1/rankings", 415, "unsupported_media_type"),
    ],
)
async def test_calls_that_do_not_exist_are_problems_too(
    portal_client: httpx2.AsyncClient, method: str, path: str, status: int, code: str
) -> None:
    answer = await portal_client.request(method, path)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"


async def test_the_same_idempotency_key_gives_one_ranking(server_url: str, queue: Queue) -> None:
    key = {"Idempotency-Key": '"submission-4711-round-1"'}
    async with calling(server_url) as client:
        first, second = [
            await client.post("/v1/rankings?wait_s=0", json=paper(3), headers=key) for _ in range(2)
        ]
        assert first.json()["id"] == second.json()["id"]
        assert second.headers["idempotent-replayed"] == "true"
        assert "idempotent-replayed" not in first.headers
        assert await queue.left() == 1
        other = await client.post("/v1/rankings", json=paper(4), headers=key)
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_conflict")
        short = await client.post("/v1/rankings", json=paper(4), headers={"Idempotency-Key": "1"})
        assert (short.status_code, short.json()["field"]) == (422, "Idempotency-Key")
        async with running(server_url, ScriptedEngine()):
            done = await client.post("/v1/rankings", json=paper(3), headers=key)
    assert (done.status_code, done.json()["id"]) == (200, first.json()["id"])


async def test_whoever_hangs_up_leaves_nothing_in_the_queue(server_url: str, queue: Queue) -> None:
    async with calling(server_url) as client:
        with pytest.raises(httpx2.ReadTimeout):
            await client.post("/v1/rankings?wait_s=60", json=paper(), timeout=0.5)
        await eventually(lambda: queue.is_empty())
        # Whoever gave a key may come again.
        key = {"Idempotency-Key": "0123456789abcdef"}
        with pytest.raises(httpx2.ReadTimeout):
            await client.post("/v1/rankings?wait_s=60", json=paper(), headers=key, timeout=0.5)
        await eventually(lambda: is_queued(queue))
        kept = await client.post("/v1/rankings?wait_s=0", json=paper(), headers=key)
    assert kept.headers["idempotent-replayed"] == "true"
    assert await queue.left() == 1


async def is_queued(queue: Queue) -> bool:
    return await queue.left() == 1


async def test_a_full_queue_is_said_with_when_to_come_again(server_url: str, queue: Queue) -> None:
    await queue.command("CONFIG", "SET", "maxmemory", "1mb")
    try:
        async with calling(server_url) as client:
            answer = await client.post("/v1/rankings", json=paper())
            service = (await client.get("/v1/service")).json()
    finally:
        await queue.command("CONFIG", "SET", "maxmemory", "0")
    assert (answer.status_code, answer.json()["code"]) == (503, "queue_full")
    assert int(answer.headers["retry-after"]) >= 1
    assert "maxmemory" not in answer.text
    assert service["accepting"] is False
    assert service["message"]


async def test_the_server_may_come_late_go_and_come_back(own_server: ValkeyProcess) -> None:
    async with calling(own_server.url, server_timeout_s=2.0) as client:
        early = await client.post("/v1/rankings", json=paper())
        assert (early.status_code, early.json()["code"]) == (503, "unavailable")
        assert (await client.get("/readyz")).status_code == 503
        assert (await client.get("/healthz")).status_code == 200
        own_server.start()

        async def is_ready() -> bool:
            return (await client.get("/readyz")).status_code == 200

        await eventually(is_ready)
        where = (await client.post("/v1/rankings?wait_s=0", json=paper())).headers["location"]
        own_server.kill()
        away = await client.get(where)
        assert (away.status_code, away.json()["code"]) == (503, "unavailable")
        assert str(own_server.port) not in away.text
        own_server.start()
        await eventually(is_ready)
        async with running(own_server.url, ScriptedEngine()):
            assert (await client.get(where, params={"wait_s": 30})).status_code == 200
