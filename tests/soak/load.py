"""Mixed load: what authors, submission systems and backlogs do, what they break off, and what is nonsense."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from pathlib import Path
from typing import Any, Final

import httpx2

from tests.support.portal import manuscript
from xuankan import Producer, RankingOptions
from xuankan.errors import RequestError, WaitTimeout, XuankanError

_DOCUMENTS: Final = Path(__file__).parents[1] / "data" / "documents" / "cases"
_SMALL_BYTES: Final = 40_000
_OPTIONS: Final = RankingOptions(candidates=8, top_k=3)


class Load:
    """Calls at a mean rate, at random times; counts how they ended."""

    def __init__(self, portal_url: str, producer: Producer, rate_per_s: float, seed: int) -> None:
        self._client = httpx2.AsyncClient(base_url=portal_url, timeout=60)
        self._producer = producer
        self._rate_per_s = rate_per_s
        self._chance = random.Random(seed)
        self._files = sorted(one for one in _DOCUMENTS.iterdir() if one.stat().st_size < _SMALL_BYTES)
        self._calls: set[asyncio.Task[None]] = set()
        self._number = 0
        self.ended: Counter[str] = Counter()

    async def run(self) -> None:
        """Go on until cancelled."""
        kinds = {
            self._rank: 8,
            self._submit_and_follow: 3,
            self._cancel: 2,
            self._hang_up: 2,
            self._produce: 6,
            self._produce_late: 1,
            self._read_file: 1,
            self._search: 3,
            self._nonsense: 1,
        }
        while True:
            await asyncio.sleep(self._chance.expovariate(self._rate_per_s))
            (kind,) = self._chance.choices(list(kinds), list(kinds.values()))
            self._number += 1
            task = asyncio.create_task(self._call(kind, self._number))
            self._calls.add(task)
            task.add_done_callback(self._calls.discard)

    async def close(self) -> None:
        """Wait for what is on its way."""
        if self._calls:
            await asyncio.wait(self._calls, timeout=60)
        await self._client.aclose()

    async def _call(self, kind: Any, number: int) -> None:
        name = kind.__name__.strip("_")
        try:
            self.ended[f"{name}: {await kind(number)}"] += 1
        except (XuankanError, httpx2.HTTPError) as error:
            self.ended[f"{name}: {type(error).__name__}"] += 1

    def _paper(self, number: int, **changes: Any) -> dict[str, Any]:
        one = manuscript(number)
        return {"title": one.title, "abstract": one.abstract, "candidates": 8, "top_k": 3} | changes

    async def _rank(self, number: int) -> object:
        answer = await self._client.post("/v1/rankings", json=self._paper(number))
        return answer.status_code

    async def _submit_and_follow(self, number: int) -> object:
        path = await self._submitted(number)
        async with self._client.stream("GET", f"{path}/events") as response:
            async for _ in response.aiter_lines():
                pass
        return response.status_code

    async def _cancel(self, number: int) -> object:
        return (await self._client.delete(await self._submitted(number))).status_code

    async def _hang_up(self, number: int) -> object:
        with contextlib.suppress(httpx2.TimeoutException):
            await self._client.post("/v1/rankings", json=self._paper(number), timeout=0.01)
        return "gone"

    async def _submitted(self, number: int) -> str:
        answer = await self._client.post("/v1/rankings?wait_s=0", json=self._paper(number))
        return answer.headers["location"]

    async def _produce(self, number: int) -> object:
        ticket = await self._producer.submit(manuscript(number), _OPTIONS)
        await self._producer.result(ticket)
        await self._producer.release([ticket])
        return "ok"

    async def _produce_late(self, number: int) -> object:
        try:
            await self._producer.rank(manuscript(number), _OPTIONS, deadline_s=0.02)
        except (RequestError, WaitTimeout) as error:
            return type(error).__name__
        return "ok"

    async def _read_file(self, number: int) -> object:
        file = self._files[number % len(self._files)]
        answer = await self._client.post(f"/v1/extract?name={file.name}", content=file.read_bytes())
        return answer.status_code // 100

    async def _search(self, number: int) -> object:
        words = ("physics", "review", "letters", "nature")
        return (await self._client.get(f"/v1/journals?q={words[number % len(words)]}")).status_code

    async def _nonsense(self, number: int) -> object:
        return (await self._client.post("/v1/rankings", content=b"\xff" * number)).status_code
