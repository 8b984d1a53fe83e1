"""`xuankan model corpus`: papers into the corpus of a release."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from xuankan.outlets import echo, json_text
from xuankan_worker.cli.progress import bar

if TYPE_CHECKING:
    from xuankan_worker.engines import EngineKind

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.option(
    "--papers", "files", required=True, multiple=True, type=_FILE, metavar="FILE",
    help="Papers: .parquet, .csv or .jsonl with title, journal (id, ISSN or title) and any of abstract, "
    "year, doi, arxiv_id, link. May be repeated.",
)  # fmt: skip
@click.option("--catalogue", "catalogue_file", type=_FILE, help="Of the journals; default: the packaged one.")
@click.option(
    "--model", "release", type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Release to start from; default: the packaged one.",
)  # fmt: skip
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory of the new release.",
)
@click.option("--engine", default="auto", show_default=True, type=click.Choice(["auto", "tensorrt", "onnx"]))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def corpus(
    files: tuple[Path, ...],
    catalogue_file: Path | None,
    release: Path | None,
    out: Path,
    engine: EngineKind,
    as_json: bool,
) -> None:
    """Put papers of a catalogue's journals into the corpus of a release, without training.

    Rankings then show them as evidence, and journals that the release was not trained on are ranked by them.
    Papers that the corpus has are passed over. Interrupted, the same command goes on where it was. Engines
    for GPUs must be built again (`xuankan model build`). Needs the extras data, cpu and export.

    \b
    xuankan catalogue import ours.csv --papers ours.parquet -o ours.json.gz
    xuankan model corpus --catalogue ours.json.gz --papers ours.parquet --out release
    xuankan worker run --redis URL --model release --catalogue ours.json.gz
    """  # noqa: D301  # click's mark is a real backspace
    from xuankan.catalogue import Catalogue
    from xuankan.catalogue.paper_tables import PaperTable
    from xuankan_worker.manifest import default_release
    from xuankan_worker.releases.extend import extend

    catalogue = Catalogue.load(catalogue_file) if catalogue_file else Catalogue.default()
    tables = [PaperTable(path, catalogue) for path in files]
    with bar("corpus") as progress:
        done = extend(release or default_release(), out, catalogue, tables, engine, progress.told)
    if as_json:
        echo(json_text({"out": str(out), **asdict(done)}))
        return
    echo(
        f"{out}: release {done.release}, {done.papers:,} papers; {done.added:,} added, of {done.journals:,} "
        f"journals; {done.already_there:,} were there; passed over: {done.unknown:,} of journals that the "
        f"catalogue lacks, {done.untitled:,} without a title"
    )
