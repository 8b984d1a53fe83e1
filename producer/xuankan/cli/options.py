"""What options of several commands share. Light: it is imported with the commands."""

from __future__ import annotations

import click
from click.core import ParameterSource


def warn_of_password(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Callback of `--redis`: say that others see a password that is given as an argument (`ps`)."""
    if value is None or ("@" not in value and "password=" not in value):
        return value
    if ctx.get_parameter_source(param.name or "") is ParameterSource.COMMANDLINE:
        click.echo(
            "xuankan: other users of this machine can see the password in --redis (ps, shell history): "
            "give the URL by the environment variable XUANKAN_REDIS instead",
            err=True,
        )
    return value
