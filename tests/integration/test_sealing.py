"""Sealed requests and results on a real server: what it holds, and what becomes of what it is given."""

from __future__ import annotations

import os

import pytest

from tests.support import portal
from tests.support.engine import ScriptedEngine
from tests.support.world import KEYS, Queue, eventually, request, run_burst, running
from xuankan.errors import ProtocolError, RequestCancelled, RequestFailed, RequestIncompatible, SealError
from xuankan.protocol.sealing import Sealer, is_sealed
from xuankan.protocol.wire import Request

ONE, TWO = os.urandom(32), os.urandom(32)
SEALER = Sealer([ONE])
MANUSCRIPT = portal.manuscript()


async def entries(queue: Queue) -> list[dict[bytes, bytes]]:
    return [fields for _, fields in await queue.command("XRANGE", KEYS.stream("bulk"), "-", "+")]


async def body(queue: Queue, request_id: str) -> bytes:
    return await queue.command("HGET", KEYS.result(request_id), "body")


async def test_the_server_holds_nothing_that_can_be_read(server_url: str, queue: Queue) -> None:
    async with portal.producer(server_url, sealer=SEALER) as producer:
        ticket = await producer.submit(MANUSCRIPT)
        (entry,) = await entries(queue)
        asked = Request.decode(SEALER.open("request", ticket.request_id, entry[b"request"]))
        async with running(server_url, ScriptedEngine(), sealer=SEALER):
            portal.assert_right(await producer.result(ticket), MANUSCRIPT)
    kept = await body(queue, ticket.request_id)
    assert is_sealed(entry[b"request"])
    assert is_sealed(kept)
    seen = b"".join([*entry.values(), kept, *(await queue.command("HVALS", KEYS.result(ticket.request_id)))])
    assert not any(bytes(asked.tokens[place : place + 3]) in seen for place in range(len(asked.tokens) - 2))
    assert b"journal-" not in seen


async def test_a_worker_without_the_key_says_so_to_both_sides_and_buries_nothing(
    server_url: str, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    async with portal.producer(server_url, sealer=SEALER) as producer:
        for sealer in (Sealer(), Sealer([TWO])):
            async with running(server_url, ScriptedEngine(), sealer=sealer):
                with pytest.raises(
                    RequestIncompatible, match=f"sealed with key {SEALER.key_ids[0]}"
                ) as caught:
                    await producer.rank(MANUSCRIPT)
            assert caught.value.code == "sealed_unreadable"
    assert await queue.dead() == []
    assert f"sealed with key {SEALER.key_ids[0]}; there is no key here: XUANKAN_KEYS" in caplog.text


async def test_bodies_cannot_be_moved_to_another_request(server_url: str, queue: Queue) -> None:
    mine, other = request(), request()
    await queue.push_raw(SEALER.seal("request", mine.id, mine.encode()), other.id)
    await run_burst(server_url, ScriptedEngine(), sealer=SEALER)
    refused = await queue.result(other)
    assert refused.failure is not None
    assert (refused.status, refused.failure.code) == ("invalid", "sealed_unreadable")
    async with (
        portal.producer(server_url, sealer=SEALER) as producer,
        running(server_url, ScriptedEngine(), sealer=SEALER),
    ):
        first, second = [await producer.submit(portal.manuscript(place)) for place in range(2)]
        portal.assert_right(await producer.result(first), portal.manuscript(0))
        portal.assert_right(await producer.result(second), portal.manuscript(1))
        await queue.command(
            "HSET", KEYS.result(second.request_id), "body", await body(queue, first.request_id)
        )
        with pytest.raises(SealError, match="sealed for another request"):
            await producer.result(second)


async def test_a_plain_result_of_another_request_is_noticed_too(server_url: str, queue: Queue) -> None:
    async with portal.producer(server_url) as producer, running(server_url, ScriptedEngine()):
        first, second = [await producer.submit(portal.manuscript(place)) for place in range(2)]
        await producer.result(first)
        await producer.result(second)
        await queue.command(
            "HSET", KEYS.result(second.request_id), "body", await body(queue, first.request_id)
        )
        with pytest.raises(ProtocolError, match="answered with the result of"):
            await producer.result(second)


async def test_while_a_deployment_is_moved_to_keys_both_kinds_are_served(
    server_url: str, queue: Queue
) -> None:
    async with (
        portal.producer(server_url) as plain,
        portal.producer(server_url, sealer=SEALER) as sealed,
        running(server_url, ScriptedEngine(), sealer=SEALER),
    ):
        portal.assert_right(await plain.rank(MANUSCRIPT, request_id="plain"), MANUSCRIPT)
        portal.assert_right(await sealed.rank(MANUSCRIPT, request_id="sealed"), MANUSCRIPT)
        with pytest.raises(SealError, match="there is no key here"):
            await plain.result("sealed")
        portal.assert_right(await sealed.result("plain"), MANUSCRIPT)
    assert not is_sealed(await body(queue, "plain"))
    assert is_sealed(await body(queue, "sealed"))


async def test_keys_are_rotated_while_requests_wait(server_url: str, queue: Queue) -> None:
    async with portal.producer(server_url, sealer=Sealer([ONE, TWO])) as old:
        ticket = await old.submit(MANUSCRIPT)
        async with running(server_url, ScriptedEngine(), sealer=Sealer([TWO, ONE])):
            portal.assert_right(await old.result(ticket), MANUSCRIPT)
    assert Sealer([TWO]).open("result", ticket.request_id, await body(queue, ticket.request_id))


@pytest.mark.usefixtures("queue")
async def test_where_sealing_is_required_what_is_plain_is_refused(server_url: str) -> None:
    strict = Sealer([ONE], required=True)
    async with portal.producer(server_url) as plain:
        async with running(server_url, ScriptedEngine(), sealer=strict):
            with pytest.raises(RequestIncompatible, match="accepts only sealed requests") as caught:
                await plain.rank(MANUSCRIPT)
            assert caught.value.code == "not_sealed"
            async with portal.producer(server_url, sealer=strict) as producer:
                portal.assert_right(await producer.rank(MANUSCRIPT), MANUSCRIPT)
        async with running(server_url, ScriptedEngine()):
            await plain.rank(MANUSCRIPT, request_id="forged")
    async with portal.producer(server_url, sealer=strict) as producer:
        with pytest.raises(SealError, match="the ranking of forged is not sealed"):
            await producer.result("forged")


@pytest.mark.usefixtures("queue")
async def test_without_the_key_a_sealed_request_can_still_be_cancelled(server_url: str) -> None:
    async with (
        portal.producer(server_url, sealer=Sealer([ONE], required=True)) as owner,
        portal.producer(server_url) as other,
    ):
        ticket = await owner.submit(MANUSCRIPT)
        assert await other.cancel(ticket.request_id) == "cancelled"
        with pytest.raises(RequestCancelled):
            await owner.result(ticket)


async def test_what_is_buried_stays_sealed(server_url: str, queue: Queue) -> None:
    poison = 2999
    asked = request(tokens=[poison])
    await queue.push_raw(SEALER.seal("request", asked.id, asked.encode()), asked.id)
    async with running(server_url, ScriptedEngine(poison=poison), sealer=SEALER):
        await eventually(lambda: has_dead(queue))
    (dead,) = await queue.dead()
    assert is_sealed(dead[b"request"])
    async with portal.producer(server_url, sealer=SEALER) as producer:
        with pytest.raises(RequestFailed):
            await producer.result(asked.id)


async def has_dead(queue: Queue) -> bool:
    return bool(await queue.dead())


@pytest.mark.usefixtures("queue")
async def test_the_environment_gives_keys_to_both_sides(
    server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XUANKAN_KEYS", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
    monkeypatch.setenv("XUANKAN_REQUIRE_SEALED", "1")
    async with portal.producer(server_url) as producer, running(server_url, ScriptedEngine()):
        portal.assert_right(await producer.rank(MANUSCRIPT), MANUSCRIPT)
