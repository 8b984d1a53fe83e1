"""What `xuankan rerank` costs beside the queue itself, and how much memory it takes.

    python -m tests.benchmarks.rerank --manuscripts 100000

A worker whose engine takes no time serves all of it, so the producer bounds the pace: the hardest case for
whatever it does beside. First, in one process and in turns, the same manuscripts go through
`Producer.rank_many` out of memory (the raw queue) and through the job of `xuankan rerank` from file to file;
their time, and the processor time of the producer's process, which other work on the machine disturbs less.
Then the command ranks all manuscripts in a process of its own, whose memory is read as it runs.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from tests.support.engine import ScoresOnly
from tests.support.server import ValkeyProcess
from tests.support.simulation import unseen_papers

from xuankan import Catalogue, Manuscript, Producer, RankingOptions
from xuankan.backlog.rerank import IN_FLIGHT, rerank
from xuankan.backlog.sources import Backlog
from xuankan.protocol.keys import Keys
from xuankan.protocol.template import Template
from xuankan_worker.cli.worker import serve
from xuankan_worker.config import WorkerConfig
from xuankan_worker.engines.base import EngineInfo, TokenBatch
from xuankan_worker.execution.served_model import ServedModel

NAMESPACE = "rerank-bench"


class InstantEngine(ScoresOnly):
    """Scores a row by its length, at once."""

    info = EngineInfo(
        name="instant",
        device="none",
        buckets=tuple(range(32, 353, 32)),
        max_batch=64,
        contexts=1,
        vocabulary_size=Template.default().tokenizer.get_vocab_size(),
        fingerprint="instant",
    )

    def open_slot(self, index: int) -> InstantEngine:
        del index
        return self

    def score(self, batch: TokenBatch) -> NDArray[np.float32]:
        return batch.lengths.astype(np.float32)

    def close(self) -> None:
        pass


def manuscripts(count: int) -> Iterator[dict[str, str]]:
    """Real papers, again and again, told apart by their ids and a number in the title."""
    papers = unseen_papers(120)
    for number in range(count):
        title, abstract = papers[number % len(papers)]
        yield {"id": f"paper-{number}", "title": f"{title} {number}", "abstract": abstract}


def write(path: Path, count: int) -> Path:
    with path.open("w", encoding="utf-8") as file:
        for one in manuscripts(count):
            file.write(json.dumps(one, ensure_ascii=False) + "\n")
    return path


def clocks_s() -> NDArray[np.float64]:
    """Of the wall and of this process' processor time."""
    return np.array([time.monotonic(), time.process_time()])


async def raw_s(producer: Producer, given: list[Manuscript], options: RankingOptions) -> NDArray[np.float64]:
    started_s = clocks_s()
    async for outcome in producer.rank_many(given, options, in_flight=IN_FLIGHT):
        assert outcome.ranking is not None, outcome.error
    return clocks_s() - started_s


async def rerank_s(producer: Producer, path: Path, out: Path, options: RankingOptions) -> NDArray[np.float64]:
    started_s = clocks_s()
    with Backlog.open([path]) as backlog:
        report = await rerank(producer, backlog, out, options)
        assert report.progress.ranked == backlog.total
    return clocks_s() - started_s


async def compare(
    url: str, directory: Path, count: int, rounds: int, suffix: str, options: RankingOptions
) -> None:
    path = write(directory / "round.jsonl", count)
    given = [Manuscript(one["title"], one["abstract"]) for one in manuscripts(count)]
    ratios: list[NDArray[np.float64]] = []
    async with Producer(url, namespace=NAMESPACE) as producer:
        await raw_s(producer, given[:500], options)
        for turn in range(rounds):
            out = directory / f"round-{turn}{suffix}"
            if turn % 2:
                all_of_it = await rerank_s(producer, path, out, options)
                raw = await raw_s(producer, given, options)
            else:
                raw = await raw_s(producer, given, options)
                all_of_it = await rerank_s(producer, path, out, options)
            out.unlink()
            ratios.append(all_of_it / raw - 1)
            click.echo(
                f"raw queue {count / raw[0]:6.1f} manuscripts/s, {raw[1] / count * 1e3:.2f} ms of processor "
                f"each; rerank {count / all_of_it[0]:6.1f}, {all_of_it[1] / count * 1e3:.2f} ms: "
                f"{ratios[-1][0]:+.1%}, {ratios[-1][1]:+.1%}"
            )
    for place, what in enumerate(("time", "processor time")):
        found = [float(ratio[place]) for ratio in ratios]
        click.echo(
            f"overhead in {what}: median {statistics.median(found):+.1%} of {rounds} rounds of {count:,} "
            f"({min(found):+.1%} to {max(found):+.1%})"
        )


def resident_mib(process: int, what: str) -> float:
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.partition(f"{what}:")[2].split()[0]) / 1024


def rank_all(url: str, directory: Path, count: int, suffix: str, options: RankingOptions) -> None:
    path, out = write(directory / "all.jsonl", count), directory / f"ranked{suffix}"
    click.echo(f"{count:,} manuscripts, {path.stat().st_size / 2**20:.0f} MiB of JSON lines")
    command = [
        *(sys.executable, "-m", "xuankan.cli.main", "rerank", str(path), "--out", str(out)),
        *("--namespace", NAMESPACE, "--candidates", str(options.candidates)),
    ]
    started_s = time.monotonic()
    child = subprocess.Popen(command, env={**os.environ, "XUANKAN_REDIS": url}, stderr=subprocess.PIPE)
    state, next_share, peak = Path(f"{out}.job.json"), 0.0, 0.0
    try:
        while child.poll() is None:
            time.sleep(0.5)
            try:
                rows = json.loads(state.read_bytes())["progress"]["rows"]
                peak = max(peak, resident_mib(child.pid, "VmHWM"))
                if rows / count >= next_share:
                    next_share += 0.1
                    click.echo(f"{rows:9,} rows: {resident_mib(child.pid, 'VmRSS'):6.1f} MiB resident")
            except (OSError, ValueError, IndexError):
                continue  # it begins, or has ended
    finally:
        child.kill()
    assert child.stderr is not None
    click.echo(child.stderr.read().decode().strip().splitlines()[-1])
    took_s = time.monotonic() - started_s
    click.echo(f"exit {child.returncode}; {took_s:.1f} s with its start; at most {peak:.1f} MiB resident")


@click.group(invoke_without_command=True)
@click.option("--manuscripts", "count", default=100_000, show_default=True)
@click.option("--round", "per_round", default=5_000, show_default=True, help="Manuscripts of a round.")
@click.option("--rounds", default=5, show_default=True)
@click.option("--candidates", default=10, show_default=True, help="Journals of each; also how many return.")
@click.option("--suffix", default=".jsonl", show_default=True, help="Of the output: .jsonl, .csv, .parquet.")
@click.pass_context
def main(ctx: click.Context, count: int, per_round: int, rounds: int, candidates: int, suffix: str) -> None:
    """Measure."""
    if ctx.invoked_subcommand is not None:
        return
    options = RankingOptions(candidates=candidates, top_k=10)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        server = ValkeyProcess(directory)
        server.start()
        worker = subprocess.Popen([sys.executable, "-m", "tests.benchmarks.rerank", "worker", server.url])
        try:
            if rounds:
                asyncio.run(compare(server.url, directory, per_round, rounds, suffix, options))
            if count:
                rank_all(server.url, directory, count, suffix, options)
        finally:
            worker.terminate()
            worker.wait()
            server.kill()


@main.command()
@click.argument("url")
def worker(url: str) -> None:
    """Serve (the benchmark starts this itself)."""
    served = ServedModel(InstantEngine(), Template.default(), Catalogue.default(), "release", 1.0, 1.0)
    asyncio.run(serve(WorkerConfig(url, "worker", Keys(NAMESPACE), max_batch=64), served))


if __name__ == "__main__":
    main()
