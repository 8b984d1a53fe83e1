"""What options of several commands share. Light: it is imported with the commands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from xuankan.outlets import echo

_F = TypeVar("_F", bound=Callable[..., Any])


def redis_option(
    text: str = "The Redis/Valkey server.", *, default: str | None = "redis://127.0.0.1:6379/0"
) -> Callable[[_F], _F]:
    """`--redis`, given to the command as `url`."""
    return click.option(
        "--redis",
        "url",
        metavar="URL",
        envvar="XUANKAN_REDIS",
        callback=_warn_of_password,
        default=default,
        show_default=default is not None,
        help=f"{text} [env: XUANKAN_REDIS]",
    )


def namespace_option(text: str = "The workers' namespace.") -> Callable[[_F], _F]:
    """`--namespace`."""
    return click.option("--namespace", metavar="NS", default="xuankan", show_default=True, help=text)


def catalogue_option(text: str = "The workers' catalogue.") -> Callable[[_F], _F]:
    """`--catalogue`, given to the command as `catalogue_file`."""
    return click.option(
        "--catalogue",
        "catalogue_file",
        metavar="FILE",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help=f"{text} Default: the packaged one.",
    )


def log_format_option() -> Callable[[_F], _F]:
    """`--log-format`."""
    return click.option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="Format of the logs.",
    )


def check_embedded(ctx: click.Context, embedded: bool) -> None:
    """Refuse `--embedded` beside `--redis`; XUANKAN_REDIS in the environment only yields to it.

    Raises:
        click.UsageError: both were given.
    """
    if embedded and ctx.get_parameter_source("url") is ParameterSource.COMMANDLINE:
        raise click.UsageError("--embedded and --redis cannot be combined")


def _warn_of_password(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Callback of `--redis`: say that others see a password that is given as an argument (`ps`)."""
    if value is None or ("@" not in value and "password=" not in value):
        return value
    if ctx.get_parameter_source(param.name or "") is ParameterSource.COMMANDLINE:
        echo(
            "xuankan: other users of this machine can see the password in --redis (ps, shell history): "
            "pass the URL in the environment variable XUANKAN_REDIS instead",
            err=True,
        )
    return value


references_option = click.option(
    "--references",
    "references",
    metavar="FILE",
    help="The manuscript's reference list, if it is in a file of its own: .bib, .ris, .enw, .nbib, .bbl ...",
)
"""A reference list in a file of its own."""
