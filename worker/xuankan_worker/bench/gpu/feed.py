"""A producer process of the benchmark: does what its parent says on stdin, a JSON line at a time.

It ranks manuscripts by `Producer.rank`, from text to ranking, as a portal does. The clock is monotonic, which
on Linux is one for all processes of a host.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from pathlib import Path
from typing import Any

from xuankan import Producer
from xuankan.protocol.keys import Lane
from xuankan_worker.bench.gpu.figures import arrivals
from xuankan_worker.bench.gpu.pairs import Pairs
from xuankan_worker.manifest import Manifest, template_of


class Feed:
    """A producer and its manuscripts."""

    def __init__(self, producer: Producer, pairs: Pairs, first: int) -> None:
        ids = [journal.id for journal in producer.catalogue]
        rows: list[list[int]] = pairs.candidates.tolist()
        names = [[ids[at] for at in row] for row in rows]
        work = list(zip(pairs.manuscripts, names, strict=True))
        self._producer = producer
        self._work = itertools.cycle(work[first:] + work[:first])

    async def load(self, in_flight: int, seconds: float) -> list[float]:
        """Keep so many requests in flight; when each was seen to end."""
        until_s = time.monotonic() + seconds
        ended: list[float] = []

        async def go_on() -> None:
            while time.monotonic() < until_s:
                await self._rank("bulk")
                ended.append(time.monotonic())

        async with asyncio.TaskGroup() as tasks:
            for _ in range(in_flight):
                tasks.create_task(go_on())
        return ended

    async def alone(self, count: int) -> list[float]:
        """Latencies of rankings that are asked for one after the other."""
        taken: list[float] = []
        for _ in range(count):
            started_s = time.monotonic()
            await self._rank("interactive")
            taken.append(time.monotonic() - started_s)
        return taken

    async def arriving(self, rate_per_s: float, seconds: float, seed: int) -> list[float]:
        """Latencies of rankings that are due at times drawn beforehand, whether earlier ones ended or not.

        Each counts from the time that was drawn: a producer that falls behind shows in them.
        """
        started_s = time.monotonic() + 0.05
        taken: list[float] = []

        async def ask(at_s: float) -> None:
            await self._rank("interactive")
            taken.append(time.monotonic() - at_s)

        async with asyncio.TaskGroup() as tasks:
            for offset_s in arrivals(rate_per_s, seconds, seed).tolist():
                at_s = started_s + offset_s
                if (left_s := at_s - time.monotonic()) > 0:
                    await asyncio.sleep(left_s)
                tasks.create_task(ask(at_s))
        return taken

    async def _rank(self, lane: Lane) -> None:
        manuscript, journals = next(self._work)
        await self._producer.rank(manuscript, candidates=journals, lane=lane)


async def serve(url: str, pairs: Path, release: Path, first: int) -> None:
    """Answer commands until stdin ends; the first answer says that the producer is open."""
    async with Producer(url, template=template_of(Manifest.load(release), release)) as producer:
        feed = Feed(producer, Pairs.load(pairs), first)
        _answer({})
        while line := await asyncio.to_thread(sys.stdin.readline):
            command: dict[str, Any] = json.loads(line)
            used_s = time.process_time()
            values = await getattr(feed, command.pop("do"))(**command)
            _answer({"values": values, "cpu_s": time.process_time() - used_s})


def _answer(document: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])))
