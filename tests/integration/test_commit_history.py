"""The commit protocol against a model of it: any history of submitting, delivering, renewing, taking over,
committing, crashing and cancelling, on a real server, in which some processes still run the first version.

Scripts run one after the other on the server, so that every concurrent history is one of these.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar, cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.support import first_scripts
from tests.support.world import KEYS
from xuankan.protocol import consumers, delivery, leases, scripts
from xuankan.protocol.delivery import Burial
from xuankan.protocol.keys import GROUP
from xuankan.protocol.lua import Call
from xuankan.transport.client import open_client

_T = TypeVar("_T")
STREAM = KEYS.stream("interactive")
LONG_AGO_S = -1e6
IDS = [f"request-{number}" for number in range(4)]
WORKERS = ["first", "second", "third"]
ids, workers, picks = st.sampled_from(IDS), st.sampled_from(WORKERS), st.integers(0, 1000)


@dataclass
class Pending:
    """What the model knows of an entry that a worker was given."""

    owner: str
    deliveries: int = 1


@dataclass
class Held:
    """What a worker believes to hold: an entry's request, and since when for sure (monotonic time)."""

    request_id: str
    held_s: float


@dataclass
class Model:
    entries: dict[str, str] = field(default_factory=dict[str, str])  # queued: entry -> request
    pending: dict[str, Pending] = field(default_factory=dict[str, Pending])
    results: dict[str, bytes] = field(default_factory=dict[str, bytes])  # the first of each request
    dead: int = 0
    accepted: int = 0
    ended: int = 0


class History(RuleBasedStateMachine):
    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.client = open_client(self.url)
        self.model = Model()
        self.holds: dict[str, dict[str, Held]] = {worker: {} for worker in WORKERS}
        self.bodies = 0

    def wait(self, work: Awaitable[_T]) -> _T:
        async def run() -> _T:
            return await work

        return self.runner.run(run())

    def command(self, *command: Any) -> Any:
        return self.wait(cast(Any, self.client).execute_command(*command))

    def call(self, call: Call[Any]) -> Any:
        return self.wait(call.send(self.client))

    def body(self) -> bytes:
        self.bodies += 1
        return b"result %d" % self.bodies

    @initialize()
    def begin(self) -> None:
        self.command("FLUSHALL")
        self.command("XGROUP", "CREATE", STREAM, GROUP, "0", "MKSTREAM")

    # Producers.

    @rule(request_id=ids, first_version=st.booleans(), times=st.integers(1, 2))
    def submit(self, request_id: str, first_version: bool, times: int) -> None:
        for _ in range(times):  # twice: the first answer was lost
            if first_version:
                call = first_scripts.submit(
                    ticket=KEYS.ticket(request_id),
                    result=KEYS.result(request_id),
                    stream=STREAM,
                    request_id=request_id,
                    lane="interactive",
                    reply="me",
                    request=b"bytes",
                    lifetime_ms=60_000,
                )
                state = self.call(call)[0].decode()
            else:
                submitting = scripts.submit(self.client, KEYS, request_id, "interactive", "me", b"bytes")
                state = self.wait(submitting).state
            if request_id in self.model.results:
                assert state == "finished"
            elif request_id in self.model.entries.values():
                assert state == "queued"
            else:
                assert state == "accepted"
                ((entry, _),) = self.command("XREVRANGE", STREAM, "+", "-", "COUNT", 1)
                self.model.entries[entry.decode()] = request_id
                self.model.accepted += 1

    @rule(request_id=ids)
    def cancel(self, request_id: str) -> None:
        body = self.body()
        answer = self.wait(scripts.finish(self.client, KEYS, request_id, body))
        if request_id in self.model.results:
            assert answer is not None
            assert (answer[0], answer[1].body) == (False, self.model.results[request_id])
        elif request_id in self.model.entries.values():
            assert answer is not None
            assert answer[0]
            self.end(next(e for e, name in self.model.entries.items() if name == request_id), body)
        else:
            assert answer is None

    @precondition(lambda self: self.model.results)
    @rule(pick=picks)
    def a_result_expires(self, pick: int) -> None:
        """An hour passes; who still holds the request was paused all along."""
        request_id = sorted(self.model.results)[pick % len(self.model.results)]
        self.command("DEL", KEYS.result(request_id))
        del self.model.results[request_id]
        for holds in self.holds.values():
            for entry, held in holds.items():
                if held.request_id == request_id and entry not in self.model.entries:
                    held.held_s = LONG_AGO_S

    # Workers.

    @rule(worker=workers, count=st.integers(1, 3))
    def read(self, worker: str, count: int) -> None:
        reply = self.command("XREADGROUP", "GROUP", GROUP, worker, "COUNT", count, "STREAMS", STREAM, ">")
        for entry, fields in reply[0][1] if reply else ():
            self.model.pending[entry.decode()] = Pending(worker)
            self.hold(worker, entry.decode(), fields)

    @precondition(lambda self: self.model.pending)
    @rule(worker=workers, pick=picks, times=st.integers(1, 2))
    def take_over(self, worker: str, pick: int, times: int) -> None:
        """The owner's lease ran out, however it believes; or it is the worker itself after a crash."""
        entry = sorted(self.model.pending)[pick % len(self.model.pending)]
        seen = self.model.pending[entry]
        for _ in range(times):
            call = leases.claim(
                *(KEYS, "interactive", entry, worker),
                owner=seen.owner,
                deliveries=seen.deliveries,
                sign=None,
            )
            fields = self.call(call)
            assert fields is not None
            self.hold(worker, entry, dict(zip(fields[::2], fields[1::2], strict=True)))
        self.model.pending[entry] = Pending(worker, seen.deliveries + 1)

    @precondition(lambda self: self.model.pending)
    @rule(worker=workers, pick=picks)
    def take_over_too_late(self, worker: str, pick: int) -> None:
        """Another was faster: the entry is not as it was seen any more."""
        entry = sorted(self.model.pending)[pick % len(self.model.pending)]
        now = self.model.pending[entry]
        for owner, deliveries in ((now.owner, now.deliveries + 1), ("nobody", now.deliveries)):
            call = leases.claim(
                *(KEYS, "interactive", entry, worker), owner=owner, deliveries=deliveries, sign=None
            )
            assert self.call(call) is None
        call = leases.claim(
            *(KEYS, "interactive", entry, worker),
            owner=now.owner,
            deliveries=now.deliveries,
            sign=1,  # it was renewed
        )
        assert self.call(call) is None

    @rule(worker=workers)
    def renew(self, worker: str) -> None:
        held = self.holds[worker]
        if not held:
            return
        now_s = time.monotonic()
        lost = {name.decode() for name in self.call(leases.renew(KEYS, "interactive", worker, list(held)))}
        owners = {entry: self.model.pending[entry].owner for entry in held if entry in self.model.pending}
        assert lost == {entry for entry, owner in owners.items() if owner != worker}
        for entry in lost:
            del held[entry]
        for entry, one in held.items():
            if entry in self.model.pending:
                one.held_s = now_s

    @rule(worker=workers, times=st.integers(1, 2))
    def hand_back(self, worker: str, times: int) -> None:
        """It ends by its own fault: as if what it holds had never been delivered to it."""
        for _ in range(times):
            self.call(leases.hand_back(KEYS, "interactive", worker))
        for entry, one in self.model.pending.items():
            if one.owner == worker:
                self.model.pending[entry] = Pending(leases.NOBODY, one.deliveries - 1)
        self.holds[worker].clear()

    @rule(worker=workers)
    def crash(self, worker: str) -> None:
        self.holds[worker].clear()

    @precondition(lambda self: any(self.holds.values()))
    @rule(pick=picks, fails=st.booleans(), first_version=st.booleans(), times=st.integers(1, 2))
    def commit(self, pick: int, fails: bool, first_version: bool, times: int) -> None:
        holding = sorted((worker, entry) for worker, held in self.holds.items() for entry in held)
        worker, entry = holding[pick % len(holding)]
        held = self.holds[worker].pop(entry)
        owner = self.model.pending[entry].owner if entry in self.model.pending else None
        body = self.body()
        burial = Burial("engine_error", "it failed", worker, "interactive", 1) if fails else None
        if first_version and owner == worker:  # the first version does not look who owns it
            call = first_scripts.commit(
                stream=STREAM,
                result=KEYS.result(held.request_id),
                ticket=KEYS.ticket(held.request_id),
                dead=KEYS.dead,
                replies=KEYS.reply("me"),
                group=GROUP,
                entry=entry,
                request_id=held.request_id,
                body=body,
                lifetime_ms=60_000,
                max_replies=100,
                replies_lifetime_ms=60_000,
                **({} if burial is None else asdict(burial)),
            )
        else:
            call = delivery.commit(
                *(KEYS, "interactive", entry, worker, held.request_id, body),
                unsure_ms=unsure_ms(held),
                reply="me",
                burial=burial,
            )
        answers = [self.call(call) for _ in range(times)]
        if owner is None and held.request_id in self.model.results:
            assert answers[0] == (-1 if held.held_s == LONG_AGO_S else 0)
        elif owner is None:
            assert answers[0] in (-1, 0)  # its result has come and gone, and so nothing is written
        elif owner != worker:
            assert answers == [-1] * times
        else:
            assert answers[0] == 1
            self.end(entry, body)
            self.model.dead += fails
        assert 1 not in answers[1:]

    @rule(worker=workers)
    def delete_consumer(self, worker: str) -> None:
        gone = self.call(consumers.delete_consumer(KEYS, "interactive", worker, 0))
        assert not (gone and any(one.owner == worker for one in self.model.pending.values()))

    def hold(self, worker: str, entry: str, fields: dict[bytes, bytes]) -> None:
        self.holds[worker][entry] = Held(fields[b"id"].decode(), time.monotonic())

    def end(self, entry: str, body: bytes) -> None:
        self.model.results[self.model.entries.pop(entry)] = body
        self.model.pending.pop(entry, None)
        self.model.ended += 1

    # What holds at any time.

    @invariant()
    def the_server_is_as_the_model(self) -> None:
        model, pipeline = self.model, cast(Any, self.client.pipeline(transaction=False))
        for request_id in IDS:
            pipeline.hget(KEYS.result(request_id), "body")
            pipeline.get(KEYS.ticket(request_id))
        pipeline.execute_command("XRANGE", STREAM, "-", "+")
        pipeline.execute_command("XPENDING", STREAM, GROUP, "-", "+", 100, parse_detail=True)
        pipeline.xlen(KEYS.dead)
        pipeline.llen(KEYS.reply("me"))
        *known, queued, pending, dead, replies = self.wait(pipeline.execute(raise_on_error=False))
        results = dict(zip(IDS, known[::2], strict=True))
        assert {name: body for name, body in results.items() if body is not None} == model.results
        tickets = {name for name, ticket in zip(IDS, known[1::2], strict=True) if ticket is not None}
        assert tickets == set(model.entries.values())
        if isinstance(queued, Exception) or isinstance(pending, Exception):
            return  # not begun
        assert [entry.decode() for entry, _ in queued] == sorted(model.entries, key=_order)
        assert {
            row["message_id"].decode(): (row["consumer"].decode(), row["times_delivered"]) for row in pending
        } == {entry: (one.owner, one.deliveries) for entry, one in model.pending.items()}
        assert dead == model.dead
        assert replies == model.ended
        assert model.accepted == model.ended + len(model.entries)

    def teardown(self) -> None:
        """Whatever happened: one worker that is left sees everything to an end."""
        try:
            self.read("first", 3)
            self.read("first", 3)
            for entry in list(self.model.pending):
                if self.model.pending[entry].owner != "first" or entry not in self.holds["first"]:
                    self.take_over("first", sorted(self.model.pending).index(entry), 1)
            for entry in list(self.model.pending):
                held, body = self.holds["first"].pop(entry), self.body()
                arguments = (KEYS, "interactive", entry, "first", held.request_id, body)
                assert self.call(delivery.commit(*arguments, unsure_ms=unsure_ms(held), reply="me")) == 1
                self.end(entry, body)
            assert self.model.accepted == self.model.ended
            assert not self.model.entries
            self.the_server_is_as_the_model()
        finally:
            self.wait(self.client.aclose())
            self.runner.close()


def unsure_ms(held: Held) -> float:
    return (time.monotonic() - held.held_s) * 1000


def _order(entry: str) -> tuple[int, int]:
    time_ms, _, number = entry.partition("-")
    return int(time_ms), int(number)


@pytest.fixture
def history(server_url: str) -> type[History]:
    return type("HistoryHere", (History,), {"url": server_url})


def test_every_history_ends_each_accepted_request_in_one_result(history: type[History]) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        history, settings=settings(max_examples=60, stateful_step_count=40, deadline=None)
    )
