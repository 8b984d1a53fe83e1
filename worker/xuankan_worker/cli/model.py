"""`xuankan model`: make, train and judge cross-encoders."""

from __future__ import annotations

import json
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xuankan_worker.cli.build import build
from xuankan_worker.cli.export import export
from xuankan_worker.cli.progress import bar
from xuankan_worker.cli.quantize import quantize
from xuankan_worker.cli.source import commit

if TYPE_CHECKING:
    from xuankan_worker.engines import EngineKind
    from xuankan_worker.releases.evaluate import Evaluation

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_NEW_FILE = click.Path(dir_okay=False, path_type=Path)
_DIRECTORY = click.Path(file_okay=False, path_type=Path)


@contextmanager
def _needs(extra: str) -> Generator[None]:
    """Around imports: says which extra holds a missing module."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise click.ClickException(f"{error.name} is missing: pip install 'xuankan[{extra}]'") from error


@click.group()
def model() -> None:
    """Make, train and judge cross-encoders, and build engines of them."""


for _command in (export, build, quantize):
    model.add_command(_command)


@model.command()
@click.option("--papers", required=True, type=_FILE, help="Parquet table of papers with their splits.")
@click.option("--out", required=True, type=_NEW_FILE, help="The .npz to write.")
@click.option("--catalogue", type=_FILE, help="Catalogue to train for; default: the packaged one.")
@click.option("--first-stage", type=_FILE, help="Its first stage; default: the packaged one.")
@click.option("--template", type=_DIRECTORY, help="Tokenizer and budgets; default: the packaged ones.")
@click.option(
    "--evaluate-on", default="dev,test,transfer", show_default=True, help="Splits to measure after training."
)
@click.option("--seed", default=0, show_default=True, help="Seed of the folds.")
def prepare(
    papers: Path,
    out: Path,
    catalogue: Path | None,
    first_stage: Path | None,
    template: Path | None,
    evaluate_on: str,
    seed: int,
) -> None:
    """Tokenize papers and rank their journals by the first stage: the part of training that needs no GPU.

    Training papers get first-stage scores from fits that have not seen them, so this fits the first stage
    five times: some minutes. Needs the `data` extra.
    """
    from xuankan.candidates.first_stage import FirstStage
    from xuankan.catalogue.model import Catalogue
    from xuankan.protocol.template import default_directory

    with _needs("data"):
        from xuankan_worker.releases.dataset import prepare as prepare_data

    with bar("preparing") as progress:
        data = prepare_data(
            papers,
            Catalogue.load(catalogue) if catalogue else Catalogue.default(),
            FirstStage.load(first_stage) if first_stage else FirstStage.default(),
            template or default_directory(),
            [name for name in evaluate_on.split(",") if name],
            progress.told,
            seed,
        )
    data.save(out)
    click.echo(f"{out}: {json.dumps(data.about)}")


@model.command()
@click.option("--papers", type=_FILE, help="Parquet table of papers; made into training data first.")
@click.option("--data", "data_path", type=_FILE, help="Training data made by `xuankan model prepare`.")
@click.option("--base", required=True, type=_DIRECTORY, help="BERT checkpoint to start from.")
@click.option(
    "--out", required=True, type=_DIRECTORY, help="Directory for the checkpoint; an interrupted run resumes."
)
@click.option("--base-name", help="Name of the base model; default: the directory's name.")
@click.option("--device", default="auto", show_default=True, help="auto, cuda or cpu.")
@click.option("--steps", default=2400, show_default=True)
@click.option("--batch", default=128, show_default=True, help="Papers per step.")
@click.option("--pass-papers", type=int, help="Papers on the device at a time; default: all of a step's.")
@click.option("--negatives", default=23, show_default=True, help="Negative journals drawn per paper.")
@click.option("--rate", default=3e-4, show_default=True, help="Highest learning rate.")
@click.option(
    "--auxiliary", default=0.2, show_default=True, help="Weight of the auxiliary classifier's loss."
)
@click.option("--first-stage-scale", default=0.5, show_default=True, help="Of its logits in training.")
@click.option("--masked", default=0.15, show_default=True, help="Share of tokens to mask.")
@click.option("--layers", type=int, help="Encoder layers to keep of the base model's.")
@click.option("--activation", help="Feed-forward activation in place of the base model's, such as relu.")
@click.option("--seed", default=0, show_default=True)
def train(
    papers: Path | None,
    data_path: Path | None,
    base: Path,
    out: Path,
    base_name: str | None,
    device: str,
    steps: int,
    batch: int,
    pass_papers: int | None,
    negatives: int,
    rate: float,
    auxiliary: float,
    first_stage_scale: float,
    masked: float,
    layers: int | None,
    activation: str | None,
    seed: int,
) -> None:
    """Fine-tune a cross-encoder on the train split, fit its fusion weight on dev, measure the other splits.

    Writes a checkpoint in Hugging Face's format and training.json, which says what it was made from and how
    good it is. Needs the `train` extra, and a GPU for more than a smoke test.
    """
    with _needs("train"):
        from xuankan_worker.releases import train as training
        from xuankan_worker.releases.dataset import TrainingData
    from xuankan_worker.manifest import file_sha256

    if (papers is None) == (data_path is None):
        raise click.UsageError("give either --papers or --data")
    if papers is not None:
        data_path = out / "data.npz"
        if not data_path.exists():
            click.get_current_context().invoke(prepare, papers=papers, out=data_path)
    assert data_path is not None
    data = TrainingData.load(data_path)
    settings = training.TrainSettings(
        steps=steps,
        papers=batch,
        pass_papers=pass_papers or batch,
        negatives=negatives,
        rate=rate,
        auxiliary=auxiliary,
        first_stage_scale=first_stage_scale,
        masked=masked,
        layers=layers,
        activation=activation,
        seed=seed,
    )
    weights = base / "model.safetensors"
    about: dict[str, Any] = {
        "base_model": base_name or base.name,
        "base_sha256": file_sha256(weights) if weights.exists() else None,
        "commit": commit(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    with bar("training") as progress:

        def report(now: Any) -> None:
            text = f"loss {now.loss:.3f} + {now.auxiliary_loss:.3f}, {now.pairs_per_s:,.0f} pairs/s"
            progress.told(text, now.step / now.steps)

        document = training.train(
            data, base, out, settings, training.pick_device(device), report, progress.say, about
        )
    click.echo(f"{out}: {json.dumps(document['quality'])}")


@model.command()
@click.argument("checkpoint", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--data", "data_path", required=True, type=_FILE, help="What the checkpoint was trained on.")
@click.option("--name", required=True, help="Of the release.")
@click.option("--out", required=True, type=_DIRECTORY, help="Directory for model.onnx and manifest.json.")
@click.option("--samples", type=click.IntRange(50), default=600, show_default=True, help="Calibration pairs.")
@click.option(
    "--float32", "as_float", is_flag=True, help="Do not quantize, to make a release to compare with."
)
def publish(checkpoint: Path, data_path: Path, name: str, out: Path, samples: int, as_float: bool) -> None:
    """Make a release of a CHECKPOINT that `xuankan model train` wrote.

    Writes its ONNX graph, quantized to INT8 for CPUs by pairs of training papers, and a manifest: what it was
    made from, its weights in the fused score, its figures, and the hashes that a worker checks. Needs the
    `train` extra, but no GPU.
    """
    with _needs("train"):
        from xuankan_worker.releases.dataset import TrainingData
        from xuankan_worker.releases.publish import publish as make_release

    with bar("publishing") as progress:
        manifest = make_release(
            name,
            checkpoint,
            TrainingData.load(data_path),
            out,
            commit() or "",
            None if as_float else samples,
            progress.told,
        )
    click.echo(f"{out}: release {manifest.name}, fingerprint {manifest.fingerprint}")


@model.command()
@click.option(
    "--papers", required=True, type=_FILE, help="Parquet table: title, abstract, journal (and split)."
)
@click.option("--split", help="Use only papers of this split.")
@click.option("--limit", type=click.IntRange(1), help="A seeded random sample of this many papers.")
@click.option("--candidates", default=100, show_default=True, type=click.IntRange(1))
@click.option("--engine", default="auto", show_default=True, type=click.Choice(["auto", "tensorrt", "onnx"]))
@click.option("--model", "release", type=_DIRECTORY, help="Release to evaluate; default: the packaged one.")
@click.option("--seed", default=0, show_default=True, help="Seed of the sample.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def evaluate(
    papers: Path,
    split: str | None,
    limit: int | None,
    candidates: int,
    engine: EngineKind,
    release: Path | None,
    seed: int,
    as_json: bool,
) -> None:
    """Rank the journals of papers whose journal is known, and print how often it comes out on top.

    Each paper's candidates come from the first stage; the engine scores them; both scores are fused with the
    release's weight, as a worker does. Needs the `data` and `cpu` extras; no torch.
    """
    with _needs("data"):
        from xuankan_worker.releases.evaluate import evaluate as run
        from xuankan_worker.releases.evaluate import read_labelled

    table = read_labelled(papers, split, limit, seed)
    with bar("evaluating") as progress:
        result = run(table, release, engine, candidates, progress.told)
    if as_json:
        click.echo(json.dumps(result.as_dict()))
    else:
        _print(result)


def _print(result: Evaluation) -> None:
    from rich.table import Table

    from xuankan.cli.render import console

    table = Table(title=f"{result.fused.papers} papers, {result.candidates} candidates each")
    for heading in ("", "top-1", "top-3", "top-5", "top-10", "MRR"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, quality in (("first stage", result.first_stage), ("fused", result.fused)):
        values = (quality.top1, quality.top3, quality.top5, quality.top10, quality.mrr)
        table.add_row(name, *(f"{value:.4f}" for value in values))
    out = console()
    out.print(table)
    out.print(f"n {result.fused.papers} · recall of the first stage {result.fused.recall:.4f}")
    if result.unknown_journals:
        out.print(f"left out: {result.unknown_journals} papers of journals that the catalogue lacks")
    speed = f"{result.pairs_per_s:,.1f} pairs/s on {result.engine} ({result.device})"
    out.print(f"{result.rows:,.1f} rows per manuscript, {speed}")
    out.print(f"release {result.release}, weight of the first stage {result.first_stage_weight}")
