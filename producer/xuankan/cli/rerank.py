"""`xuankan rerank`: rank a whole backlog of manuscripts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xuankan.cli.options import catalogue_option, namespace_option, redis_option
from xuankan.cli.ranking_options import as_options, asking
from xuankan.outlets import echo

if TYPE_CHECKING:
    from xuankan import RankingOptions
    from xuankan.backlog.rerank import RerankReport
    from xuankan.backlog.sources import Backlog, Shard

_SERVER_TIMEOUT_S = 300.0


@click.command()
@click.argument(
    "backlog", nargs=-1, required=True, metavar="BACKLOG...", type=click.Path(exists=True, path_type=Path)
)
@click.option(
    "--out",
    metavar="FILE",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where the rankings go: .jsonl, .csv or .parquet.",
)
@click.option(
    "--column",
    "columns",
    metavar="FIELD=NAME",
    multiple=True,
    help="Column for id, title, abstract or keywords, such as title=Titel. Usual names are recognized.",
)
@click.option(
    "--shard",
    metavar="K/N",
    default="0/1",
    help="Rank only the K-th of N ranges, counting from 0, as one of N processes.",
)
@click.option("--restart", is_flag=True, help="Start over and replace FILE instead of resuming.")
@click.option(
    "--in-flight",
    type=click.IntRange(1, 10_000),
    default=128,
    show_default=True,
    help="Manuscripts on the queue at a time; a few seconds of work for all workers.",
)
@asking
@redis_option(
    "Use the workers of this Redis/Valkey server; without one, a private server and worker are started.",
    default=None,
)
@namespace_option()
@catalogue_option()
def rerank(
    backlog: tuple[Path, ...],
    out: Path,
    columns: tuple[str, ...],
    shard: str,
    restart: bool,
    in_flight: int,
    url: str | None,
    namespace: str,
    catalogue_file: Path | None,
    **asked: Any,
) -> None:
    """Rank a whole backlog: files of manuscripts in, a file of rankings out, in the same order.

    BACKLOG is files of any kind that `xuankan read` shows, or directories of them: tables, bibliographies,
    papers. A row has a title, an abstract or both, and may have keywords, an id and references.

    Run the same command again to resume a job that was stopped or killed; a completed job stays completed.
    Rows without a ranking go to FILE.bad.jsonl with the reason; correct them there and rank that file as a
    backlog of its own. FILE.job.json records the progress of the job, and finally its summary.

    \b
    xuankan rerank submissions.csv --out ranked.csv --redis redis://queue.example.org
    xuankan rerank library/ --out ranked.parquet --open-access --max-apc-usd 2000
    xuankan rerank all.parquet --out part-3.jsonl --shard 3/16     # on each of 16 machines, K = 0 to 15
    """  # noqa: D301  # click's mark is a real backspace
    from xuankan.backlog.sources import Backlog, Shard, check_apart
    from xuankan.backlog.writers import open_writer
    from xuankan.cli.running import run
    from xuankan.documents import Columns

    open_writer(out)
    check_apart(backlog, out)
    options = as_options(asked)
    range_ = Shard.parse(shard)
    with Backlog.open(backlog, Columns.parse(columns)) as rows:
        run(_rerank(rows, out, options, range_, in_flight, restart, url, namespace, catalogue_file))


async def _rerank(
    backlog: Backlog,
    out: Path,
    options: RankingOptions,
    shard: Shard,
    in_flight: int,
    restart: bool,
    url: str | None,
    namespace: str,
    catalogue_file: Path | None,
) -> None:
    import asyncio

    from xuankan import Producer
    from xuankan.backlog.rerank import rerank as rank_all
    from xuankan.cli.job_progress import Watched
    from xuankan.cli.running import given_catalogue, served
    from xuankan.errors import ServerUnavailable, XuankanError

    given = given_catalogue(catalogue_file)
    with Watched() as watched:
        try:
            async with (
                served(url, namespace, given.worker_options) as server_url,
                Producer(
                    server_url,
                    namespace=namespace,
                    catalogue=given.catalogue,
                    first_stage=given.first_stage,
                    server_timeout_s=_SERVER_TIMEOUT_S,
                ) as producer,
            ):
                report = await rank_all(
                    producer,
                    backlog,
                    out,
                    options,
                    shard=shard,
                    in_flight=in_flight,
                    restart=restart,
                    watch=watched.show,
                )
        except (asyncio.CancelledError, XuankanError) as error:
            watched.stop()
            if watched.began:
                passing = isinstance(error, asyncio.CancelledError | ServerUnavailable)
                goes_on = "; run the same command to resume from there" if passing else ""
                echo(f"stopped after {watched.rows:,} of {watched.total:,} rows{goes_on}", err=True)
            raise
    echo(_summary(report, out), err=True)


def _summary(report: RerankReport, out: Path) -> str:
    done = report.progress
    if report.was_done:
        return f"{out} is already complete: {done.ranked:,} rankings, {done.bad:,} without one"
    pace = f", {done.rows / done.seconds:,.1f} a second" if done.seconds else ""
    said = f"{out}: {done.ranked:,} rankings in {done.seconds:,.1f} s{pace}"
    if len(done.releases) > 1:
        said += f"\nthey are of {len(done.releases)} releases, because the workers changed during the job: "
        said += ", ".join(f"{release} {count:,}" for release, count in done.releases.items())
    if done.bad:
        said += f"\n{report.bad_path}: {done.bad:,} without a ranking, with the reason"
    return said
