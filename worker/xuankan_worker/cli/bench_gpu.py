"""`xuankan bench gpu`: the worker on a GPU beside what a user would run instead."""

from __future__ import annotations

import shlex
import sys
import tempfile
from pathlib import Path

import click

from xuankan.outlets import echo

_MODELS = ("base", "default")
_SYSTEMS = ("worker", "raw", "plain", "crossencoder", "agreement")


def _names(known: tuple[str, ...]) -> object:
    def read(context: click.Context, option: click.Parameter, text: str) -> tuple[str, ...]:
        del context
        chosen = tuple(name.strip() for name in text.split(",") if name.strip())
        if unknown := [name for name in chosen if name not in known]:
            raise click.BadParameter(f"{unknown[0]!r}; there are {', '.join(known)}", param=option)
        return chosen

    return read


@click.command("gpu")
@click.option(
    "--papers", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=True,
    help="Parquet table with the columns title, abstract, journal, split.",
)  # fmt: skip
@click.option("--split", default="test", show_default=True, help="Papers of this split are the manuscripts.")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path),
    help="Gets gpu-<chip>.json and gpu-<chip>.md.  [default: tests/benchmarks of a source tree, else here]",
)  # fmt: skip
@click.option(
    "--work-dir", type=click.Path(file_okay=False, path_type=Path),
    help="Models and engines, kept for the next run.  [default: xuankan-bench in the temporary directory]",
)  # fmt: skip
@click.option(
    "--models", default="base", show_default=True, callback=_names(_MODELS), metavar="NAMES",
    help="base: BERT-base's size, random weights; default: the package's, if it has a cross-encoder.",
)  # fmt: skip
@click.option(
    "--systems", default=",".join(_SYSTEMS), show_default=True, callback=_names(_SYSTEMS), metavar="NAMES",
    help="What to measure; results of other runs stay in the file.",
)  # fmt: skip
@click.option("--pairs", type=click.IntRange(1024), default=8192, show_default=True, help="To be scored.")
@click.option(
    "--max-batch",
    type=click.IntRange(1, 1024),
    default=16,
    show_default=True,
    help="Most rows in a batch.",
)
@click.option("--buckets", metavar="LIST", help="Passed to `xuankan model build`.")
@click.option(
    "--workers",
    type=click.IntRange(1, 32),
    default=1,
    show_default=True,
    help="Workers that share the GPU. Results of different numbers of them, and of rows, are kept.",
)
@click.option(
    "--producers",
    type=click.IntRange(2),
    default=8,
    show_default=True,
    help="Processes that submit requests.",
)
@click.option("--seed", default=0, show_default=True, help="Seed that chooses the manuscripts.")
@click.option(
    "--quick", is_flag=True, help="Short measurements of a few pairs, to see that everything works."
)
def gpu(
    papers: Path,
    split: str,
    out: Path | None,
    work_dir: Path | None,
    models: tuple[str, ...],
    systems: tuple[str, ...],
    pairs: int,
    max_batch: int,
    buckets: str | None,
    workers: int,
    producers: int,
    seed: int,
    quick: bool,
) -> None:
    """Measure the whole worker, its engine alone, plain PyTorch and CrossEncoder on one GPU.

    All score the same pairs of manuscripts and journals, each in a process of its own; what fails or is
    not installed is told and costs the others nothing. Results are written after each, so a run may be
    cut. Needs the extras `bench` and `gpu` or `gpu-rtx`; nothing is downloaded. A first run of both
    models takes about twelve minutes on an H100 or H200.
    """
    from xuankan.errors import XuankanError
    from xuankan.terminal import Terminal
    from xuankan_worker.bench.gpu.child import ChildTask
    from xuankan_worker.bench.gpu.report import show
    from xuankan_worker.bench.gpu.run import CANDIDATES, BenchSettings, bench_gpu, shortened

    benchmarks = Path("tests/benchmarks")
    job = ChildTask("", "", "", "", "", max_batch=max_batch, workers=workers, producers=producers)
    settings = BenchSettings(
        papers=papers,
        split=split,
        out=out or (benchmarks if benchmarks.is_dir() else Path()),
        work_dir=work_dir or Path(tempfile.gettempdir()) / "xuankan-bench",
        models=models,
        systems=systems,
        manuscripts=pairs // CANDIDATES,
        seed=seed,
        job=job,
        build_options=("--max-batch", str(max_batch), *(("--buckets", buckets) if buckets else ())),
        command=command_of(sys.argv[1:]),
    )
    try:
        document, path = bench_gpu(
            shortened(settings) if quick else settings, lambda line: echo(line, err=True)
        )
    except XuankanError as error:
        raise click.ClickException(str(error)) from error
    show(document, Terminal())
    echo(f"{path} and {path.with_suffix('.md').name}")


def command_of(arguments: list[str]) -> str:
    """The command line without the places that its files go to."""
    kept, words = ["xuankan"], iter(arguments)
    for word in words:
        if word in ("--out", "--work-dir"):
            next(words, None)
        elif not word.startswith(("--out=", "--work-dir=")):
            kept.append(word)
    return shlex.join(kept)
