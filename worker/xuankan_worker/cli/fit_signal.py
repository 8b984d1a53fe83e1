"""`xuankan model fit-signal`: when a release says that few journals fit."""

from __future__ import annotations

from pathlib import Path

import click

from xuankan.outlets import echo, json_text
from xuankan_worker.cli.extras import needs
from xuankan_worker.cli.progress import bar

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("fit-signal")
@click.argument("release", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--papers", required=True, type=_FILE, help="Parquet table: title, abstract, journal, split.")
@click.option("--split", default="dev", show_default=True, help="Its papers that are not in the corpus.")
@click.option(
    "--outside", required=True, type=_FILE,
    help="Parquet table, title and abstract, of papers that no journal's field covers.",
)  # fmt: skip
@click.option("--catalogue", type=_FILE, help="Catalogue that it ranks; default: the packaged one.")
def fit_signal(release: Path, papers: Path, split: str, outside: Path, catalogue: Path | None) -> None:
    """Teach RELEASE, which must have an encoder, to tell when few journals fit, and write its manifest.

    The encoder reads papers of the catalogue's journals and papers of fields that none covers; a logistic
    regression finds the weights that tell them apart. `xuankan model evaluate --outside` measures the result:
    give it papers of other fields than these. Needs the `data` and `cpu` extras; no torch.
    """
    with needs("data"):
        from xuankan_worker.releases.fit_signal import fit_release
        from xuankan_worker.releases.labelled import read_labelled, read_texts

    inside, others = read_labelled(papers, (split,), None, 0), read_texts(outside)
    with bar("reading") as progress:
        weights = fit_release(release, catalogue, (inside.title, inside.abstract), others, progress.told)
    echo(f"{release}: fit {json_text(weights)}")
