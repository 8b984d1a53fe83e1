"""`xuankan model quantize`: 8 bits for GPUs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from xuankan.outlets import echo
from xuankan_worker.cli.progress import bar

if TYPE_CHECKING:
    from xuankan_worker.releases.gpu_quantize import Candidate


@click.command()
@click.argument("release", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--calibration", "papers", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Parquet table of papers: title, abstract, journal, split.",
)  # fmt: skip
@click.option(
    "--samples",
    type=int,
    default=512,
    show_default=True,
    help="Number of calibration pairs; 500 to 1000 work well.",
)
@click.option("--precision", type=click.Choice(["int8", "fp8"]), default="int8", show_default=True)
@click.option(
    "--papers", "judging", type=click.IntRange(1), default=300, show_default=True,
    help="Papers to evaluate the result on, 20 journals each.",
)  # fmt: skip
@click.option(
    "--limit", type=click.FloatRange(0), default=0.8, show_default=True,
    help="Percentage of top-1 or MRR that may be lost against FP16.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Write it no matter how much it loses.")
def quantize(
    release: Path,
    papers: Path,
    samples: int,
    precision: Literal["int8", "fp8"],
    judging: int,
    limit: float,
    force: bool,
) -> None:
    """Add an INT8 or FP8 graph for GPUs to RELEASE, which `xuankan model export` wrote.

    It is model.fp16.onnx with explicit Q/DQ around the linear layers. Ranges come from pairs of real papers
    and journals, by the method that changes the scores of other pairs the least; layers that change them too
    much stay in FP16. Papers whose journal is known then judge it: if it loses more than --limit percent of
    top-1 or MRR against FP16, it is not written. Papers of the split train judge only if others are too few.

    Nothing takes the new graph by itself: build it with `xuankan model build RELEASE --precision int8`,
    and compare; a worker takes the engine that was built last. It pays on GPUs for which TensorRT has
    fast 8-bit kernels. On Hopper, TensorRT-RTX 1.6 ran 8-bit linear layers slower than FP16. Runs on the
    CPU; needs the extras export and data.
    """
    from xuankan_worker.releases.gpu_quantize import quantize_release

    with bar("quantizing") as progress:
        candidate = quantize_release(release, papers, samples, precision, judging, progress.told)
    _print(candidate, limit)
    path = candidate.save(limit, force)
    size = path.stat().st_size / 1e6
    echo(f"{path}: {size:,.1f} MB; next: xuankan model build {release} --precision {precision}")


def _print(candidate: Candidate, limit: float) -> None:
    from rich.table import Table

    from xuankan.cli.render import console

    record, loss, out = candidate.record, candidate.loss, console()
    table = Table(title=f"{candidate.precision.upper()}: error of scores, {record.samples} calibration pairs")
    for heading in ("method", "error", ""):
        table.add_column(heading, justify="right" if heading == "error" else "left")
    for name, error in record.score_error.items():
        table.add_row(name, f"{error:.2%}", "chosen" if name == record.method else "")
    out.print(table)
    out.print("error: root mean square, in units of the scores' standard deviation, every layer quantized")
    if candidate.sensitivity:
        table = Table(title="sensitivity")
        for heading in ("layer, quantized alone", "error", "precision"):
            table.add_column(heading, justify="right" if heading == "error" else "left")
        for layer, error in sorted(candidate.sensitivity.items(), key=lambda item: -item[1]):
            kept = "FP16" if layer in record.kept else candidate.precision.upper()
            table.add_row(layer, f"{error:.2%}", kept)
        out.print(table)
    out.print(
        f"{len(candidate.layers) - len(record.kept)} of {len(candidate.layers)} linear layers in "
        f"{candidate.precision.upper()}, error {record.error:.2%}"
    )
    table = Table(title=f"{loss.papers} papers, {loss.candidates} candidates each, fused ranking")
    for heading in ("", "FP16", "lost", "standard error"):
        table.add_column(heading, justify="right" if heading else "left")
    table.add_row("top-1", f"{loss.top1:.4f}", f"{loss.top1_loss:+.2f} %", f"{loss.top1_error:.2f} %")
    table.add_row("MRR", f"{loss.mrr:.4f}", f"{loss.mrr_loss:+.2f} %", f"{loss.mrr_error:.2f} %")
    out.print(table)
    out.print(
        f"Kendall τ with FP16's rankings {loss.kendall_tau:.4f} · limit {limit:g} % of top-1 and of MRR"
    )
