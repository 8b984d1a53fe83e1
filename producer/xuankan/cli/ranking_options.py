"""How a manuscript is to be ranked: the options that the commands share. Light: imported with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from xuankan import RankingOptions

_F = TypeVar("_F", bound=Callable[..., object])
_COUNT = click.IntRange(1, 10_000)


def asking(command: _F) -> _F:
    """Decorator: the options from `--top-k` to `--subject`; `as_options` reads what they give."""
    for option in reversed(
        (
            click.option(
                "--top-k", type=_COUNT, default=10, show_default=True, help="Number of journals to return."
            ),
            click.option(
                "--candidates",
                type=_COUNT,
                default=100,
                show_default=True,
                help="Number of journals that the model scores; a cheap first stage picks them.",
            ),
            click.option(
                "--journal",
                "journals",
                metavar="ID",
                multiple=True,
                help="Score this journal; can be repeated.",
            ),
            click.option("--open-access", is_flag=True, help="Only open-access journals."),
            click.option(
                "--max-apc-usd",
                type=click.FloatRange(0),
                metavar="N",
                help="Open-access publication costs at most N.",
            ),
            click.option(
                "--language",
                "languages",
                metavar="L",
                multiple=True,
                help="Publishes in this language, such as `en`; can be repeated.",
            ),
            click.option(
                "--publisher",
                "publishers",
                metavar="P",
                multiple=True,
                help="Part of the publisher's name; can be repeated.",
            ),
            click.option(
                "--subject",
                "subjects",
                metavar="S",
                multiple=True,
                help="Part of a subject; can be repeated.",
            ),
        )
    ):
        command = option(command)
    return command


def as_options(asked: dict[str, Any], deadline_s: float | None = None) -> RankingOptions:
    """What the options of `asking` gave, and a deadline.

    Raises:
        InputError: a filter that makes no sense.
    """
    from xuankan import Filters, RankingOptions

    return RankingOptions(
        top_k=asked["top_k"],
        candidates=list(asked["journals"]) or asked["candidates"],
        filters=Filters(
            asked["open_access"] or None,
            asked["max_apc_usd"],
            asked["languages"],
            asked["publishers"],
            asked["subjects"],
        ),
        deadline_s=deadline_s,
    )
