"""`xuankan recommend`: rank the journals that fit a manuscript."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from xuankan.cli.options import catalogue_option, check_embedded, namespace_option, redis_option
from xuankan.cli.ranking_options import as_options, asking

if TYPE_CHECKING:
    from collections.abc import Iterable

    from xuankan import Outcome, RankingOptions
    from xuankan.client.bulk import Given

_AT_ONCE = 16


@click.command()
@click.argument("file", type=click.File("rb"), required=False)
@click.option("--title", metavar="TEXT", help="The title, instead of a FILE.")
@click.option("--abstract", metavar="TEXT", help="The abstract, instead of a FILE.")
@asking
@redis_option("Use the workers of this Redis/Valkey server: redis://, rediss:// or unix://.", default=None)
@click.option(
    "--embedded", is_flag=True, help="Start a private server and worker. The default without --redis."
)
@namespace_option()
@catalogue_option()
@click.option(
    "--timeout-s",
    type=click.FloatRange(min=0, min_open=True),
    default=120.0,
    show_default=True,
    help="Give up on a manuscript after this many seconds.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object per line, one for each manuscript."
)
def recommend(
    file: BinaryIO | None,
    title: str | None,
    abstract: str | None,
    url: str | None,
    embedded: bool,
    namespace: str,
    catalogue_file: Path | None,
    timeout_s: float,
    as_json: bool,
    **asked: Any,
) -> None:
    """Rank the journals that fit a manuscript.

    FILE is plain text (the first line is the title, the rest the abstract), .json (an object with title,
    abstract and keywords, or a list of them) or .jsonl (such an object a line); - reads standard input.

    Filters keep only journals for which the fact is known. Without --redis, a private server and worker are
    started for this command, which takes a few seconds and needs the extra `cpu`.

    \b
    xuankan recommend paper.txt
    xuankan recommend --title "Flow past a cylinder" --abstract "We study ..." --open-access
    xuankan recommend papers.jsonl --redis redis://queue.example.org --json > rankings.jsonl
    """  # noqa: D301  # click's mark is a real backspace
    if (file is None) == (title is None and abstract is None):
        raise click.UsageError("give either a FILE or --title and --abstract")
    check_embedded(click.get_current_context(), embedded)

    from xuankan import Manuscript
    from xuankan.cli.inputs import read_manuscripts
    from xuankan.cli.running import run

    given: Iterable[Given]
    given = [Manuscript(title or "", abstract or "")] if file is None else read_manuscripts(file, file.name)
    options = as_options(asked, deadline_s=timeout_s)
    ended_well = run(
        _recommend(given, options, None if embedded else url, namespace, catalogue_file, as_json)
    )
    click.get_current_context().exit(0 if ended_well else 4)


async def _recommend(
    given: Iterable[Given],
    options: RankingOptions,
    url: str | None,
    namespace: str,
    catalogue_file: Path | None,
    as_json: bool,
) -> bool:
    """Rank all and show them in their order, a few at a time; whether every one has a ranking."""
    from contextlib import aclosing
    from itertools import chain

    from xuankan import Manuscript, Producer, Ranking
    from xuankan.cli.running import given_catalogue, served
    from xuankan.client.bulk import rank_each

    catalogue, worker_options = given_catalogue(catalogue_file)
    manuscripts, ended_well = iter(given), True
    first = next(manuscripts, None)  # unusable input is said before anything is started
    if first is None:
        return True
    async with (
        served(url, namespace, worker_options) as server_url,
        Producer(server_url, namespace=namespace, catalogue=catalogue, server_timeout_s=5.0) as producer,
    ):

        async def rank(manuscript: Manuscript) -> Ranking:
            return await producer.rank(manuscript, options)

        async with aclosing(
            rank_each(rank, chain((first,), manuscripts), _AT_ONCE, ordered=True)
        ) as outcomes:
            async for outcome in outcomes:
                ended_well &= _show(outcome, as_json)
    return ended_well


def _show(outcome: Outcome, as_json: bool) -> bool:
    from xuankan import Manuscript
    from xuankan.cli.render import console, error_json, ranking_json, ranking_view
    from xuankan.errors import RequestExpired, WaitTimeout

    given = outcome.manuscript
    title = given.title if isinstance(given, Manuscript) else str(given.get("title") or "")
    if outcome.ranking is not None:
        if as_json:
            click.echo(ranking_json(title, outcome.ranking))
        else:
            console().print(ranking_view(title, outcome.ranking))
        return True
    error = outcome.error
    assert error is not None
    hint = ""
    if isinstance(error, RequestExpired | WaitTimeout):
        hint = ". Is a worker running? See `xuankan worker status`, or raise --timeout-s"
    click.echo(f"xuankan: manuscript {outcome.index + 1}: {error}{hint}", err=True)
    if as_json:
        click.echo(error_json(title, error))
    return False
