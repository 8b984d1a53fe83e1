"""A backlog through the queue into a file."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from xuankan.backlog.job import Job, JobProgress
from xuankan.backlog.rows import Row
from xuankan.backlog.sources import Backlog, Shard
from xuankan.backlog.writers import Writer, bad_line, open_writer
from xuankan.candidates import Filters
from xuankan.client.options import RankingOptions
from xuankan.client.pipeline import InThread, pipeline
from xuankan.client.producer import Producer
from xuankan.documents.citations import manuscript_of
from xuankan.errors import (
    ManuscriptError,
    RequestConflict,
    RequestError,
    RequestIncompatible,
)

IN_FLIGHT: Final = 128
"""Manuscripts on the queue at a time: two seconds of an H200's work at 100 candidates each."""
_AHEAD: Final = 4
"""So many times `in_flight` outcomes may wait for an earlier one, so that a slow row does not stop others."""
_COMMIT_S: Final = 1.0
_COMMIT_ROWS: Final = 2_000


@dataclass(slots=True)
class _Done:
    request_id: str
    entry: Any = None
    release: str = ""
    bad: bytes = b""


@dataclass(frozen=True, slots=True)
class RerankReport:
    """How a job ended.

    Attributes:
        progress: what it did, earlier runs included.
        bad_path: the rows without a ranking; a file only if there are any.
        was_done: it was done before, so that nothing was done now.
    """

    progress: JobProgress
    bad_path: Path
    was_done: bool


class _Ledger:
    """Outcomes on their way to disk."""

    def __init__(self, job: Job, writer: Writer) -> None:
        self.progress = deepcopy(job.progress)
        self.request_ids: list[str] = []
        self._job, self._writer = job, writer
        self._entries: list[Any] = []
        self._bad: list[bytes] = []
        self._began_s = time.monotonic() - self.progress.seconds
        self._saved_s = time.monotonic()
        self._failed = False

    def add(self, done: _Done) -> None:
        progress = self.progress
        progress.rows += 1
        self.request_ids.append(done.request_id)
        if done.bad:
            progress.bad += 1
            self._bad.append(done.bad)
        else:
            progress.ranked += 1
            progress.releases[done.release] = progress.releases.get(done.release, 0) + 1
            self._entries.append(done.entry)

    @property
    def is_due(self) -> bool:
        return len(self.request_ids) >= _COMMIT_ROWS or time.monotonic() - self._saved_s >= _COMMIT_S

    def save(self) -> list[str]:
        """Put everything on disk: the ids of the requests whose results are there now."""
        if self._failed:
            return []
        self._failed = True  # after half a write the files may hold what does not count
        self.progress.seconds = time.monotonic() - self._began_s
        self._job.commit(self._writer.piece(self._entries), b"".join(self._bad), deepcopy(self.progress))
        self._failed = False
        saved = self.request_ids
        self._entries, self._bad, self.request_ids = [], [], []
        self._saved_s = time.monotonic()
        return saved


def plan(
    backlog: Backlog, out: Path, shard: Shard, options: RankingOptions, catalogue: str
) -> dict[str, Any]:
    """What a job does, as plain values: two jobs of equal plans write the same."""
    return {
        "backlog": {"files": len(backlog.sources), "rows": backlog.total, "blake2b": backlog.digest},
        "columns": dict(backlog.columns.given),
        "shard": f"{shard.index}/{shard.of}",
        "format": out.suffix.lower(),
        "top_k": options.top_k,
        "candidates": options.candidates,
        "filters": asdict(options.filters or Filters()),
        "catalogue": catalogue,
    }


async def rerank(
    producer: Producer,
    backlog: Backlog,
    out: Path,
    options: RankingOptions,
    *,
    shard: Shard | None = None,
    in_flight: int = IN_FLIGHT,
    restart: bool = False,
    watch: Callable[[JobProgress, int], None] | None = None,
) -> RerankReport:
    """Rank the rows of a shard of a backlog that are not ranked yet, and write the rankings in their order.

    A job that was stopped, however, goes on with the row after the last one on disk. Requests have ids that
    follow from job and row, so that one whose ranking was made but not written is not scored again while the
    server keeps its result (an hour).

    Args:
        producer: open, of the catalogue that the workers have.
        backlog: what to rank.
        out: the file to write; the suffix says the format. See `job` for the files beside it.
        options: lane, deadline and what to do while the queue is full are not taken from here.
        shard: which range of the backlog; all of it if not given.
        in_flight: requests on the queue at a time.
        restart: forget what there is of `out`.
        watch: is told how far the job is, and how many rows it has.

    Returns:
        How it ended.

    Raises:
        InputError: see `Job`; a filter that leaves no journal, an unknown journal.
        RequestIncompatible: the workers have another catalogue or tokenizer.
        ServerUnavailable: the server was away for too long. What was ranked is written.
    """
    shard, writer, watch = shard or Shard(), open_writer(out), watch or _unwatched
    options = replace(options, lane="bulk", deadline_s=None, on_full="wait")
    start, stop = shard.bounds(backlog.total)
    job = Job(out, plan(backlog, out, shard, options, producer.catalogue.version), writer, restart=restart)
    try:
        watch(job.progress, stop - start)
        was_done = job.state == "done"
        if job.state == "running":
            rows = InThread(backlog.rows(start + job.progress.rows, stop))
            work = partial(_rank, producer, job.name, writer, options)
            ledger = _Ledger(job, writer)
            try:
                async with (
                    aclosing(
                        pipeline(rows, work, in_flight, ordered=True, held=_AHEAD * in_flight)
                    ) as outcomes,
                    aclosing(_save(outcomes, ledger)) as saves,
                ):
                    async for saved in saves:
                        await producer.release(saved)
                        watch(ledger.progress, stop - start)
            except (RequestIncompatible, RequestConflict):
                job.rename()
                raise
        if job.state != "done":
            await asyncio.to_thread(job.finish)
    finally:
        job.close()
    return RerankReport(job.progress, job.bad_path, was_done)


async def _save(outcomes: AsyncIterator[_Done], ledger: _Ledger) -> AsyncGenerator[list[str]]:
    """Put outcomes on disk now and then, and however this ends; yields the ids of those that are there."""
    try:
        async for done in outcomes:
            ledger.add(done)
            if ledger.is_due:
                saving = asyncio.ensure_future(asyncio.to_thread(ledger.save))
                try:
                    saved = await asyncio.shield(saving)
                finally:
                    await asyncio.wait((saving,))  # also when we are to stop: it must not go on alone
                yield saved
    finally:
        saved = ledger.save()
    yield saved


async def _rank(producer: Producer, job: str, writer: Writer, options: RankingOptions, row: Row) -> _Done:
    request_id = f"{job}-{row.number}"
    if row.reason:
        return _Done(request_id, bad=bad_line(row, "unreadable", row.reason))
    try:
        manuscript = manuscript_of(row.document, producer.catalogue)
        ranking = await producer.rank(manuscript, options, request_id=request_id)
    except ManuscriptError as error:
        return _Done(request_id, bad=bad_line(row, "manuscript", str(error)))
    except RequestIncompatible:
        raise
    except RequestError as error:
        return _Done(request_id, bad=bad_line(row, error.code, str(error)))
    entry = writer.entry(row, ranking.after(row.document.warnings))
    return _Done(request_id, entry, ranking.release)


def _unwatched(progress: JobProgress, total: int) -> None:
    del progress, total
