"""`xuankan dead`: dead letters as an operator sees them, tries them again, and forgets them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.support.engine import ScriptedEngine
from tests.support.world import KEYS, Queue, assert_ranked, request, run_burst
from xuankan.cli.dead import dead
from xuankan.dead_letters import DeadLetters
from xuankan.protocol import scripts
from xuankan.protocol.wire import Request

POISON = 5555


class Operator:
    """Runs `xuankan dead`."""

    def __init__(self, url: str) -> None:
        self._options = ("--redis", url, "--namespace", KEYS.namespace)

    async def run(self, command: str, *arguments: str, answer: str = "") -> Result:
        return await asyncio.to_thread(
            CliRunner().invoke,
            dead,
            [command, *self._options, *arguments],
            input=answer,
            env={"COLUMNS": "160"},
        )

    async def says(self, command: str, *arguments: str) -> str:
        result = await self.run(command, *arguments)
        assert result.exit_code == 0, result.output
        return result.output

    async def listed(self, *arguments: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (await self.says("list", "--json", *arguments)).splitlines()]


@pytest.fixture
def operator(server_url: str) -> Operator:
    return Operator(server_url)


async def submitted(queue: Queue, asked: Request) -> None:
    await scripts.submit(queue.client, KEYS, asked.id, asked.lane, asked.reply, asked.encode())


async def bury(queue: Queue, url: str, **changes: Any) -> Request:
    """A request that an engine cannot score."""
    asked = request(tokens=[POISON] * 30, **changes)
    await submitted(queue, asked)
    await run_burst(url, ScriptedEngine(poison=POISON))
    result = await queue.result(asked)
    assert result.status == "failed"
    return asked


async def test_letters_are_listed_and_chosen_by_cause_lane_and_age(
    server_url: str, queue: Queue, operator: Operator
) -> None:
    assert await operator.says("list") == "no dead letters\n"
    bulk, interactive = await bury(queue, server_url, lane="bulk"), await bury(queue, server_url)
    await queue.push_raw(b"garbage", None)
    await run_burst(server_url, ScriptedEngine())
    listed = await operator.listed()
    assert [one["request"] for one in listed] == [bulk.id, interactive.id, None]
    assert [one["cause"] for one in listed] == ["engine_error", "engine_error", "undecodable"]
    assert [one["request"] for one in await operator.listed("--lane", "bulk")] == [bulk.id]
    assert [one["request"] for one in await operator.listed("--code", "undecodable")] == [None]
    assert len(await operator.listed("--newer-than", "1h")) == 3
    assert await operator.listed("--older-than", "30m") == []
    assert len(await operator.listed("--limit", "2")) == 2
    table = await operator.says("list")
    for word in (bulk.id, interactive.id, "engine_error", "undecodable", "worker-1"):
        assert word in table


async def test_show_keeps_contents_to_itself_unless_told(
    server_url: str, queue: Queue, operator: Operator
) -> None:
    asked = await bury(queue, server_url, deadline_ms=4_000_000_000_000)
    text = await operator.says("show", asked.id)
    for word in ("engine_error", "poisoned row", "worker-1", "deliveries", "30", "40", asked.fingerprint):
        assert word in text
    assert str(POISON) not in text
    facts = json.loads(await operator.says("show", asked.id, "--json", "--payload"))
    assert facts["token ids"] == [POISON] * 30
    assert facts["candidate positions"] == list(range(40))
    assert facts["text"].count("ica") == 30  # what the token stands for


async def test_history_tells_who_held_it_and_until_when(
    server_url: str, queue: Queue, operator: Operator
) -> None:
    asked = request()
    await submitted(queue, asked)
    stream = KEYS.stream("interactive")
    await queue.command("XGROUP", "CREATE", stream, "workers", "0")
    await queue.command("XREADGROUP", "GROUP", "workers", "worker-1", "STREAMS", stream, ">")
    await run_burst(server_url, ScriptedEngine(), max_deliveries=1)
    text = await operator.says("show", asked.id)
    assert "delivery 1:" in text
    assert "worker-1, alive 20" in text
    assert "too_many_deliveries" in text


async def test_a_retry_takes_the_failed_result_back_once(
    server_url: str, queue: Queue, operator: Operator
) -> None:
    asked = await bury(queue, server_url)
    assert "queued" in await operator.says("retry", asked.id)
    assert await queue.find(asked.id) is None
    assert await operator.listed() == []
    again = await operator.run("retry", asked.id)
    assert again.exit_code == 1
    assert asked.id in str(again.exception)
    await run_burst(server_url, ScriptedEngine())  # an engine that can
    assert_ranked(await queue.result(asked), asked)
    assert await queue.left() == 0


async def test_a_retry_that_is_sent_twice_queues_once(server_url: str, queue: Queue) -> None:
    asked = await bury(queue, server_url)
    async with DeadLetters(server_url, namespace=KEYS.namespace) as letters:
        letter = await letters.get(asked.id)
        assert [await letters.retry(letter) for _ in range(2)] == ["accepted", "queued"]
        assert await queue.left() == 1
        await run_burst(server_url, ScriptedEngine())
        assert await letters.retry(letter) == "finished"
        await queue.command("DEL", KEYS.result(asked.id))
        assert await letters.retry(letter) == "gone"
    assert await queue.left() == 0


async def test_a_retry_never_takes_back_another_result(server_url: str, queue: Queue) -> None:
    asked = await bury(queue, server_url)
    async with DeadLetters(server_url, namespace=KEYS.namespace) as letters:
        letter = await letters.get(asked.id)
        await queue.command("DEL", KEYS.result(asked.id))  # its hour is over, and its id is used anew
        await submitted(queue, asked)
        assert await letters.retry(letter) == "queued"
        await run_burst(server_url, ScriptedEngine())
        assert await letters.retry(letter) == "finished"
    assert_ranked(await queue.result(asked), asked)


async def test_a_new_id_leaves_the_failed_result_and_a_passed_deadline_is_dropped(
    server_url: str, queue: Queue, operator: Operator
) -> None:
    asked = await bury(queue, server_url, deadline_ms=4_000_000_000_000)
    letter_id = (await operator.listed())[0]["id"]
    assert "second: queued" in await operator.says("retry", letter_id, "--new-id", "second")
    await run_burst(server_url, ScriptedEngine())
    assert (await queue.result("second")).status == "ok"
    assert (await queue.result(asked)).status == "failed"


async def test_what_holds_no_request_cannot_be_retried_but_others_are(
    server_url: str, queue: Queue, operator: Operator
) -> None:
    await queue.push_raw(b"garbage", None)
    asked = await bury(queue, server_url)
    result = await operator.run("retry", "--all")
    assert result.exit_code == 1
    assert f"{asked.id}: queued" in result.output
    assert "cannot be read" in result.output
    assert [one["cause"] for one in await operator.listed()] == ["undecodable"]


async def test_purge_asks_first(server_url: str, queue: Queue, operator: Operator) -> None:
    one, other = await bury(queue, server_url), await bury(queue, server_url, lane="bulk")
    refused = await operator.run("purge", "--all", answer="n\n")
    assert refused.exit_code == 1
    assert len(await operator.listed()) == 2
    assert "1 deleted" in await operator.says("purge", "--lane", "bulk", "--yes")
    assert [letter["request"] for letter in await operator.listed()] == [one.id]
    assert "1 deleted" in await operator.says("purge", one.id, "--yes")
    assert await operator.says("purge", "--all", "--yes") == "no dead letters\n"
    assert (await queue.result(other)).status == "failed"


@pytest.mark.parametrize("arguments", [(), ("x", "--all"), ("x", "--lane", "bulk")])
async def test_what_is_meant_must_be_said(operator: Operator, arguments: tuple[str, ...]) -> None:
    for command in ("retry", "purge"):
        result = await operator.run(command, *arguments)
        assert result.exit_code == 2
        assert "--all" in result.output


async def test_ages_are_checked(operator: Operator) -> None:
    result = await operator.run("list", "--older-than", "yesterday")
    assert result.exit_code == 2
    assert "30m" in result.output
