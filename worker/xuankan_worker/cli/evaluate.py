"""`xuankan model evaluate`: how good a release's rankings are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from xuankan.outlets import echo, json_text
from xuankan_worker.cli.extras import needs
from xuankan_worker.cli.progress import bar

if TYPE_CHECKING:
    from rich.table import Table

    from xuankan.candidates.quality import Quality
    from xuankan_worker.engines import EngineKind
    from xuankan_worker.releases.evaluate import Evaluation
    from xuankan_worker.releases.measures import Interval, Reliability
    from xuankan_worker.releases.tables import Fit, PaperGroup, SplitTables

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_NEW_FILE = click.Path(dir_okay=False, path_type=Path)
_MEASURES = {"top1": "top-1", "top3": "top-3", "top5": "top-5", "top10": "top-10", "mrr": "MRR"}
_BAR = 40
"""Characters of a share of 1 in the reliability diagram."""


@click.command()
@click.option(
    "--papers", required=True, type=_FILE, help="Parquet table: title, abstract, journal (and split)."
)
@click.option(
    "--split", "splits", multiple=True, help="Use only papers of this split; may be given several times."
)
@click.option("--limit", type=click.IntRange(1), help="A seeded random sample of this many papers.")
@click.option("--candidates", default=100, show_default=True, type=click.IntRange(1))
@click.option("--engine", default="auto", show_default=True, type=click.Choice(["auto", "tensorrt", "onnx"]))
@click.option(
    "--model", "release", type=click.Path(file_okay=False, path_type=Path),
    help="Release to evaluate; default: the packaged one.",
)  # fmt: skip
@click.option(
    "--outside",
    type=_FILE,
    help="Parquet table, title and abstract, of papers that no journal's field covers.",
)
@click.option("--keep", "kept", type=_NEW_FILE, help="File to keep in what is done; given again, goes on.")
@click.option("--diagram", type=_NEW_FILE, help="SVG file to draw the reliability diagram to.")
@click.option("--seed", default=0, show_default=True, help="Seed of the sample.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def evaluate(
    papers: Path,
    splits: tuple[str, ...],
    limit: int | None,
    candidates: int,
    engine: EngineKind,
    release: Path | None,
    outside: Path | None,
    kept: Path | None,
    diagram: Path | None,
    seed: int,
    as_json: bool,
) -> None:
    """Rank the journals of papers whose journal is known, and print how often it comes out on top.

    Each paper's candidates come from the first stage; the release ranks them as a worker does. For each split
    there are the table, with intervals that hold the true value with a probability of 95 % (bootstrap),
    tables by field (arXiv's, where the table has the column arxiv_categories) and by size of journal (by its
    papers of the split train, where the table has them), and how well the score of the journal on top agrees
    with how often it is right. With --outside, how well the release tells when few journals fit.

    Needs the `data` and `cpu` extras; no torch.
    """
    with needs("data"):
        from xuankan_worker.releases.diagram import reliability_svg
        from xuankan_worker.releases.evaluate import evaluate as run
        from xuankan_worker.releases.labelled import read_labelled, read_texts, training_papers
        from xuankan_worker.releases.tables import tables

    table = read_labelled(papers, splits, limit, seed)
    texts: tuple[list[str], list[str]] = ([], [])
    if outside is not None:
        texts = read_texts(outside)
    with bar("evaluating") as progress:
        result = run(table, release, engine, candidates, progress.told, outside=texts, kept=kept)
    found = tables(result, training_papers(papers))
    if diagram is not None:
        diagram.write_text(reliability_svg({name: split.reliability for name, split in found.items()}))
    if as_json:
        _print_json(result, found)
    else:
        _print(result, found)


def _print_json(result: Evaluation, found: dict[str, SplitTables]) -> None:
    about = {
        name: getattr(result, name)
        for name in ("release", "engine", "device", "candidates", "unknown_journals", "ms")
    }
    splits = {name: split.as_dict() for name, split in found.items()}
    echo(json_text({**about, "splits": splits}))


def _print(result: Evaluation, found: dict[str, SplitTables]) -> None:
    from xuankan.cli.render import console

    out = console()
    for split in found.values():
        whole = split.whole
        out.print(
            _table(f"{whole.name}: {whole.quality.papers} papers, {result.candidates} candidates", whole)
        )
        for heading, groups in (("field", split.fields), ("training papers of the journal", split.sizes)):
            if len(groups) > 1:
                out.print(_groups(heading, groups))
        _print_reliability(split.reliability)
        if split.fit is not None:
            _print_fit(split.fit)
        out.print(
            f"recall of the first stage {whole.quality.recall:.4f} · {split.rows:,.1f} rows per manuscript\n"
        )
    if result.unknown_journals:
        out.print(f"left out: {result.unknown_journals} papers of journals that the catalogue lacks")
    out.print(f"{result.ms:,.1f} ms a paper on {result.engine} ({result.device})")
    out.print(f"release {result.release}")


def _table(title: str, whole: PaperGroup) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for heading in ("", *_MEASURES.values()):
        table.add_column(heading, justify="right" if heading else "left")
    for name, quality in (("first stage", whole.first_stage), ("ranked", whole.quality)):
        table.add_row(name, *_values(quality))
    table.add_row("95 %", *(_interval(whole.intervals[name]) for name in _MEASURES))
    return table


def _groups(heading: str, groups: Sequence[PaperGroup]) -> Table:
    from rich.table import Table

    table = Table()
    for name in (heading, "papers", *_MEASURES.values(), "MRR 95 %", "first stage's MRR"):
        table.add_column(name, justify="left" if name == heading else "right")
    for group in groups:
        values = (*_values(group.quality), _interval(group.intervals["mrr"]), f"{group.first_stage.mrr:.3f}")
        table.add_row(group.name, str(group.quality.papers), *values)
    return table


def _print_reliability(found: Reliability) -> None:
    """A line of text for each bin: `#` to the share that is right, `|` at the mean score."""
    from xuankan.cli.render import console

    out = console()
    out.print(f"score of the journal on top and how often it is right: calibration error {found.error:.4f}")
    for part in found.bins:
        drawn = list(("#" * round(_BAR * part.right)).ljust(_BAR + 1))
        drawn[round(_BAR * part.probability)] = "|"
        numbers = f"{part.probability:.3f} {part.right:.3f} {part.papers:5d}"
        out.print(f"  {numbers} {''.join(drawn).rstrip()}", markup=False)


def _print_fit(fit: Fit) -> None:
    from xuankan.cli.render import console

    console().print(
        f"fit, against {fit.outside} papers outside: AUROC {fit.auroc:.4f} ({_interval(fit.interval)}); "
        f"{fit.few_inside:.1%} of the split's papers and {fit.few_outside:.1%} of those are said to fit few "
        "journals here"
    )


def _values(quality: Quality) -> list[str]:
    return [f"{getattr(quality, name):.3f}" for name in _MEASURES]


def _interval(limits: Interval) -> str:
    return f"{limits.low:.3f}–{limits.high:.3f}"
