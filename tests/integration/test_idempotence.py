"""One id, one ranking: submitted twice, answered to nobody, used for something else, grown old."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from urllib.parse import urlsplit

import pytest

from tests.support.engine import ScriptedEngine
from tests.support.portal import assert_right, manuscript, producer
from tests.support.proxy import Proxy
from tests.support.world import KEYS, Queue, run_burst, running
from xuankan import Filters, Manuscript, RankingOptions
from xuankan.client.prepare import digest
from xuankan.errors import RequestConflict, RequestExpired
from xuankan.protocol.scripts import RESULT_TTL_MS, TICKET_TTL_MS

pytestmark = pytest.mark.usefixtures("queue")


@contextlib.asynccontextmanager
async def proxied(server_url: str) -> AsyncGenerator[tuple[Proxy, str]]:
    """A proxy before the server, and its URL."""
    port = urlsplit(server_url).port
    assert port is not None
    proxy = Proxy(port)
    await proxy.start()
    try:
        yield proxy, server_url.replace(f":{port}", f":{proxy.port}")
    finally:
        await proxy.close()


async def test_replies_that_get_lost_after_the_server_took_the_request_double_nothing(
    server_url: str, queue: Queue
) -> None:
    engine, known = ScriptedEngine(), 0
    async with proxied(server_url) as (proxy, url), producer(url) as portal:
        await portal.cancel(await portal.submit(manuscript()))  # the server knows the script from now on
        for number in range(10):
            for link in list(proxy.links):
                link.drop_reply()
            ticket = await portal.submit(manuscript(number), request_id=f"lost-{number}", candidates=4)
            known += not ticket.new  # the server had it before the submission came that was answered
        assert known >= 5
        assert await queue.left() == 10
        async with running(server_url, engine):
            for number in range(10):
                ranking = await portal.result(f"lost-{number}", timeout_s=20)
                assert_right(ranking, manuscript(number), candidates=4)
    assert sum(rows for rows, _ in engine.batches) == 10 * 4


async def test_a_cancellation_whose_answer_gets_lost_is_one(server_url: str) -> None:
    async with proxied(server_url) as (proxy, url), producer(url) as portal:
        ticket = await portal.submit(manuscript())
        for link in list(proxy.links):
            link.drop_reply()
        # The first answer is lost; the second finds the request ended, as it is.
        assert await portal.cancel(ticket) in ("cancelled", "finished")
        await run_burst(server_url, ScriptedEngine())
        assert await portal.cancel(ticket) == "finished"


@pytest.mark.parametrize("state", ["queued", "running", "finished", "expired"])
async def test_an_id_that_is_used_for_something_else_is_an_error_and_no_silence(
    server_url: str, queue: Queue, state: str
) -> None:
    engine = ScriptedEngine()
    if state == "running":
        engine.gate.clear()
    async with contextlib.AsyncExitStack() as stack:
        portal = await stack.enter_async_context(producer(server_url))
        if state == "expired":
            with pytest.raises(RequestExpired):
                await portal.rank(manuscript(1), request_id="mine", deadline_s=0.05)
        else:
            await portal.submit(manuscript(1), request_id="mine")
        if state in ("running", "finished"):
            await stack.enter_async_context(running(server_url, engine))
            await engine.wait_started()
        if state == "finished":
            await portal.result("mine")
        changes: list[tuple[Manuscript, RankingOptions]] = [
            (manuscript(2), RankingOptions()),
            (manuscript(1), RankingOptions(top_k=3)),
            (manuscript(1), RankingOptions(candidates=["journal-1", "journal-2"])),
            (manuscript(1), RankingOptions(filters=Filters(subjects=("surgery",)))),
        ]
        for other, options in changes:
            with pytest.raises(RequestConflict, match="'mine' was used for another manuscript") as told:
                await portal.submit(other, options, request_id="mine")
            assert told.value.field == "request_id"
            with pytest.raises(RequestConflict):
                await portal.rank(other, options, request_id="mine")
        # The same again, more urgent: that is no other request.
        same = await portal.submit(manuscript(1), request_id="mine", lane="interactive", deadline_s=60)
        assert not same.new
        engine.gate.set()
        if state in ("running", "finished"):
            assert_right(await portal.result("mine"), manuscript(1))
    assert await queue.left() == (1 if state == "queued" else 0)


async def test_the_window_is_as_long_as_is_stated(server_url: str, queue: Queue) -> None:
    async with producer(server_url) as portal:
        await portal.submit(manuscript(1), request_id="mine")
        assert TICKET_TTL_MS - 5000 < await queue.command("PTTL", KEYS.ticket("mine")) <= 7 * 86_400_000
        await run_burst(server_url, ScriptedEngine())
        assert RESULT_TTL_MS - 5000 < await queue.command("PTTL", KEYS.result("mine")) <= 3_600_000
        assert not await queue.command("EXISTS", KEYS.ticket("mine"))


@pytest.mark.parametrize("other", [False, True])
async def test_beyond_the_window_an_id_begins_anew_and_still_has_one_visible_ranking(
    server_url: str, queue: Queue, other: bool
) -> None:
    engine, second = ScriptedEngine(), manuscript(2 if other else 1)
    async with producer(server_url) as portal:
        await portal.submit(manuscript(1), request_id="mine", candidates=4)
        await queue.command("PEXPIRE", KEYS.ticket("mine"), 0)  # seven days later
        assert (await portal.submit(second, request_id="mine", candidates=4)).new
        assert await queue.left() == 2
        await run_burst(server_url, engine)
        # The older entry is worked off, and changes nothing of what belongs to the newer.
        assert_right(await portal.result("mine", timeout_s=0), second, candidates=4)
        assert await queue.left() == 0
        await queue.command("PEXPIRE", KEYS.result("mine"), 0)  # an hour later
        assert (await portal.submit(manuscript(3), request_id="mine", candidates=4)).new
        await run_burst(server_url, engine)
        assert_right(await portal.result("mine", timeout_s=0), manuscript(3), candidates=4)


async def test_two_at_once_get_one_ranking(server_url: str, queue: Queue) -> None:
    async with contextlib.AsyncExitStack() as stack:
        portals = [await stack.enter_async_context(producer(server_url)) for _ in range(4)]
        tickets = await asyncio.gather(
            *(portal.submit(manuscript(5), request_id="mine") for portal in portals for _ in range(5))
        )
    assert sum(ticket.new for ticket in tickets) == 1
    assert await queue.left() == 1


def test_a_digest_depends_on_what_is_asked_and_on_nothing_else() -> None:
    def of(paper: Manuscript | None = None, name: str = "mine", **options: object) -> str:
        return digest(paper or manuscript(1), RankingOptions(**options), name)  # pyright: ignore[reportArgumentType]

    assert of() == of(lane="bulk", deadline_s=4.0, on_full="raise", filters=None, top_k=10, candidates=100)
    assert of(candidates=["b", "a"]) == of(candidates=("a", "b"))
    assert of(filters=Filters(subjects=["x"])) == of(filters=Filters(subjects=("x",)))  # pyright: ignore[reportArgumentType]
    different = [
        of(),
        of(name="yours"),
        of(manuscript(2)),
        of(top_k=3),
        of(candidates=["a"]),
        of(candidates=5),
    ]
    assert len(set(different)) == len(different)
    assert all(set(one) <= set("0123456789abcdef") and len(one) == 32 for one in different)
