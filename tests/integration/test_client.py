"""The asynchronous producer against a real server and real workers on the scripted engine."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest

from tests.support.engine import ScriptedEngine
from tests.support.portal import assert_right, manuscript, producer
from tests.support.world import KEYS, Queue, catalogue, run_burst, running
from xuankan import Catalogue, Filters, Manuscript, Outcome
from xuankan.errors import (
    FilterError,
    InputError,
    ManuscriptError,
    RequestCancelled,
    RequestExpired,
    RequestFailed,
    RequestIncompatible,
    ResultUnknown,
    UnknownJournal,
    WaitTimeout,
)

pytestmark = pytest.mark.usefixtures("queue")


async def test_a_manuscript_goes_in_and_a_ranking_comes_out(server_url: str, queue: Queue) -> None:
    async with running(server_url, ScriptedEngine()), producer(server_url) as portal:
        ranking = await portal.rank(manuscript(), top_k=3, candidates=12)
    assert_right(ranking, manuscript(), top_k=3, candidates=12)
    assert [place.rank for place in ranking] == [1, 2, 3]
    assert ranking[0].metadata["publisher"] == "Example Press"
    assert (ranking.scored, ranking.deliveries, ranking.release) == (12, 1, "release-1")
    assert ranking.catalogue == catalogue().version
    timings = ranking.timings
    assert timings.prepare_ms is not None
    assert timings.total_ms is not None
    parts = (timings.queue_ms, timings.batch_ms, timings.engine_ms, timings.rank_ms, timings.commit_ms)
    assert all(0 <= part < timings.total_ms for part in (timings.prepare_ms, *parts))
    assert sum(parts) <= timings.total_ms
    assert await queue.left() == 0


async def test_many_tasks_share_one_producer(server_url: str) -> None:
    async with running(server_url, ScriptedEngine()), producer(server_url) as portal:
        rankings = await asyncio.gather(*(portal.rank(manuscript(n)) for n in range(50)))
    for number, ranking in enumerate(rankings):
        assert_right(ranking, manuscript(number))


async def test_named_journals_and_filters_decide_what_is_scored(server_url: str) -> None:
    named = ["journal-3", "journal-31", "journal-7"]
    async with running(server_url, ScriptedEngine()), producer(server_url) as portal:
        ranking = await portal.rank(manuscript(), candidates=named)
        filtered = await portal.rank(manuscript(), filters=Filters(subjects=("surgery",)), top_k=40)
    assert {place.journal for place in ranking} == set(named)
    assert {place.metadata["subjects"][0] for place in filtered} == {"surgery"}


async def test_warnings_about_the_manuscript_come_back_with_the_ranking(server_url: str) -> None:
    async with running(server_url, ScriptedEngine()), producer(server_url) as portal:
        ranking = await portal.rank(Manuscript("Graph bounds"))
        long = await portal.rank(Manuscript("Graph bounds", "We bound the graph of plasma waves. " * 400))
    assert any("no abstract" in warning for warning in ranking.warnings)
    assert any("tokens are read" in warning for warning in long.warnings)


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"top_k": 0}, InputError, "top_k"),
        ({"candidates": 0}, InputError, "candidates"),
        ({"candidates": "journal-1"}, InputError, "list of journal ids"),
        ({"candidates": []}, InputError, "candidates"),
        ({"candidates": ["journal-1", "journal-99"]}, UnknownJournal, "journal-99"),
        ({"filters": Filters(subjects=("astrology",))}, FilterError, "subjects"),
        ({"lane": "slow"}, InputError, "lane"),
        ({"deadline_s": -1}, InputError, "deadline_s"),
        ({"request_id": "a b"}, InputError, "request id"),
        ({"topk": 3}, TypeError, "topk"),
    ],
)
async def test_what_cannot_be_used_is_refused_before_anything_is_queued(
    server_url: str, queue: Queue, options: dict[str, object], error: type[Exception], told: str
) -> None:
    async with producer(server_url) as portal:
        with pytest.raises(error, match=told):
            await portal.rank(manuscript(), **options)  # pyright: ignore[reportArgumentType]
        with pytest.raises(ManuscriptError, match="English"):
            await portal.rank(Manuscript("关于图论", "本文研究图的着色问题并给出新的界。"))
    assert await queue.left() == 0


async def test_the_same_id_gives_one_ranking(server_url: str, queue: Queue) -> None:
    engine = ScriptedEngine()
    async with producer(server_url) as first, producer(server_url) as second:
        tickets = [await portal.submit(manuscript(), request_id="one") for portal in (first, second, first)]
        assert [ticket.new for ticket in tickets] == [True, False, False]
        assert await queue.left() == 1
        async with running(server_url, engine):
            # The second is not the one that the worker replies to, and gets the same all the same.
            rankings = await asyncio.gather(
                first.rank(manuscript(), request_id="one"), second.rank(manuscript(), request_id="one")
            )
            worked = sum(rows for rows, _ in engine.batches)
            again = await second.rank(manuscript(), request_id="one")
        assert sum(rows for rows, _ in engine.batches) == worked == rankings[0].scored
    assert rankings[0].journals == rankings[1].journals == again.journals


async def test_a_result_can_be_fetched_by_another_process(server_url: str) -> None:
    async with producer(server_url) as submitter:
        ticket = await submitter.submit(manuscript())
    async with producer(server_url) as other, asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(other.result(ticket.request_id, timeout_s=20))
        await run_burst(server_url, ScriptedEngine())
        ranking = await waiting
        assert (await other.result(ticket)).journals == ranking.journals
    assert_right(ranking, manuscript())
    assert ranking.timings.total_ms is None


async def test_a_wait_ends_without_ending_the_request(server_url: str) -> None:
    async with producer(server_url) as portal:
        ticket = await portal.submit(manuscript())
        for timeout_s in (0, 0.1):
            with pytest.raises(WaitTimeout, match=ticket.request_id):
                await portal.result(ticket, timeout_s)
        await run_burst(server_url, ScriptedEngine())
        assert_right(await portal.result(ticket), manuscript())


async def test_an_unknown_request_is_said_to_be_unknown(server_url: str) -> None:
    async with producer(server_url) as portal:
        with pytest.raises(ResultUnknown, match="nothing-of-it"):
            await portal.result("nothing-of-it")
        assert await portal.cancel("nothing-of-it") == "unknown"


async def test_a_deadline_ends_the_wait_and_the_request(server_url: str, queue: Queue) -> None:
    engine = ScriptedEngine()
    async with producer(server_url) as portal:
        with pytest.raises(RequestExpired, match="deadline") as caught:
            await portal.rank(manuscript(), deadline_s=0.2)
        assert caught.value.code == "deadline_exceeded"
        assert await queue.left() == 0
        # Whoever asks later hears the same, and no worker spends time on it.
        await run_burst(server_url, engine)
        with pytest.raises(RequestExpired):
            await portal.result(caught.value.request_id)
    assert engine.batches == []


async def test_a_submitted_request_expires_on_the_worker(server_url: str) -> None:
    async with producer(server_url) as portal:
        ticket = await portal.submit(manuscript(), deadline_s=0.05)
        await asyncio.sleep(0.1)
        await run_burst(server_url, ScriptedEngine())
        with pytest.raises(RequestExpired):
            await portal.result(ticket)


async def test_cancelling_wakes_whoever_waits_and_cleans_the_queue(server_url: str, queue: Queue) -> None:
    engine = ScriptedEngine()
    async with producer(server_url) as portal, producer(server_url) as canceller:
        waiting = asyncio.create_task(portal.rank(manuscript(), request_id="mine"))
        while not await queue.left():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        assert await canceller.cancel("mine") == "cancelled"
        with pytest.raises(RequestCancelled):
            async with asyncio.timeout(1):  # well before it would look by itself
                await waiting
        assert await canceller.cancel("mine") == "finished"
        assert await queue.left() == 0
        await run_burst(server_url, engine)
    assert engine.batches == []


async def test_cancelling_a_finished_request_keeps_its_ranking(server_url: str) -> None:
    async with producer(server_url) as portal, running(server_url, ScriptedEngine()):
        ranking = await portal.rank(manuscript())
        assert await portal.cancel(ranking.request_id) == "finished"
        assert (await portal.result(ranking.request_id)).journals == ranking.journals


async def test_a_call_that_is_given_up_takes_its_request_off_the_queue(server_url: str, queue: Queue) -> None:
    async with producer(server_url) as portal:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(portal.rank(manuscript()), 0.3)
        # A request with an id of the caller's own may be wanted by others.
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(portal.rank(manuscript(), request_id="shared"), 0.3)
    assert await queue.left() == 1


async def test_errors_of_the_worker_arrive_as_typed_errors(server_url: str) -> None:
    other = Catalogue(tuple(replace(journal, country="Utopia") for journal in catalogue()))
    engine = ScriptedEngine(faults=10_000)
    async with running(server_url, engine), producer(server_url, catalogue=other) as stranger:
        with pytest.raises(RequestIncompatible, match="catalogue") as caught:
            await stranger.rank(manuscript())
        assert caught.value.code == "catalogue_mismatch"
    async with running(server_url, ScriptedEngine(faults=10_000)), producer(server_url) as portal:
        with pytest.raises(RequestFailed):
            await portal.rank(manuscript(), candidates=2)


async def test_nothing_is_left_without_a_lifetime(server_url: str, queue: Queue) -> None:
    async with producer(server_url) as portal:
        async with running(server_url, ScriptedEngine()):
            await portal.rank(manuscript())
        await portal.submit(manuscript())
        await portal.cancel(await portal.submit(manuscript()))
        with contextlib.suppress(RequestExpired):
            await portal.rank(manuscript(), deadline_s=0.05)
    streams = {KEYS.stream("interactive"), KEYS.stream("bulk"), KEYS.workers}
    for key in await queue.command("KEYS", "*"):
        assert key.decode() in streams or await queue.command("PTTL", key) > 0, key


async def test_rank_many_gives_every_manuscript_an_outcome(server_url: str) -> None:
    given: list[Manuscript | dict[str, object]] = [manuscript(n) for n in range(30)]
    given[7] = {"title": "", "abstract": None}
    given[11] = {"title": "Plasma waves", "abstract": "We study waves of the plasma.", "year": 2018}
    async with running(server_url, ScriptedEngine()), producer(server_url) as portal:
        outcomes = [outcome async for outcome in portal.rank_many(given, in_flight=8, top_k=3)]
    assert sorted(outcome.index for outcome in outcomes) == list(range(30))
    for outcome in outcomes:
        assert outcome.manuscript is given[outcome.index]
        if outcome.index == 7:
            assert isinstance(outcome.error, ManuscriptError)
        elif isinstance(outcome.manuscript, Manuscript):
            assert outcome.ranking is not None, outcome.error
            assert_right(outcome.ranking, outcome.manuscript, top_k=3)


async def test_rank_many_holds_few_at_a_time_and_cleans_up_when_left(server_url: str, queue: Queue) -> None:
    taken = 0

    async def endless() -> AsyncIterator[Manuscript]:
        nonlocal taken
        while True:
            taken += 1
            yield manuscript(taken)

    async with running(server_url, ScriptedEngine()) as worker, producer(server_url) as portal:
        del worker
        async with contextlib.aclosing(portal.rank_many(endless(), in_flight=5)) as outcomes:
            seen: list[Outcome] = []
            async for outcome in outcomes:
                seen.append(outcome)
                await asyncio.sleep(0.01)  # a slow taker
                assert taken <= len(seen) + 5
                if len(seen) == 20:
                    break
    assert await queue.left() == 0


async def test_rank_many_passes_on_what_its_source_raises(server_url: str) -> None:
    def source() -> Iterator[Manuscript]:
        yield manuscript()
        raise RuntimeError("the source broke")

    async with running(server_url, ScriptedEngine()), producer(server_url) as portal:
        with pytest.raises(RuntimeError, match="the source broke"):
            async for _ in portal.rank_many(source()):
                pass
        with pytest.raises(InputError, match="in_flight"):
            async for _ in portal.rank_many([], in_flight=0):
                pass
