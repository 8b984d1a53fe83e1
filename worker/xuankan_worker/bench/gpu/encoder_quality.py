"""Rankings of labelled papers as a worker on the GPU gives them, and as the CPU's engine does."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from xuankan import Manuscript, Producer
from xuankan.candidates.quality import quality_of
from xuankan.embedded.servers import EmbeddedServer
from xuankan_worker.bench.gpu.child import ChildTask, Emit, run, say
from xuankan_worker.bench.gpu.served import MeasuredWorker
from xuankan_worker.manifest import Manifest, template_of
from xuankan_worker.releases.evaluate import evaluate
from xuankan_worker.releases.labelled import Labelled, read_labelled

CANDIDATES = 100
_ON_CPU = 1024
"""Papers that the CPU ranks too."""
_AT_ONCE = 256


def measure(job: ChildTask, emit: Emit) -> None:
    """Serve every paper of the split, and let ONNX Runtime rank the first of them on the CPU."""
    papers = read_labelled(Path(job.papers), (job.split,), None, 0)
    with EmbeddedServer() as server, MeasuredWorker(server.url, job):
        ranks = asyncio.run(_served(server.url, job, papers))
    known = np.array([rank is not None for rank in ranks])
    found = np.array([rank or 0 for rank in ranks])
    result: dict[str, Any] = {
        "papers": int(known.sum()),
        "candidates": CANDIDATES,
        "served": quality_of(found[known]).as_dict(),
        "release": asdict(Manifest.load(Path(job.release)))["metrics"].get(job.split),
    }
    say(f"{result['papers']} papers served: {result['served']}")
    emit(result)
    part = papers.take(range(min(_ON_CPU, len(papers.title))))
    on_cpu = evaluate(part, Path(job.release), "onnx", CANDIDATES, lambda _what, _part: None)
    result["same_papers"] = {
        "papers": int(known[:_ON_CPU].sum()),
        "served": quality_of(found[:_ON_CPU][known[:_ON_CPU]]).as_dict(),
        "onnx_on_cpu": quality_of(np.array([placed.rank for placed in on_cpu.placed])).as_dict(),
    }
    say(f"{result['same_papers']}")
    emit(result)


async def _served(url: str, job: ChildTask, papers: Labelled) -> list[int | None]:
    """The rank of each paper's journal, 0 if it is not ranked; None if the catalogue lacks it."""
    release = Path(job.release)
    gate = asyncio.Semaphore(_AT_ONCE)
    async with Producer(url, template=template_of(Manifest.load(release), release)) as producer:
        ids = {journal.title: journal.id for journal in producer.catalogue}
        ids |= {journal.id: journal.id for journal in producer.catalogue}

        async def rank(number: int) -> int | None:
            if (own := ids.get(papers.journal[number])) is None:
                return None
            async with gate:
                ranking = await producer.rank_paced(
                    Manuscript(papers.title[number], papers.abstract[number]),
                    candidates=CANDIDATES,
                    top_k=CANDIDATES,
                )
            return next((place.rank for place in ranking.journals if place.journal == own), 0)

        return list(await asyncio.gather(*(rank(number) for number in range(len(papers.title)))))


if __name__ == "__main__":
    run(measure)
