"""Who may call the portal, how often, from where; and what else every answer has."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from tests.support.engine import ScriptedEngine
from tests.support.gateway import HUB, OJS, calling, gateway, paper, serving, write_keys
from tests.support.secured import secured_server
from tests.support.world import Queue, eventually, running
from xuankan.errors import InputError
from xuankan.portal import api_keys
from xuankan.portal.api_keys import KeyRing, new_key
from xuankan.portal.app import application

pytestmark = pytest.mark.usefixtures("queue")

ANONYMOUS = """
[anonymous]
rankings_per_minute = 6
burst = 2
"""


async def test_nobody_calls_without_a_key_where_keys_are_wanted(server_url: str, tmp_path: Path) -> None:
    async with calling(server_url, keys_file=write_keys(tmp_path)) as client:
        for headers in ({}, {"Authorization": "Bearer xk_wrong"}, {"Authorization": f"Basic {OJS}"}):
            answer = await client.post("/v1/rankings", json=paper(), headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert (await client.get("/v1/journals", headers=headers)).status_code == 401
        for headers in ({"Authorization": f"Bearer {OJS}"}, {"X-API-Key": OJS}):
            answer = await client.post("/v1/rankings?wait_s=0", json=paper(), headers=headers)
            assert answer.status_code == 202
            assert answer.json()["id"].startswith("ojs.")
        # What a client needs to find out that it needs a key.
        assert (await client.get("/v1/service")).json()["key_required"] is True
        assert (await client.get("/v1/openapi.json")).status_code == 200
        assert (await client.get("/")).status_code == 200


async def test_rankings_belong_to_the_key_that_asked(server_url: str, queue: Queue, tmp_path: Path) -> None:
    key = {"Idempotency-Key": "submission-1"}
    async with calling(server_url, OJS, keys_file=write_keys(tmp_path)) as client:
        hub = {"Authorization": f"Bearer {HUB}"}
        where = (await client.post("/v1/rankings?wait_s=0", json=paper(1), headers=key)).headers["location"]
        other = await client.post("/v1/rankings?wait_s=0", json=paper(2), headers=key | hub)
        for method, path in (("GET", where), ("GET", f"{where}/events"), ("DELETE", where)):
            answer = await client.request(method, path, headers=hub)
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        assert (await client.get(where)).status_code == 202
    assert other.status_code == 202
    assert other.headers["location"] != where
    assert await queue.left() == 2


async def test_a_key_calls_as_often_as_it_may_on_all_portals_together(
    server_url: str, tmp_path: Path
) -> None:
    keys = write_keys(tmp_path)
    async with (
        calling(server_url, HUB, keys_file=keys) as one,
        calling(server_url, HUB, keys_file=keys) as two,
    ):
        answers = [
            await client.post("/v1/rankings?wait_s=0", json=paper(n))
            for n, client in enumerate((one, two, one))
        ]
        assert [answer.status_code for answer in answers] == [202, 202, 202]
        assert answers[0].headers["ratelimit-policy"] == '"rankings";q=3;w=30'
        assert [answer.headers["ratelimit"].split(";")[1] for answer in answers] == ["r=2", "r=1", "r=0"]
        refused = await two.post("/v1/rankings?wait_s=0", json=paper(4))
        assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
        assert 1 <= int(refused.headers["retry-after"]) <= 10
        look = await two.get(answers[0].headers["location"])
        assert look.status_code == 202  # whoever may submit no more can look all the same
        assert look.headers["ratelimit-policy"] == '"looks";q=30;w=30'
        assert (await two.get("/v1/journals")).status_code == 200
        busy = await one.post(
            "/v1/rankings?wait_s=0", json=paper(), headers={"Authorization": f"Bearer {OJS}"}
        )
        assert busy.status_code == 202


async def test_scoring_more_journals_counts_more(server_url: str, tmp_path: Path) -> None:
    async with calling(server_url, HUB, keys_file=write_keys(tmp_path)) as client:
        answer = await client.post("/v1/rankings?wait_s=0", json=paper(candidates=200))
    assert answer.headers["ratelimit"].startswith('"rankings";r=1;')


async def test_without_a_key_addresses_are_counted(server_url: str, tmp_path: Path) -> None:
    async with calling(server_url, keys_file=write_keys(tmp_path, ANONYMOUS)) as client:
        codes = [(await client.post("/v1/rankings?wait_s=0", json=paper(n))).status_code for n in range(3)]
        assert codes == [202, 202, 429]
        wrong = await client.post("/v1/rankings", json=paper(), headers={"Authorization": "Bearer xk_wrong"})
        assert wrong.status_code == 401
        assert (await client.get("/v1/service")).json()["key_required"] is False


async def test_a_changed_file_of_keys_counts_without_a_restart(
    server_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(api_keys, "_LOOK_S", 0.0)
    keys = write_keys(tmp_path)
    new, lines = new_key("new")
    async with calling(server_url, new, keys_file=keys) as client:
        assert (await client.get("/v1/journals")).status_code == 401
        keys.write_text(keys.read_text() + lines)

        async def answers(status: int) -> bool:
            return (await client.get("/v1/journals")).status_code == status

        await eventually(lambda: answers(200))
        keys.write_text("[keys")  # an editor that saves in the middle of it locks nobody out
        os.utime(keys, (1, 1))
        assert await answers(200)
        assert "the previous keys stay in force" in caplog.text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[keys", "keys.toml"),
        ("[keys.ojs]\n", "sha256"),
        ('[keys.ojs]\nsha256 = "secret"\n', "sha256"),
        (f'[keys.anonymous]\nsha256 = "{"0" * 64}"\n', "'anonymous' cannot name a key"),
        (f'[keys."o.j.s"]\nsha256 = "{"0" * 64}"\n', "'o.j.s' cannot name a key"),
        (f'[keys.a]\nsha256 = "{"0" * 64}"\n[keys.b]\nsha256 = "{"0" * 64}"\n', "b has the same key as a"),
        (f'[keys.a]\nsha256 = "{"0" * 64}"\nburst = 0\n', "burst"),
        (f'[keys.a]\nsha256 = "{"0" * 64}"\nrate = 3\n', "rate"),
    ],
)
def test_a_file_of_keys_that_cannot_be_used_is_refused(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=told):
        KeyRing(path)


async def test_other_sites_may_not_call_unless_they_are_named(server_url: str) -> None:
    asked = {"Origin": "https://journal.example", "Access-Control-Request-Method": "POST"}
    async with (
        calling(server_url) as closed,
        calling(server_url, cors_origins=("https://journal.example",)) as opened,
    ):
        assert (
            "access-control-allow-origin" not in (await closed.options("/v1/rankings", headers=asked)).headers
        )
        assert "access-control-allow-origin" not in (await closed.get("/v1/service", headers=asked)).headers
        preflight = await opened.options("/v1/rankings", headers=asked)
        assert preflight.headers["access-control-allow-origin"] == "https://journal.example"
        other = await opened.options("/v1/rankings", headers=asked | {"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers
        answer = await opened.get("/v1/service", headers=asked)
        assert "location" in answer.headers["access-control-expose-headers"].lower()


async def test_large_bodies_are_not_read(server_url: str) -> None:
    async def trickle() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b" " * 65536

    async with calling(server_url) as client:
        kind = {"Content-Type": "application/json"}
        told = await client.post("/v1/rankings", content=b" " * (1024 * 1024 + 1), headers=kind)
        untold = await client.post("/v1/rankings", content=trickle(), headers=kind)
    assert (told.status_code, told.json()["code"]) == (413, "too_large")
    assert (untold.status_code, untold.json()["code"]) == (413, "too_large")


async def test_journals_are_found_and_filtered(server_url: str) -> None:
    async with calling(server_url) as client:
        everything = (await client.get("/v1/journals?limit=1000")).json()
        surgery = (await client.get("/v1/journals?subjects=surgery&limit=2&offset=1")).json()
        found = (await client.get("/v1/journals?q=journal-7")).json()
        none = (await client.get("/v1/journals?open_access=true&limit=0")).json()
        one = (await client.get("/v1/journals/journal-7")).json()
        facets = (await client.get("/v1/facets")).json()
    assert everything["total"] == len(everything["journals"]) == 40
    assert (surgery["total"], len(surgery["journals"])) == (6, 2)
    assert found["journals"][0] == one
    assert one["title"] == "Journal 7 of organic synthesis"
    assert (none["total"], none["journals"]) == (0, [])
    assert facets["publishers"] == [{"value": "Example Press", "journals": 40}]
    assert facets["subjects"][0] == {"value": "graph theory", "journals": 7}


async def test_the_page_may_load_nothing_from_elsewhere(server_url: str) -> None:
    async with calling(server_url) as client:
        page = await client.get("/")
        escape = await client.get("/page/%2e%2e/keys.py")
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    assert escape.status_code == 404


async def test_a_bug_is_a_problem_that_tells_nothing_of_the_inside(
    server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = gateway(server_url)

    async def fail() -> str | None:
        raise ZeroDivisionError("of the inside")

    monkeypatch.setattr(broken, "not_ready", fail)
    with serving(broken) as url:
        async with httpx2.AsyncClient(base_url=url) as client:
            answer = await client.get("/readyz")
    assert answer.status_code == 500
    assert answer.json()["code"] == "internal"
    assert "inside" not in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]


async def test_a_file_becomes_a_manuscript(server_url: str) -> None:
    entry = b"@article{a, title={On graphs}, abstract={We bound the chromatic number of graphs.}}"
    async with calling(server_url) as client:
        read = await client.post("/v1/extract?name=paper.bib", content=entry)
        refused = await client.post("/v1/extract?name=paper.exe", content=b"MZ\x90\x00")
    assert read.status_code == 200, read.text
    assert read.json()["manuscripts"][0]["title"] == "On graphs"
    assert (refused.status_code, refused.json()["code"]) == (422, "unusable")


async def test_calls_are_counted(server_url: str, tmp_path: Path) -> None:
    of = gateway(server_url, keys_file=write_keys(tmp_path))
    transport = httpx2.ASGITransport(application(of))
    async with of.opened(), httpx2.AsyncClient(transport=transport, base_url="http://portal") as client:
        bearer = {"Authorization": f"Bearer {OJS}"}
        await client.post("/v1/rankings?wait_s=0", json=paper(), headers=bearer)
        await client.post("/v1/rankings", json=paper())
        await client.request("BREW", "/v1/rankings")
    count = of.metrics.registry.get_sample_value
    for labels in (
        {"route": "/v1/rankings", "method": "POST", "status": "202"},
        {"route": "/v1/rankings", "method": "POST", "status": "401"},
        {"route": "other", "method": "other", "status": "405"},
    ):
        assert count("xuankan_portal_requests_total", labels) == 1
    assert count("xuankan_portal_rankings_total", {"outcome": "pending"}) == 1
    assert count("xuankan_portal_problems_total", {"code": "unauthorized"}) == 1
    assert count("xuankan_portal_key_requests_total", {"key": "ojs"}) == 1


async def test_a_producer_s_user_suffices(tmp_path: Path) -> None:
    with secured_server(tmp_path) as server:
        server.forget()
        keys = write_keys(tmp_path)
        async with (
            running(server.url("worker"), ScriptedEngine()),
            calling(server.url("producer"), HUB, keys_file=keys) as client,
        ):
            answer = await client.post("/v1/rankings", json=paper())
            where = (await client.post("/v1/rankings?wait_s=0", json=paper(1))).headers["location"]
            assert (await client.get(f"{where}/events")).text.count("event: done") == 1
            assert (await client.delete(where)).status_code == 409
            assert (await client.get("/readyz")).status_code == 200
        assert answer.status_code == 200, answer.text
        assert server.refused() == []
