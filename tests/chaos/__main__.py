"""`python -m tests.chaos --seed N --requests N`: see `make chaos`."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from pathlib import Path
from typing import get_args

import click
from rich.console import Console

from tests.chaos.driver import Run
from tests.chaos.plan import Plan, draw
from tests.chaos.servers import Kind


@click.command()
@click.option("--seed", default=1, show_default=True, help="Decides what is asked and what goes wrong.")
@click.option("--requests", default=20_000, show_default=True, type=click.IntRange(50))
@click.option("--server", type=click.Choice(get_args(Kind)), default="valkey", show_default=True)
@click.option(
    "--replay",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The log of an earlier run: do the same.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("chaos-out"),
    show_default=True,
    help="Where logs, the servers' data and report.json go.",
)
def main(seed: int, requests: int, server: Kind, replay: Path | None, out: Path) -> None:
    """Break everything while requests run, then account for each of them; exits 1 unless all is well."""
    plan = Plan.read(replay.read_text().splitlines()) if replay else draw(seed, requests)
    directory = out / f"{server}-{plan.seed}-{plan.requests}"
    if directory.exists():
        shutil.rmtree(directory)
    report = asyncio.run(Run(plan, server, directory.resolve()).run())
    (directory / "report.json").write_text(json.dumps(report.as_json(), indent=2) + "\n")
    report.show(Console())
    click.echo(f"log and report: {directory}")
    sys.exit(not report.good)


if __name__ == "__main__":
    main()
