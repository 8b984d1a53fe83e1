"""A small world for worker tests: a catalogue, a release on the scripted engine, requests, their rankings."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from functools import cache
from typing import Any, cast

import numpy as np
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from tests.support.engine import ScriptedEngine, score_tokens
from xuankan.catalogue import Catalogue, Journal
from xuankan.protocol.keys import GROUP, Keys, Lane
from xuankan.protocol.template import Template
from xuankan.protocol.wire import Request, Result
from xuankan_worker.config import WorkerConfig
from xuankan_worker.dispatch.admission import Admission
from xuankan_worker.dispatch.outcomes import Outcomes
from xuankan_worker.execution.served_model import ServedModel
from xuankan_worker.worker import Worker

WEIGHT, TEMPERATURE = 0.7, 2.0
KEYS = Keys("test")
_SCOPES = (
    "plasma physics",
    "organic synthesis",
    "graph theory",
    "marine ecology",
    "monetary policy",
    "surgery",
)
_counter = itertools.count()


@cache
def catalogue() -> Catalogue:
    """Forty journals with profiles of many lengths."""
    return Catalogue(
        tuple(
            Journal(
                id=f"journal-{number}",
                title=f"Journal {number} of {scope}",
                publisher="Example Press",
                issns=("1234-5679",),
                subjects=(scope,),
                profile=f"Journal {number}. " + f"{scope}, methods and results. " * (1 + number % 13),
            )
            for number, scope in zip(range(40), itertools.cycle(_SCOPES), strict=False)
        )
    )


def served_model(engine: ScriptedEngine) -> ServedModel:
    return ServedModel(engine, Template.default(), catalogue(), "release-1", WEIGHT, TEMPERATURE)


def admission() -> Admission:
    """What checks this world's requests."""
    served = served_model(ScriptedEngine())
    return Admission(
        config("redis://unused"), served, Outcomes("worker-1", served.release, served.catalogue.version)
    )


def request(
    *,
    lane: Lane = "interactive",
    candidates: Sequence[int] = range(40),
    tokens: Sequence[int] | None = None,
    length: int = 50,
    **changes: Any,
) -> Request:
    """A request that this world's worker can score, unless `changes` prevent it."""
    number = next(_counter)
    if tokens is None:
        tokens = np.random.default_rng(number).integers(1000, 20000, length).tolist()
    values: dict[str, Any] = {
        "id": f"request-{number}",
        "lane": lane,
        "fingerprint": Template.default().fingerprint,
        "catalogue": catalogue().version,
        "tokens": np.array(tokens, dtype=np.int32),
        "candidates": np.array(candidates, dtype=np.uint32),
        "first_stage": np.array([-0.1 * place for place in range(len(candidates))], dtype=np.float32),
        "top_k": 5,
        "enqueued_ms": 0,
    }
    return Request(**(values | changes))


def expected(asked: Request) -> list[tuple[str, float]]:
    """The ranking that a request must get: journals with their fused logits."""
    template = Template.default()
    logits: list[tuple[float, int]] = []
    for journal, first in zip(asked.candidates.tolist(), asked.first_stage.tolist(), strict=True):
        profile = template.encode_profile(catalogue()[journal].profile).ids.tolist()
        row = [template.cls_id, *asked.tokens.tolist(), template.sep_id, *profile, template.sep_id]
        logits.append((-(score_tokens(row) + WEIGHT * first), journal))
    return [(catalogue()[journal].id, -negative) for negative, journal in sorted(logits)[: asked.top_k]]


def assert_ranked(result: Result, asked: Request) -> None:
    """The result is the right ranking of the request."""
    assert result.status == "ok", result.failure
    wanted = expected(asked)
    assert [place.journal for place in result.ranking] == [journal for journal, _ in wanted]
    np.testing.assert_allclose(
        [place.logit for place in result.ranking], [logit for _, logit in wanted], rtol=1e-5
    )


class Queue:
    """A producer in its simplest form: entries onto the streams, results from their hashes."""

    def __init__(self, client: Redis) -> None:
        self.client = client

    async def command(self, *args: Any) -> Any:
        return await cast(Any, self.client).execute_command(*args)

    async def push(self, *requests: Request) -> None:
        for asked in requests:
            await self.push_raw(asked.encode(), asked.id, asked.lane)

    async def push_raw(self, body: bytes, request_id: str | bytes | None, lane: Lane = "interactive") -> str:
        named = () if request_id is None else ("id", request_id)
        entry = await self.command("XADD", KEYS.stream(lane), "*", *named, "request", body)
        return cast(bytes, entry).decode()

    async def find(self, request_id: str) -> Result | None:
        body = await self.command("HGET", KEYS.result(request_id), "body")
        return None if body is None else Result.decode(body)

    async def result(self, asked: Request | str) -> Result:
        """Wait for a result."""
        request_id = asked if isinstance(asked, str) else asked.id
        async with asyncio.timeout(30):
            while (result := await self.find(request_id)) is None:  # noqa: ASYNC110  # the server cannot tell
                await asyncio.sleep(0.01)
        return result

    async def committed_ms(self, asked: Request) -> float:
        """When a request's result became visible, once it is."""
        await self.result(asked)
        return float(await self.command("HGET", KEYS.result(asked.id), "committed_ms"))

    async def is_pending(self, asked: Request) -> bool:
        """Whether a worker holds the last entry of the request's lane."""
        stream = KEYS.stream(asked.lane)
        ((last, _),) = await self.command("XREVRANGE", stream, "+", "-", "COUNT", 1)
        return bool(await self.pending(asked.lane, last))

    async def pending(self, lane: Lane, entry: bytes | str) -> dict[str, Any] | None:
        """Who holds an entry, and how often it was delivered."""
        arguments = (KEYS.stream(lane), GROUP, entry, entry, 1)
        try:
            found = await cast(Any, self.client).execute_command("XPENDING", *arguments, parse_detail=True)
        except ResponseError:
            return None  # no worker has made the group yet
        return found[0] if found else None

    async def is_unread(self) -> bool:
        """Whether nobody waits for new entries."""
        return not any(client["cmd"] == "xreadgroup" for client in await self.command("CLIENT LIST"))

    async def is_empty(self) -> bool:
        return await self.left() == 0

    async def dead(self) -> list[dict[bytes, bytes]]:
        entries = await self.command("XRANGE", KEYS.dead, "-", "+")
        return [fields for _, fields in entries]

    async def left(self) -> int:
        """Entries that are queued or pending."""
        lanes: tuple[Lane, ...] = ("interactive", "bulk")
        return sum([int(await self.command("XLEN", KEYS.stream(lane))) for lane in lanes])


async def eventually(holds: Callable[[], bool | Awaitable[bool]]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(30):
        while True:
            found = holds()
            if await found if isinstance(found, Awaitable) else found:
                return
            await asyncio.sleep(0.01)


def config(url: str, **changes: Any) -> WorkerConfig:
    values: dict[str, Any] = {"name": "worker-1", "keys": KEYS, "block_s": 0.05}
    return WorkerConfig(url, **(values | changes))


async def run_burst(url: str, engine: ScriptedEngine, **changes: Any) -> None:
    """Serve what is queued, then end."""
    async with (
        asyncio.timeout(60),
        Worker(config(url, burst=True, **changes), served_model(engine)) as worker,
    ):
        await worker.wait()


@contextlib.asynccontextmanager
async def running(url: str, engine: ScriptedEngine, **changes: Any) -> AsyncGenerator[Worker]:
    """Serve while the block runs; then drain."""
    async with Worker(config(url, **changes), served_model(engine)) as worker:
        try:
            yield worker
        finally:
            engine.gate.set()
