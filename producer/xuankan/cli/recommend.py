"""`xuankan recommend`: rank the journals that fit a manuscript."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xuankan.cli.options import (
    catalogue_option,
    check_embedded,
    namespace_option,
    redis_option,
    references_option,
)
from xuankan.cli.ranking_options import as_options, asking
from xuankan.outlets import echo

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from xuankan import Outcome, Producer, RankingOptions
    from xuankan.documents import Document, Problem
    from xuankan.documents.confined import ConfinedReaders

_AT_ONCE = 16


@click.command()
@click.argument("file", type=click.Path(allow_dash=True), required=False)
@references_option
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
    file: str | None,
    title: str | None,
    abstract: str | None,
    references: str | None,
    url: str | None,
    embedded: bool,
    namespace: str,
    catalogue_file: Path | None,
    timeout_s: float,
    as_json: bool,
    **asked: Any,
) -> None:
    """Rank the journals that fit a manuscript.

    FILE is a paper (PDF, Word, LaTeX, text with the title first) or a list of records (BibTeX, RIS, CSV, JSON
    and others; `xuankan read` shows what a file holds); - reads standard input.

    Filters keep only journals for which the fact is known. Without --redis, a private server and worker are
    started for this command, which takes a few seconds and needs the extra `cpu`.

    \b
    xuankan recommend paper.pdf --references refs.bib
    xuankan recommend --title "Flow past a cylinder" --abstract "We study ..." --open-access
    xuankan recommend papers.jsonl --redis redis://queue.example.org --json > rankings.jsonl
    """  # noqa: D301  # click's mark is a real backspace
    if (file is None) == (title is None and abstract is None):
        raise click.UsageError("give either a FILE or --title and --abstract")
    check_embedded(click.get_current_context(), embedded)

    from xuankan.cli.running import run
    from xuankan.documents.confined import ConfinedReaders

    options = as_options(asked, deadline_s=timeout_s)
    with ConfinedReaders() as readers:
        given = _given(title, abstract, references) if file is None else _read(file, references, readers)
        ended_well = run(
            _recommend(given, options, None if embedded else url, namespace, catalogue_file, as_json)
        )
    click.get_current_context().exit(0 if ended_well else 4)


def _given(title: str | None, abstract: str | None, references: str | None) -> Iterator[Document | Problem]:
    from xuankan.cli.inputs import beside
    from xuankan.documents import Document

    yield beside(references)(Document(title or "", abstract or ""), False)


def _read(name: str, references: str | None, readers: ConfinedReaders) -> Iterator[Document | Problem]:
    """A file's documents.

    Raises:
        Unreadable: nothing can be had of the file.
    """
    from xuankan.cli.inputs import beside, given_file, records_of
    from xuankan.documents import Problem
    from xuankan.errors import Unreadable

    file, put = given_file(name), beside(references)
    opened = readers.open(file)
    for found in records_of(opened):
        if isinstance(found, Problem) and not opened.kind.is_list:
            raise Unreadable(file.name, found.problem)
        yield put(found, opened.kind.is_list)


async def _recommend(
    given: Iterable[Document | Problem],
    options: RankingOptions,
    url: str | None,
    namespace: str,
    catalogue_file: Path | None,
    as_json: bool,
) -> bool:
    """Rank all and show them in their order, a few at a time; whether every one has a ranking."""
    from contextlib import aclosing
    from itertools import chain, count

    from xuankan import Producer
    from xuankan.cli.running import given_catalogue, served
    from xuankan.client.pipeline import pipeline

    given_journals = given_catalogue(catalogue_file)
    documents, ended_well, numbers = iter(given), True, count()
    first = next(documents, None)  # unusable input is said before anything is started
    if first is None:
        return True
    async with (
        served(url, namespace, given_journals.worker_options) as server_url,
        Producer(
            server_url,
            namespace=namespace,
            catalogue=given_journals.catalogue,
            first_stage=given_journals.first_stage,
            server_timeout_s=5.0,
        ) as producer,
    ):

        async def work(one: Document | Problem) -> Outcome:
            return await _rank_one(producer, options, next(numbers), one)

        async with aclosing(pipeline(chain((first,), documents), work, _AT_ONCE, ordered=True)) as outcomes:
            async for outcome in outcomes:
                ended_well &= _show(outcome, as_json)
    return ended_well


async def _rank_one(
    producer: Producer, options: RankingOptions, index: int, one: Document | Problem
) -> Outcome:
    from xuankan import Outcome, XuankanError
    from xuankan.documents import Problem
    from xuankan.documents.citations import manuscript_of
    from xuankan.errors import ServerUnavailable, Unreadable

    if isinstance(one, Problem):
        return Outcome(index, {}, error=Unreadable(f"line {one.line}", one.problem))
    given = {"title": one.title, "abstract": one.abstract, "keywords": one.keywords}
    try:
        ranking = await producer.rank(manuscript_of(one, producer.catalogue), options)
    except ServerUnavailable:
        raise
    except XuankanError as error:
        return Outcome(index, given, error=error)
    return Outcome(index, given, ranking=ranking.after(one.warnings))


def _show(outcome: Outcome, as_json: bool) -> bool:
    from xuankan import Manuscript
    from xuankan.cli.render import console, error_json, ranking_json, ranking_view
    from xuankan.errors import RequestExpired, WaitTimeout

    given = outcome.manuscript
    title = given.title if isinstance(given, Manuscript) else str(given.get("title") or "")
    if outcome.ranking is not None:
        if as_json:
            echo(ranking_json(title, outcome.ranking))
        else:
            console().print(ranking_view(title, outcome.ranking))
        return True
    error = outcome.error
    assert error is not None
    hint = ""
    if isinstance(error, RequestExpired | WaitTimeout):
        hint = ". Is a worker running? See `xuankan worker status`, or raise --timeout-s"
    echo(f"xuankan: manuscript {outcome.index + 1}: {error}{hint}", err=True)
    if as_json:
        echo(error_json(title, error))
    return False
