"""`xuankan model fuse | publish`: from a training run to a release."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from xuankan.outlets import echo, json_text
from xuankan_worker.cli.progress import bar
from xuankan_worker.cli.source import commit

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_EXISTING = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.argument("run", type=_EXISTING)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def fuse(run: Path, as_json: bool) -> None:
    """Fit the weights of the ranking's parts on dev, for a RUN of `xuankan model train`.

    Prints how good the fused ranking is on each split that the run has scored, and on dev without each part,
    and writes RUN/fusion.json, which `xuankan model publish` reads. Takes seconds.
    """
    from xuankan_worker.releases.run_fusion import fuse as fit
    from xuankan_worker.releases.run_fusion import shown

    found = fit(run)
    found.save(run)
    echo(json_text(asdict(found)) if as_json else "\n".join(shown(found)))


@click.command()
@click.argument("run", type=_EXISTING)
@click.option("--data", "data_path", required=True, type=_FILE, help="What the run was trained on.")
@click.option("--papers", required=True, type=_FILE, help="The table that these data were prepared from.")
@click.option("--name", required=True, help="Of the release.")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Its directory.")
@click.option("--catalogue", type=_FILE, help="Catalogue that it was trained for; default: the packaged one.")
@click.option("--samples", type=click.IntRange(50), default=300, show_default=True,
              help="Manuscripts that INT8 is calibrated with.")  # fmt: skip
@click.option("--float32", "as_float", is_flag=True, help="Do not quantize: a release to compare with.")
def publish(
    run: Path,
    data_path: Path,
    papers: Path,
    name: str,
    out: Path,
    catalogue: Path | None,
    samples: int,
    as_float: bool,
) -> None:
    """Make a release of a RUN of `xuankan model train` that `xuankan model fuse` has fused.

    Writes the encoder's graph with its corpus in it, in INT8 for CPUs, the corpus's titles and links, and a
    manifest: what it was made from, the weights of the fusion, its figures, and the hashes that a worker
    checks. Needs the extras `export`, `cpu` and `data`, and no GPU.
    """
    from xuankan.catalogue import Catalogue
    from xuankan_worker.releases.publish import publish as make_release
    from xuankan_worker.releases.training_data import TrainingData

    with bar("publishing") as progress:
        manifest = make_release(
            name,
            run,
            TrainingData.load(data_path),
            papers,
            Catalogue.load(catalogue) if catalogue else Catalogue.default(),
            out,
            commit() or "",
            None if as_float else samples,
            progress.told,
        )
    echo(f"{out}: release {manifest.name}, fingerprint {manifest.fingerprint}")
