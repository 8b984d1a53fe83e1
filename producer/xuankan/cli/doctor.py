"""`xuankan doctor`: checks a deployment and suggests fixes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from xuankan.cli.options import catalogue_option, namespace_option, redis_option
from xuankan.outlets import echo, json_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xuankan.doctor.findings import Finding, Role

_MARKS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "failure": ("✗", "red"), "unknown": ("?", "dim")}


@click.command()
@redis_option("The Redis/Valkey server, with the user to check as.")
@namespace_option()
@click.option(
    "--as",
    "role",
    type=click.Choice(["producer", "worker", "operator"]),
    help="Role that this machine and user must be able to fill. Default: report what they can do.",
)
@click.option(
    "--model",
    "release",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The release that a worker here will serve. Default: the packaged one.",
)
@catalogue_option("The catalogue in use.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
def doctor(
    url: str,
    namespace: str,
    role: Role | None,
    release: Path | None,
    catalogue_file: Path | None,
    as_json: bool,
) -> None:
    """Check server, users, persistence, catalogue, release, engine and GPU; suggest fixes.

    Changes nothing and shows no manuscript. Exit code 1 if something is broken or can lose requests.
    """
    from xuankan.doctor.examine import examine
    from xuankan.protocol.keys import Keys

    found = examine(url, Keys(namespace), role, release, catalogue_file)
    if as_json:
        for one in found:
            echo(json_text(one.as_dict()))
    else:
        _print(found)
    click.get_current_context().exit(any(one.state == "failure" for one in found))


def _print(found: Sequence[Finding]) -> None:
    from rich.table import Table
    from rich.text import Text

    from xuankan.cli.render import console

    out = console()
    for area in dict.fromkeys(one.area for one in found):
        table = Table.grid(padding=(0, 1))
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, min_width=14)
        table.add_column()
        for one in found:
            if one.area != area:
                continue
            mark, style = _MARKS[one.state]
            text = Text(one.fact)
            if one.remedy:
                text.append(f"\n→ {one.remedy}", style="bold" if one.state == "failure" else "")
            table.add_row(Text(f"  {mark}", style=style), Text(one.name, style=style), text)
        out.print(Text(area, style="bold"))
        out.print(table)
    failures = sum(one.state == "failure" for one in found)
    warnings = sum(one.state == "warning" for one in found)
    out.print(Text(_summary(failures, warnings), style="bold red" if failures else "bold"))


def _summary(failures: int, warnings: int) -> str:
    if not failures and not warnings:
        return "no problems found"
    counts = ((failures, "failure"), (warnings, "warning"))
    return ", ".join(f"{count} {what}{'' if count == 1 else 's'}" for count, what in counts if count)
