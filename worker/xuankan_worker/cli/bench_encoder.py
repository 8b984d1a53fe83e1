"""`xuankan bench encoder`: a release with an encoder on a GPU, through the queue."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import click

from xuankan.outlets import echo
from xuankan_worker.cli.bench_gpu import command_of

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_DIRECTORY = click.Path(file_okay=False, path_type=Path)
_SYSTEMS = ("raw", "worker", "quality", "plain")


@click.command("encoder")
@click.option(
    "--papers",
    type=_FILE,
    required=True,
    help="Parquet table with the columns title, abstract, journal, split.",
)
@click.option("--split", default="test", show_default=True, help="Papers of this split are the manuscripts.")
@click.option(
    "--model", "release", type=_DIRECTORY,
    help="Release to serve, with an engine by `xuankan model build`.  [default: the packaged one]",
)  # fmt: skip
@click.option(
    "--out", type=_DIRECTORY,
    help="Gets encoder-<chip>.json.  [default: tests/benchmarks of a source tree, else here]",
)  # fmt: skip
@click.option(
    "--work-dir", type=_DIRECTORY,
    help="Kept for the next run.  [default: xuankan-bench in the temporary directory]",
)  # fmt: skip
@click.option(
    "--systems", multiple=True, type=click.Choice(_SYSTEMS), help="What to measure, repeated.  [default: all]"
)
@click.option(
    "--workers", "counts", multiple=True, type=click.IntRange(1, 32), default=(1, 4), show_default=True,
    help="Workers that share the GPU, repeated.",
)  # fmt: skip
@click.option("--producers", type=click.IntRange(2), default=8, show_default=True, help="Processes that ask.")
@click.option(
    "--manuscripts", type=click.IntRange(16), default=1024, show_default=True, help="Different ones."
)
@click.option(
    "--max-batch", type=click.IntRange(1, 1024), default=16, show_default=True, help="Rows of a batch."
)
@click.option(
    "--engine", type=click.Choice(("tensorrt", "onnx")), default="tensorrt", show_default=True,
    help="onnx measures the CPU.",
)  # fmt: skip
@click.option("--seconds", type=float, default=10.0, show_default=True, help="Of each load.")
@click.option("--seed", default=0, show_default=True, help="Seed that chooses the manuscripts.")
def encoder(
    papers: Path,
    split: str,
    release: Path | None,
    out: Path | None,
    work_dir: Path | None,
    systems: tuple[str, ...],
    counts: tuple[int, ...],
    producers: int,
    manuscripts: int,
    max_batch: int,
    engine: str,
    seconds: float,
    seed: int,
) -> None:
    """Manuscripts a second, latencies and quality of a release with an encoder, beside plain PyTorch.

    `worker` is the whole: producers rank texts through an embedded server. `raw` is the engine alone.
    `quality` compares served rankings with where the papers appeared, and with those of the CPU. Needs the
    extras `bench` and `gpu` or `gpu-rtx`.
    """
    from xuankan.errors import XuankanError
    from xuankan_worker.bench.gpu.child import ChildTask
    from xuankan_worker.bench.gpu.encoder import EncoderBench, bench_encoder
    from xuankan_worker.manifest import default_release

    benchmarks = Path("tests/benchmarks")
    device = "cuda" if engine == "tensorrt" else "cpu"
    job = ChildTask(
        *("", "", "", "", ""),
        engine=engine,
        max_batch=max_batch,
        device=device,
        producers=producers,
        load_s=seconds,
        least_s=min(4.0, seconds / 2),
    )
    settings = EncoderBench(
        release=release or default_release(),
        papers=papers,
        split=split,
        out=out or (benchmarks if benchmarks.is_dir() else Path()),
        work_dir=work_dir or Path(tempfile.gettempdir()) / "xuankan-bench",
        manuscripts=manuscripts,
        seed=seed,
        systems=systems or _SYSTEMS,
        workers=counts,
        job=job,
        command=command_of(sys.argv[1:]),
    )
    try:
        path = bench_encoder(settings, lambda line: echo(line, err=True))
    except XuankanError as error:
        raise click.ClickException(str(error)) from error
    echo(str(path))
