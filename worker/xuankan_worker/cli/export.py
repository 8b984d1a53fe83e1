"""`xuankan model export`: a release for GPUs."""

from __future__ import annotations

from pathlib import Path

import click

from xuankan.outlets import echo
from xuankan_worker.cli.progress import bar
from xuankan_worker.cli.source import commit

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_EXISTING = click.Path(exists=True, file_okay=False, path_type=Path)
_TOKENS = click.IntRange(16)


@click.command()
@click.argument("checkpoint", type=_EXISTING)
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Gets model.fp16.onnx, manifest.json and, if it is not the package's, the template.",
)
@click.option("--name", help="Name of the release; default: CHECKPOINT's.")
@click.option("--max-manuscript-tokens", type=_TOKENS, help="Longer manuscripts are truncated.")
@click.option("--max-profile-tokens", type=_TOKENS, help="Longer journal profiles are truncated.")
@click.option("--first-stage-weight", type=float, help="Weight of the first stage's score.")
@click.option(
    "--temperature", type=click.FloatRange(0, min_open=True), help="Temperature of the softmax over journals."
)
@click.option(
    "--catalogue",
    type=_FILE,
    help="Catalogue whose profiles are used to compare it; default: the packaged one.",
)
def export(
    checkpoint: Path,
    out: Path,
    name: str | None,
    max_manuscript_tokens: int | None,
    max_profile_tokens: int | None,
    first_stage_weight: float | None,
    temperature: float | None,
    catalogue: Path | None,
) -> None:
    """Make a release for GPUs of CHECKPOINT, a cross-encoder as Hugging Face saves it or a release of one.

    Writes the FP16 graph that `xuankan model build` makes TensorRT
    engines of. BERT, RoBERTa, XLM-RoBERTa, CamemBERT, MPNet, ELECTRA and DistilBERT are written straight from
    model.safetensors in the form that TensorRT fuses best, other models by PyTorch's exporter, which says
    what that costs. The graph is accepted if its logits on real pairs are those of the float32 model: of
    PyTorch, if it is installed.

    A checkpoint that `xuankan model train` did not make gets a template of its own tokenizer: a pair of up
    to 512 tokens, three quarters for the manuscript, unless told. Its logits alone rank, with no weight for
    the first stage and temperature 1, unless told.
    """
    from xuankan.catalogue import Catalogue
    from xuankan_worker.releases.export import ExportSettings, export_release
    from xuankan_worker.releases.numerics import TOLERANCE

    settings = ExportSettings(
        name=name,
        max_manuscript_tokens=max_manuscript_tokens,
        max_profile_tokens=max_profile_tokens,
        first_stage_weight=first_stage_weight,
        temperature=temperature,
        catalogue=Catalogue.load(catalogue) if catalogue else None,
        commit=commit() or "",
    )
    with bar("exporting") as progress:
        manifest, loss = export_release(checkpoint, out, settings, progress.told)
    record = manifest.export
    assert record is not None
    echo(f"{out}: release {manifest.name}, fingerprint {manifest.fingerprint}, opset {record.opset}")
    echo(
        f"compared with {record.reference}: logits of {record.pairs} real pairs differ by at most "
        f"{record.max_error:.3g}, root mean square {record.rms_error:.3g}, their standard deviation is "
        f"{record.spread:.3g}; accepted is a root mean square of {TOLERANCE:.0%} of it"
    )
    if loss:
        echo(loss)
