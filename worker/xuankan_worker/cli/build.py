"""`xuankan model build`: TensorRT engines of a release."""

from __future__ import annotations

from pathlib import Path

import click

from xuankan.outlets import echo
from xuankan_worker.cli.progress import Bar, bar
from xuankan_worker.engines.tensorrt.layout import PlanKind
from xuankan_worker.engines.tensorrt.library import FLAVOURS, load_library
from xuankan_worker.engines.tensorrt.plan import (
    PRECISIONS,
    EngineManifest,
    Precision,
    plan_file,
    wanted_plans,
)
from xuankan_worker.engines.tensorrt.shapes import (
    MAX_BATCH,
    MAX_TOKENS,
    Shape,
    choose_buckets,
    default_shapes,
    parse_shapes,
)
from xuankan_worker.manifest import Manifest, default_release


@click.command()
@click.argument("release", type=click.Path(exists=True, file_okay=False, path_type=Path), required=False)
@click.option(
    "--precision", type=click.Choice(PRECISIONS), default="fp16", show_default=True,
    help="Of the cross-encoder; an encoder is FP16.",
)  # fmt: skip
@click.option(
    "--max-batch", type=click.IntRange(1, 1024), default=MAX_BATCH, show_default=True,
    help=f"Most rows in a batch; fewer if rows are long, because a batch has at most {MAX_TOKENS} tokens.",
)  # fmt: skip
@click.option(
    "--buckets", metavar="LIST",
    help="Lengths to pad the cross-encoder's rows to, such as 128,256,512, or lengths x rows: "
    "256x4,256x16,512x16.  "
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
    release: Path | None,
    precision: Precision,
    max_batch: int,
    buckets: str | None,
    papers: Path | None,
    target: str,
    flavour: str | None,
) -> None:
    """Build a TensorRT engine for RELEASE, into RELEASE/engines; by default for the package's own.

    It has a plan of the release's encoder, its cross-encoder or both. Each holds one static shape for each
    bucket, which is what runs fast, and a dynamic one for all other batches. A worker takes the engine that
    was built last, of those that fit. TensorRT-RTX builds without a GPU, and for any GPU unless --target says
    which. The standard library builds for the GPU at hand. Needs the extras export and gpu or gpu-rtx.
    """
    from xuankan_worker.releases.build import build as build_engine

    if buckets is not None and papers is not None:
        raise click.UsageError("give either --buckets or --lengths-from")
    library = load_library(flavour)
    directory = release or default_release()
    manifest = Manifest.load(directory)
    wanted = wanted_plans(manifest)
    if "cross_encoder" not in wanted and (buckets or papers):
        raise click.UsageError(f"release {manifest.name} has no cross-encoder to choose buckets for")
    with bar("building") as progress:
        shapes: dict[PlanKind, tuple[Shape, ...]] = {}
        if manifest.encoder is not None:
            shapes["encoder"] = default_shapes(manifest.encoder.architecture.max_length, max_batch)
        if manifest.architecture is not None:
            longest = manifest.architecture.max_length
            if papers is not None:
                shapes["cross_encoder"] = _chosen(directory, papers, longest, max_batch, progress)
            elif buckets is not None:
                shapes["cross_encoder"] = parse_shapes(buckets, longest, max_batch)
            else:
                shapes["cross_encoder"] = default_shapes(longest, max_batch)
        targets = [name for name in (part.strip() for part in target.split(",")) if name]
        folder, engine = build_engine(directory, library, shapes, precision, targets, progress.told)
    _tell(folder, engine)


def _chosen(release: Path, papers: Path, max_length: int, max_batch: int, progress: Bar) -> tuple[Shape, ...]:
    """As many buckets as the default has, where real pairs want them."""
    from xuankan_worker.releases.lengths import pair_lengths

    counts = pair_lengths(release, papers, progress.told)
    edges, padding = choose_buckets(counts, len(default_shapes(max_length)))
    text = ",".join(map(str, edges))
    progress.say(f"--buckets {text}: {padding:.1%} of the tokens of {papers.name} would be padding")
    return parse_shapes(text, max_length, max_batch)


def _tell(folder: Path, manifest: EngineManifest) -> None:
    echo(f"{folder}: {manifest.flavour} {manifest.version}, compute capability {manifest.compute_capability}")
    for kind, plan in manifest.plans.items():
        size = (folder / plan_file(kind)).stat().st_size / 1e6
        shapes = " ".join(f"{shape.bucket}x{shape.rows}" for shape in plan.shapes)
        fallback = plan.dynamic
        echo(f"{kind.replace('_', '-')}: {size:,.1f} MB in {plan.build_s:.1f} s")
        echo(
            f"tokens x rows: {shapes}"
            + (f", any up to {fallback.tokens}x{fallback.rows}" if fallback else "")
        )
