"""`xuankan bench`: measurements, printed as tables."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from xuankan.outlets import echo, json_text
from xuankan_worker.cli.bench_encoder import encoder
from xuankan_worker.cli.bench_gpu import gpu

if TYPE_CHECKING:
    from xuankan_worker.bench.cpu import CpuBench


@click.group()
def bench() -> None:
    """Benchmark Xuankan against the alternatives."""


bench.add_command(gpu)
bench.add_command(encoder)


@bench.command()
@click.option(
    "--papers", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=True,
    help="Parquet table with the columns title, abstract, journal (and split).",
)  # fmt: skip
@click.option("--split", help="Use only papers of this split.")
@click.option("--manuscripts", default=4, show_default=True, help="Manuscripts of each round.")
@click.option("--candidates", default=100, show_default=True, help="Journals scored for each manuscript.")
@click.option("--rounds", default=5, show_default=True, help="Number of rounds in which both are measured.")
@click.option("--seed", default=0, show_default=True, help="Seed that chooses the manuscripts.")
@click.option(
    "--model", "release", type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Release for the worker to serve.  [default: the packaged one]",
)  # fmt: skip
@click.option(
    "--checkpoint", type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Float32 weights for CrossEncoder (Hugging Face files).  [default: the release's, dequantized]",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def cpu(
    papers: Path,
    split: str | None,
    manuscripts: int,
    candidates: int,
    rounds: int,
    seed: int,
    release: Path | None,
    checkpoint: Path | None,
    as_json: bool,
) -> None:
    """Pairs per second of our worker beside CrossEncoder.predict; of an encoder, manuscripts per second.

    A release that has only an encoder, such as the packaged one, is measured alone: how many manuscripts a
    second go through the queue, how long one takes with nothing beside it, and its processor time. Otherwise
    the worker gets its manuscripts through the queue of an embedded server; CrossEncoder (float32, batches of
    16) gets the same pairs as texts. Both run on all cores of this host, in turns, and the ratio is taken
    within each round. Needs the extra `bench`; nothing is downloaded.
    """
    from xuankan import Manuscript
    from xuankan_worker.bench.cpu import bench_cpu
    from xuankan_worker.bench.manuscripts import bench_manuscripts, lines
    from xuankan_worker.manifest import Manifest, default_release
    from xuankan_worker.releases.dequantize import read_checkpoint
    from xuankan_worker.releases.labelled import read_labelled

    sample = read_labelled(papers, () if split is None else (split,), manuscripts, seed)
    chosen = [
        Manuscript(title, abstract) for title, abstract in zip(sample.title, sample.abstract, strict=True)
    ]
    release = release or default_release()
    if Manifest.load(release).architecture is None:
        found = bench_manuscripts(release, chosen, rounds, lambda line: echo(line, err=True))
        echo(json_text(found.as_dict(), indent=2) if as_json else "\n".join(lines(found)))
        return
    with tempfile.TemporaryDirectory(prefix="xuankan-bench-") as directory:
        if checkpoint is None:
            checkpoint = Path(directory)
            read_checkpoint(release, checkpoint)
        measured = bench_cpu(
            release, checkpoint, chosen, candidates, rounds, lambda line: echo(line, err=True)
        )
    if as_json:
        echo(json_text(measured.as_dict(), indent=2))
    else:
        _print(measured)


def _print(measured: CpuBench) -> None:
    from rich.table import Table

    from xuankan.terminal import Terminal

    table = Table(title=f"{measured.processor}, {measured.pairs_per_round} pairs a round, "
                        f"{measured.mean_tokens:.0f} tokens a pair")  # fmt: skip
    table.add_column("system")
    for name in ("median", "lowest", "highest"):
        table.add_column(name, justify="right")
    rows = {
        "worker through the queue, INT8 (pairs/s)": [each.worker_pairs_per_s for each in measured.rounds],
        "CrossEncoder.predict, float32 (pairs/s)": [each.reference_pairs_per_s for each in measured.rounds],
        "ratio": [each.ratio for each in measured.rounds],
        "one manuscript alone (s)": list(measured.latency_s),
    }
    for name, values in rows.items():
        table.add_row(
            name, *(f"{value:.2f}" for value in (statistics.median(values), min(values), max(values)))
        )
    console = Terminal()
    console.print(table)
    console.print(f"The worker's own cost under load: {measured.usage.own_share:.1%} of its processor time.")
    console.print(", ".join(f"{name} {number}" for name, number in measured.versions.items()))
