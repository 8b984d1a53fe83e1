"""From a snapshot to a table of journals and a table of papers. Needs the `data` extra.

Memory does not grow with the snapshot: of each paper in turn only number, year and journal are held, and of
these no more than what may still be among its journal's newest.
"""

from __future__ import annotations

import json
import multiprocessing
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xuankan.catalogue.openalex.newest import Newest
from xuankan.catalogue.openalex.papers_table import PapersTable, rows_of
from xuankan.catalogue.openalex.parts import about, convert, keys, part_file
from xuankan.catalogue.openalex.records import WorkFilter, journal_of
from xuankan.catalogue.openalex.snapshot import parts, records
from xuankan.catalogue.papers import Progress
from xuankan.errors import CatalogueError

JOURNALS, PAPERS, PARTS, SETTINGS = "journals.jsonl", "papers.parquet", "parts", "settings.json"
LANGUAGE_SHARE = 0.1
"""A journal publishes in a language in which at least this share of its taken papers is."""


@dataclass(frozen=True, slots=True)
class OpenAlexReport:
    """What an import found.

    Attributes:
        files: of works.
        records: in them; `malformed` of these are no JSON objects.
        taken: papers that pass the filter.
        journals, papers: written.
        small_journals: left out, because fewer papers of theirs pass the filter than asked for.
    """

    files: int
    records: int
    malformed: int
    taken: int
    journals: int
    papers: int
    small_journals: int


def import_snapshot(
    snapshot: Path,
    out: Path,
    wanted: WorkFilter,
    papers: int,
    minimum: int,
    processes: int,
    progress: Progress,
) -> OpenAlexReport:
    """Write `journals.jsonl` and `papers.parquet`. An interrupted import goes on where it was.

    Args:
        snapshot: see `snapshot.parts`.
        out: directory; `parts` in it holds what was read of each file of works.
        wanted: which works are taken.
        papers: of a journal, its newest, at most; among those of one year a random choice, always the same.
        minimum: journals with fewer papers are left out.
        processes: that read files of works side by side.
        progress: told as files are read and papers written.

    Raises:
        CatalogueError: the snapshot cannot be read, `out` cannot be written or belongs to an import with
            other settings, or no paper is left.
    """
    files = parts(snapshot, "works")
    folder = _opened(out, snapshot, wanted)
    journals = _journals(parts(snapshot, "sources"), progress)
    _read_works(files, folder, wanted, frozenset(journals), processes, progress)
    done = [part_file(folder, path) for path in files]
    for stale in set(folder.glob("*.parquet")) - set(done):
        stale.unlink()  # of a file that the snapshot no longer has: its works have moved to newer ones

    total: Counter[str] = Counter()
    newest, languages = Newest(papers), Counter[tuple[str, str]]()
    for number, part in enumerate(done):
        progress("choosing papers", number / len(done))
        report, others = about(part)
        total.update(asdict(report))
        for row in others:
            journals.setdefault(row["openalex"], row)
        found = keys(part)
        newest.add(number, found)
        languages.update(zip(found.source, found.language, strict=True))
    kept = newest.chosen(minimum)
    if not kept.sources:
        raise CatalogueError(
            f"no journal has {minimum} papers that pass the filter ({total['taken']:,} of "
            f"{total['records']:,} works do): loosen it"
        )
    with PapersTable(out / PAPERS) as table:
        for number, part in enumerate(done):
            progress("writing papers", number / len(done))
            for row in rows_of(part, kept.of_part(number)):
                table.add(row, journals[row["source"]]["issns"][0])
    _write_journals(out / JOURNALS, [journals[source] for source in sorted(kept.sources)], languages)
    return OpenAlexReport(
        files=len(files),
        records=total["records"],
        malformed=total["malformed"],
        taken=total["taken"],
        journals=len(kept.sources),
        papers=table.papers,
        small_journals=kept.small,
    )


def _opened(out: Path, snapshot: Path, wanted: WorkFilter) -> Path:
    settings = json.dumps({"snapshot": str(snapshot.resolve()), **asdict(wanted)}, indent=2) + "\n"
    path = out / SETTINGS
    try:
        (out / PARTS).mkdir(parents=True, exist_ok=True)
        if path.exists() and path.read_text() != settings:
            raise CatalogueError(
                f"{out} holds an import with other settings ({path}): repeat those, or give another directory"
            )
        path.write_text(settings)
    except OSError as error:
        raise CatalogueError(f"{out} cannot be written: {error.strerror or error}") from error
    return out / PARTS


def _journals(files: Sequence[Path], progress: Progress) -> dict[str, dict[str, Any]]:
    """Rows of journals by OpenAlex id; of a source in several files, what the latest says."""
    found: dict[str, dict[str, Any]] = {}
    for number, path in enumerate(files):
        progress("reading sources", number / len(files))
        for record in records(path):
            if record is not None and (row := journal_of(record)) is not None:
                found.setdefault(row["openalex"], row)
    return found


_known: frozenset[str] = frozenset()
"""In a process that reads files: the journals, given once and not with each file."""


def _begin(journals: frozenset[str]) -> None:
    global _known  # the way of process pools to share what all tasks need
    _known = journals


def _convert(path: Path, out: Path, wanted: WorkFilter) -> None:
    convert(path, out, wanted, _known)


def _read_works(
    files: Sequence[Path],
    folder: Path,
    wanted: WorkFilter,
    journals: frozenset[str],
    processes: int,
    progress: Progress,
) -> None:
    todo = [path for path in files if not part_file(folder, path).exists()]
    size = {path: path.stat().st_size for path in todo}
    read, all_bytes = 0, max(sum(size.values()), 1)
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, spawn, initializer=_begin, initargs=(journals,))
    try:
        tasks = {pool.submit(_convert, path, part_file(folder, path), wanted): path for path in todo}
        for task in as_completed(tasks):
            task.result()
            read += size[tasks[task]]
            progress("reading works", read / all_bytes)
    finally:
        pool.shutdown(cancel_futures=True)


def _write_journals(path: Path, rows: Sequence[dict[str, Any]], languages: Counter[tuple[str, str]]) -> None:
    papers: Counter[str] = Counter()
    for (source, _), count in languages.items():
        papers[source] += count
    spoken: dict[str, list[str]] = {}
    for (source, language), count in languages.most_common():
        if len(language) == 2 and count >= LANGUAGE_SHARE * papers[source]:  # ISO 639-1
            spoken.setdefault(source, []).append(language)
    with path.open("w") as file:
        for row in rows:
            row = {**row, "languages": spoken.get(row["openalex"], [])}
            file.write(json.dumps({k: v for k, v in row.items() if v != []}, ensure_ascii=False) + "\n")
