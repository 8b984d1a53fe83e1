"""`xuankan model build`: TensorRT engines of a release."""

from __future__ import annotations

from pathlib import Path

import click

from xuankan.outlets import echo
from xuankan_worker.cli.progress import Bar, bar
from xuankan_worker.engines.tensorrt.library import FLAVOURS, load_library
from xuankan_worker.engines.tensorrt.plan import PLAN, PRECISIONS, EngineManifest, Precision
from xuankan_worker.engines.tensorrt.shapes import (
    MAX_BATCH,
    MAX_TOKENS,
    Shape,
    choose_buckets,
    default_shapes,
    parse_shapes,
)
from xuankan_worker.manifest import Manifest


@click.command()
@click.argument("release", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--precision", type=click.Choice(PRECISIONS), default="fp16", show_default=True)
@click.option(
    "--max-batch", type=click.IntRange(1, 1024), default=MAX_BATCH, show_default=True,
    help=f"Most rows in a batch; fewer if rows are long, because a batch has at most {MAX_TOKENS} tokens.",
)  # fmt: skip
@click.option(
    "--buckets", metavar="LIST",
    help="Lengths to pad to, such as 128,256,512, or lengths x rows: 256x4,256x16,512x16.  "
    "[default: few up to 192, then every 16]",
)  # fmt: skip
@click.option(
    "--lengths-from", "papers", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Parquet table of papers: choose the buckets that need the least padding (extra `data`).",
)  # fmt: skip
@click.option(
    "--target", metavar="LIST", default="", help="GPU generations, such as sm_86,sm_89; TensorRT-RTX only."
)
@click.option(
    "--library", "flavour", type=click.Choice(FLAVOURS), help="Which TensorRT to use if both are installed."
)
def build(
    release: Path,
    precision: Precision,
    max_batch: int,
    buckets: str | None,
    papers: Path | None,
    target: str,
    flavour: str | None,
) -> None:
    """Build a TensorRT engine for RELEASE, into RELEASE/engines.

    It holds one static shape for each bucket, which is what runs fast, and a dynamic one for all other
    batches. A worker takes the engine that was built last, of those that fit. TensorRT-RTX builds without
    a GPU, and for any GPU unless --target says which. The standard library builds for the GPU at hand.
    Needs the extra gpu or gpu-rtx.
    """
    from xuankan_worker.releases.build import build as build_plan

    if buckets is not None and papers is not None:
        raise click.UsageError("give either --buckets or --lengths-from")
    library = load_library(flavour)
    max_length = Manifest.load(release).cross_encoder.max_length
    with bar("building") as progress:
        if papers is not None:
            shapes = _chosen(release, papers, max_length, max_batch, progress)
        elif buckets is not None:
            shapes = parse_shapes(buckets, max_length, max_batch)
        else:
            shapes = default_shapes(max_length, max_batch)
        targets = [name for name in (part.strip() for part in target.split(",")) if name]
        folder, manifest = build_plan(release, library, shapes, precision, targets, progress.told)
    _tell(folder, manifest)


def _chosen(release: Path, papers: Path, max_length: int, max_batch: int, progress: Bar) -> tuple[Shape, ...]:
    """As many buckets as the default has, where real pairs want them."""
    from xuankan_worker.releases.lengths import pair_lengths

    counts = pair_lengths(release, papers, progress.told)
    edges, padding = choose_buckets(counts, len(default_shapes(max_length)))
    text = ",".join(map(str, edges))
    progress.say(f"--buckets {text}: {padding:.1%} of the tokens of {papers.name} would be padding")
    return parse_shapes(text, max_length, max_batch)


def _tell(folder: Path, manifest: EngineManifest) -> None:
    size = (folder / PLAN).stat().st_size / 1e6
    shapes = " ".join(f"{shape.bucket}x{shape.rows}" for shape in manifest.shapes)
    fallback = manifest.dynamic
    echo(f"{folder}: {size:,.1f} MB in {manifest.build_s:.1f} s")
    echo(f"{manifest.flavour} {manifest.version}, compute capability {manifest.compute_capability}")
    echo(f"tokens x rows: {shapes}" + (f", any up to {fallback.tokens}x{fallback.rows}" if fallback else ""))
