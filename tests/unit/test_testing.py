"""The producers for portals' own tests, and their document, run as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from xuankan import Manuscript, Producer, Ranking, SyncProducer
from xuankan.errors import (
    ManuscriptError,
    QueueFull,
    RequestCancelled,
    RequestConflict,
    RequestExpired,
    RequestFailed,
    ResultUnknown,
    ServerUnavailable,
    UnknownJournal,
    WaitTimeout,
    XuankanError,
)
from xuankan.testing import Answer, FakeProducer, FakeSyncProducer

DOCUMENT = Path(__file__).parents[2] / "docs" / "testing.md"
PAPER = Manuscript("Nanotubes", "We study the growth of nanotubes.")
BEST = {"acs-nano": 0.2, "physical-review-fluids": 0.7}


def test_the_document_runs_as_it_stands(tmp_path: Path) -> None:
    found = re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    assert [name for name, _ in found] == ["recommend.py", "test_recommend.py", "test_async.py"]
    for name, text in found:
        (tmp_path / name).write_text(text)
    plain = ("-p", "no:cacheprovider", "-p", "no:asyncio", "-c", "/dev/null", "-W", "error")
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *plain, "."],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "7 passed" in ran.stdout


def test_it_has_everything_that_a_producer_has() -> None:
    """Nothing is inherited that would look for the connection that is not there.

    `server` and `replied` are for who serves others, as the portal does.
    """
    public = {name for name in vars(Producer) if not name.startswith("_")}
    assert public - vars(FakeProducer).keys() == {"rank_many", "replied", "server"}


async def rank(producer: Producer) -> Ranking:
    return await producer.rank(PAPER, top_k=1)


def rank_sync(producer: SyncProducer) -> Ranking:
    return producer.rank(PAPER, top_k=1)


async def test_both_faces_stand_for_a_producer_and_answer_the_best_first() -> None:
    with FakeSyncProducer({PAPER.title: BEST}) as portal:
        both = [await rank(FakeProducer({PAPER.title: BEST})), rank_sync(portal)]
    for ranking in both:
        assert [(place.rank, place.journal, place.score) for place in ranking] == [
            (1, "physical-review-fluids", 0.7)
        ]
        assert ranking.scored == 2
        assert ranking[0].metadata["title"] == "Physical Review Fluids"


@pytest.mark.parametrize(
    ("error", "by_submission"),
    [
        (QueueFull("interactive", "wait", 1.0, "full"), True),
        (ServerUnavailable("away"), True),
        (RequestConflict("request_id", "used"), True),
        (RequestFailed("-", "engine", "it failed"), False),
        (RequestExpired("-", "deadline_exceeded", "late"), False),
        (WaitTimeout("not yet"), False),
    ],
)
async def test_errors_are_raised_where_a_producer_raises_them(
    error: XuankanError, by_submission: bool
) -> None:
    portal = FakeProducer(lambda _: error)
    with pytest.raises(type(error)):
        await rank(portal)
    if by_submission:
        with pytest.raises(type(error)):
            await portal.submit(PAPER)
        assert portal.asked == []
    else:
        ticket = await portal.submit(PAPER)
        with pytest.raises(type(error)):
            await portal.result(ticket)


async def test_what_waits_can_be_cancelled() -> None:
    portal = FakeProducer({PAPER.title: WaitTimeout("not yet")})
    assert await portal.cancel("mine") == "unknown"
    await portal.submit(PAPER, request_id="mine")
    assert not (await portal.submit(PAPER, request_id="mine")).new
    assert (await portal.status("mine")).state == "queued"
    assert await portal.cancel("mine") == "cancelled"
    assert await portal.cancel("mine") == "finished"
    with pytest.raises(RequestCancelled):
        await portal.result("mine")
    with pytest.raises(ResultUnknown):
        await portal.result("yours")


@pytest.mark.parametrize(
    ("answers", "paper", "error"),
    [
        ({}, PAPER, LookupError),
        ({PAPER.title: {"no-such-journal": 1.0}}, PAPER, UnknownJournal),
        ({"关于图论": BEST}, Manuscript("关于图论"), ManuscriptError),
    ],
)
async def test_what_a_test_or_an_author_got_wrong_is_loud(
    answers: dict[str, Answer], paper: Manuscript, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await FakeProducer(answers).rank(paper)
