"""A release that has only an encoder, through the queue on one CPU: manuscripts per second, and one alone."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from xuankan import Manuscript, Producer
from xuankan.embedded.servers import EmbeddedServer, EmbeddedWorker, free_port
from xuankan.protocol.template import Template
from xuankan_worker.bench.usage import Usage, read_usage
from xuankan_worker.engines.host import processor
from xuankan_worker.manifest import Manifest, template_of


@dataclass(frozen=True, slots=True)
class ManuscriptBench:
    """What `xuankan bench cpu` measured of an encoder.

    Attributes:
        processor, versions: where and with what.
        manuscripts: of each round, all submitted at once.
        mean_tokens: of a manuscript's row.
        per_s: manuscripts ranked in a second, by round.
        latency_s: seconds from `rank` to the ranking for one manuscript alone, by manuscript.
        usage: where the worker's processor time went in the rounds.
    """

    processor: str
    versions: dict[str, str]
    manuscripts: int
    mean_tokens: float
    per_s: tuple[float, ...]
    latency_s: tuple[float, ...]
    usage: Usage

    @property
    def core_ms(self) -> float:
        """Processor time of the worker for a manuscript."""
        return 1000 * self.usage.process_s / (self.manuscripts * len(self.per_s))

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"core_ms": self.core_ms, "own_cost_share": self.usage.own_share}


def bench_manuscripts(
    release: Path, manuscripts: Sequence[Manuscript], rounds: int, report: Callable[[str], None]
) -> ManuscriptBench:
    """Measure.

    Args:
        release: that the worker serves.
        manuscripts: what each round ranks, all journals of the first stage's list for each.
        rounds: how often.
        report: called with a line for each round.
    """
    template, port = template_of(Manifest.load(release), release), free_port()
    options = ("--model", str(release), "--metrics-port", str(port))
    per_s: list[float] = []
    with EmbeddedServer() as server, EmbeddedWorker(server.url, options=options), asyncio.Runner() as runner:
        runner.run(_rank(server.url, manuscripts[:1]))
        before = read_usage(port)
        for number in range(rounds):
            per_s.append(len(manuscripts) / runner.run(_rank(server.url, manuscripts)))
            report(f"round {number + 1} of {rounds}: {per_s[-1]:.1f} manuscripts/s")
        usage = read_usage(port) - before
        latency_s = tuple(runner.run(_rank(server.url, [one])) for one in manuscripts)
    return ManuscriptBench(
        processor=processor(),
        versions={name: version(name) for name in ("onnxruntime",)},
        manuscripts=len(manuscripts),
        mean_tokens=float(np.mean([_tokens(one, template) for one in manuscripts])),
        per_s=tuple(per_s),
        latency_s=latency_s,
        usage=usage,
    )


def lines(measured: ManuscriptBench) -> list[str]:
    """For people."""
    per_s, latency_ms = measured.per_s, [1000 * each for each in measured.latency_s]
    work = f"{measured.manuscripts} manuscripts a round, {measured.mean_tokens:.0f} tokens each"
    pace = f"median {statistics.median(per_s):.1f}, lowest {min(per_s):.1f}, highest {max(per_s):.1f}"
    alone = f"median {statistics.median(latency_ms):.0f} ms, longest {max(latency_ms):.0f} ms"
    own = f"{measured.usage.own_share:.1%} of it not the engine's"
    return [
        f"{measured.processor}, {work}",
        f"manuscripts/s through the queue: {pace}",
        f"one alone, submit to ranking: {alone}",
        f"processor time of the worker: {measured.core_ms:.1f} ms a manuscript, {own}",
    ]


async def _rank(url: str, manuscripts: Sequence[Manuscript]) -> float:
    """Rank all at once; seconds from the first submission to the last ranking."""
    async with Producer(url) as producer:
        started_s = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for manuscript in manuscripts:
                tasks.create_task(producer.rank(manuscript))
        return time.perf_counter() - started_s


def _tokens(manuscript: Manuscript, template: Template) -> int:
    return len(template.encode_manuscript(manuscript.title, manuscript.abstract or "").ids) + 2
