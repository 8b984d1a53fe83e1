"""`xuankan model`: make, train and judge releases."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xuankan.outlets import echo, json_text
from xuankan_worker.cli.assemble import assemble
from xuankan_worker.cli.build import build
from xuankan_worker.cli.export import export
from xuankan_worker.cli.progress import bar
from xuankan_worker.cli.quantize import quantize

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


for _command in (assemble, export, build, quantize):
    model.add_command(_command)


@model.command()
@click.option("--papers", required=True, type=_FILE, help="Parquet table of papers with their splits.")
@click.option("--out", required=True, type=_NEW_FILE, help="The .npz to write.")
@click.option("--catalogue", type=_FILE, help="Catalogue to train for; default: the packaged one.")
@click.option("--first-stage", type=_FILE, help="Its first stage; default: the packaged one.")
@click.option("--template", type=_DIRECTORY, help="Tokenizer and budgets; default: the packaged ones.")
@click.option(
    "--splits", "evaluate_on", default="late,dev,test,transfer", show_default=True, help="Beside train."
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
    echo(f"{out}: {json_text(data.about)}")


@model.command()
@click.option(
    "--data", "data_path", required=True, type=_FILE, help="Training data of `xuankan model prepare`."
)
@click.option("--base", required=True, type=_DIRECTORY, help="BERT or MPNet checkpoint to start from.")
@click.option(
    "--out", required=True, type=_DIRECTORY, help="Gets all checkpoints; an interrupted run goes on."
)
@click.option("--first", type=_DIRECTORY, help="Run whose first steps (halves, honest scores) are used.")
@click.option("--device", default="auto", show_default=True, help="auto, cuda or cpu.")
@click.option("--epochs", default=10.0, show_default=True, help="Of the encoder.")
@click.option("--rate", default=3e-4, show_default=True, help="Highest learning rate of the encoder.")
@click.option("--heads", default=1.0, show_default=True, help="Factor of the rate for the encoder's heads.")
@click.option("--papers", default=128, show_default=True, help="Papers a step.")
@click.option("--within", default=0.0, help="Seconds that each part may take; its steps are cut to fit.")
@click.option("--layers", type=int, help="Layers to keep of the base model's.")
@click.option("--cross-encoder", is_flag=True, help="Train the evidence cross-encoder too.")
@click.option("--late", is_flag=True, help="At last, go on with the papers of the split `late`.")
@click.option("--compile", "compiled", is_flag=True, help="Compile the layers.")
@click.option("--seed", default=0, show_default=True)
def train(
    data_path: Path,
    base: Path,
    out: Path,
    first: Path | None,
    device: str,
    epochs: float,
    rate: float,
    heads: float,
    papers: int,
    within: float,
    layers: int | None,
    cross_encoder: bool,
    late: bool,
    compiled: bool,
    seed: int,
) -> None:
    """Train an encoder and, on request, the evidence cross-encoder (see `releases/recipe.py`).

    On several GPUs of a host: `torchrun --nproc-per-node N -m xuankan.cli.main model train ...`. Needs the
    `train` extra, and a GPU for more than a smoke test.
    """
    with _needs("train"):
        from xuankan_worker.releases.encoder_training import EncoderSettings
        from xuankan_worker.releases.optimizing import Processes
        from xuankan_worker.releases.pair_training import PairSettings
        from xuankan_worker.releases.recipe import Recipe, joined
        from xuankan_worker.releases.training_data import TrainingData

    data = TrainingData.load(data_path)
    processes = Processes.join()
    out.mkdir(parents=True, exist_ok=True)
    with bar("training") as progress:

        def report(name: str, now: Any) -> None:
            losses = " + ".join(f"{loss:.3f}" for loss in now.losses)
            progress.told(f"{name}: loss {losses}, {now.papers_per_s:,.0f} papers/s", now.step / now.steps)

        recipe = Recipe(data, base, out, processes.device(device), processes, report, compiled, layers, first)
        settings = EncoderSettings(
            epochs=epochs, papers=papers, rate=rate, heads=heads, within_s=within, seed=seed
        )
        if first is None:
            for number in (0, 1):
                recipe.half(number, replace(settings, epochs=0.7 * epochs))
            recipe.judge()
        recipe.encoder(settings)
        pairs = None
        if cross_encoder:
            recipe.cross_encoder(PairSettings(within_s=within, seed=seed))
            pairs = out / "cross-encoder"
        splits = [name for name in ("dev", "test", "transfer") if name in data.splits]
        if processes.rank == 0:
            recipe.score(splits[:1], pairs=pairs)
        if late:
            recipe.late(replace(settings, epochs=0.9, rate=rate / 5))
        if processes.rank == 0 and splits[1:]:
            corpus = joined(data.splits["train"], data.splits["late"]) if late else None
            name = "late" if late else "encoder"
            recipe.score(splits[1:], encoder=name, pairs=pairs, corpus=corpus)
    echo(f"{out}: trained")


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
        echo(json_text(result.as_dict()))
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
    speed = f"{result.manuscripts_per_s:,.1f} manuscripts/s on {result.engine} ({result.device})"
    out.print(f"{result.rows:,.1f} rows per manuscript, {speed}")
    out.print(f"release {result.release}, weight of the first stage {result.first_stage_weight}")
