"""`xuankan demo`: the whole trip of real manuscripts, on this machine alone."""

from __future__ import annotations

import asyncio
import json
import time
from importlib.resources import files
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console

    from xuankan import Producer


@click.command()
@click.option("--top-k", type=click.IntRange(1, 100), default=5, show_default=True, help="Journals to show.")
def demo(top_k: int) -> None:
    """Rank six real manuscripts on an embedded server and worker.

    Starts a private Valkey and a worker on the CPU, pushes the manuscripts through the queue at the same
    time, and prints for each the journals that fit, with where the time went. The manuscripts are arXiv
    papers of 2018, which the model has never seen; the journal in which each really appeared is marked.
    Nothing is left running. Needs the extra `cpu`.
    """
    from xuankan.cli.render import console
    from xuankan.cli.running import run

    run(_demo(console(), top_k))


async def _demo(out: Console, top_k: int) -> None:
    from xuankan import EmbeddedServer, EmbeddedWorker, Manuscript, Producer
    from xuankan.cli.render import ranking_view

    lines = (files("xuankan") / "data" / "manuscripts.jsonl").read_text().splitlines()
    papers = [json.loads(line) for line in lines]
    scored, started_s = 0, time.perf_counter()

    async def rank(producer: Producer, paper: dict[str, str]) -> None:
        nonlocal scored
        ranking = await producer.rank(Manuscript(paper["title"], paper["abstract"]), top_k=top_k)
        scored += ranking.scored
        out.print(ranking_view(paper["title"], ranking, paper["journal"]))

    with out.status("Starting Valkey, the worker and the model ..."):
        async with EmbeddedServer() as server, EmbeddedWorker(server.url), Producer(server.url) as producer:
            out.print(f"Valkey and a worker are ready after {time.perf_counter() - started_s:.1f} s.\n")
            submitted_s = time.perf_counter()
            # Interrupted, the group waits for its tasks to end before the producer and the server close.
            async with asyncio.TaskGroup() as tasks:
                for paper in papers:
                    tasks.create_task(rank(producer, paper))
            seconds = time.perf_counter() - submitted_s
    out.print(
        f"{len(papers)} manuscripts, {scored} journals scored in {seconds:.1f} s: "
        f"{len(papers) / seconds:.1f} manuscripts/s through the queue."
    )
