"""A job's files: what counts after a crash, in every format, and which jobs are taken up."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq  # pyright: ignore[reportMissingTypeStubs]  # it has none
import pytest

from xuankan.backlog.job import Job, JobProgress
from xuankan.backlog.rows import Row
from xuankan.backlog.sources import check_apart
from xuankan.backlog.writers import bad_line, open_writer
from xuankan.client.rankings import Ranking, RankingTimings
from xuankan.documents import Document
from xuankan.errors import InputError
from xuankan.protocol.ranked import EvidencePaper, RankedJournal

PLAN: Mapping[str, Any] = {"backlog": ["x"], "filters": {"languages": ("en",)}, "top_k": 10}
FACTS: Mapping[str, Any] = {
    "id": "a",
    "title": "Ärzte, “heute”",
    "publisher": None,
    "issns": ["1234-5679", "2345-6789"],
    "open_access": "gold",
    "apc_usd": 1200.0,
    "subjects": ["surgery"],
    "homepage": "https://example.org",
    "quartile": "Q1",
}


PAPERS = (
    EvidencePaper("=Cells", 2016, "https://doi.org/10.1/x", 0.75),
    EvidencePaper("Organs", 2012, None, 0.5),
)


def row(number: int, **fields: Any) -> Row:
    document = Document(title=f"=1+{number}", identifier=f"m{number}", **fields)
    return Row(number, "x.csv", number + 1, document)


def ranking(number: int) -> Ranking:
    places = tuple(
        RankedJournal(
            *(rank, f"j{number}-{rank}", 1 / rank, 0.5, 0.25, 0.25, FACTS), nearness=0.5, evidence=PAPERS
        )
        for rank in (1, 2)
    )
    timings = RankingTimings(None, 0, 0, 0, 0, 0, None)
    return Ranking(f"r{number}", places, 100, "release-1", "c", ("short",), timings, "w", 1, 24, 0.75)


def commit(job: Job, out: Path, numbers: range) -> None:
    """Rank these rows; every third is bad."""
    writer = open_writer(out)
    bad = [number for number in numbers if number % 3 == 0]
    entries = [writer.entry(row(n), ranking(n)) for n in numbers if n not in bad]
    before = job.progress
    progress = JobProgress(before.rows + len(numbers), before.ranked + len(entries), before.bad + len(bad))
    job.commit(writer.piece(entries), b"".join(bad_line(row(n), "code", "reason") for n in bad), progress)


def read(out: Path) -> list[tuple[int, str]]:
    """Row and journals of what a file holds."""
    if out.suffix == ".parquet":
        reader: Any = pq
        found = reader.read_table(out).to_pylist()
    elif out.suffix == ".jsonl":
        found = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    else:
        flat = list(csv.DictReader(io.StringIO(out.read_text("utf-8-sig"), newline="")))
        return [
            (int(a["row"]), f"{a['journal']} {b['journal']}") for a, b in zip(*[iter(flat)] * 2, strict=True)
        ]
    return [(one["row"], " ".join(place["id"] for place in one["journals"])) for one in found]


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_what_was_not_committed_is_cut_off_and_the_rest_goes_on(tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"ranked.{suffix}"
    first = Job(out, PLAN, open_writer(out))
    commit(first, out, range(1, 6))
    name = first.name
    first.close()  # killed
    for half in (tmp_path / f"ranked.{suffix}.part", tmp_path / f"ranked.{suffix}.bad.jsonl"):
        with half.open("ab") as file:
            file.write(b'{"row": 6, "half')
    again = Job(out, PLAN, open_writer(out))
    assert (again.name, again.state, again.progress.rows, again.progress.bad) == (name, "running", 5, 1)
    commit(again, out, range(6, 9))
    again.finish()
    again.close()
    wanted = [number for number in range(1, 9) if number % 3]
    assert read(out) == [(number, f"j{number}-1 j{number}-2") for number in wanted]
    bad = [json.loads(line) for line in (tmp_path / f"ranked.{suffix}.bad.jsonl").read_text().splitlines()]
    assert [(one["row"], one["reason"], one["title"]) for one in bad] == [
        (3, "reason", "=1+3"),
        (6, "reason", "=1+6"),
    ]
    assert not (tmp_path / f"ranked.{suffix}.part").exists()
    done = Job(out, PLAN, open_writer(out))
    assert (done.state, done.progress.ranked) == ("done", 6)
    done.close()


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_killed_while_it_finishes_it_finishes_later(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / f"ranked.{suffix}"
    job = Job(out, PLAN, open_writer(out))
    commit(job, out, range(1, 3))

    class Killed(BaseException):
        pass

    def die(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", die)  # after the output is there, before the job says so
        with pytest.raises(Killed):
            job.finish()
    job.close()
    again = Job(out, PLAN, open_writer(out))
    if again.state != "done":
        again.finish()
    again.close()
    assert read(out) == [(1, "j1-1 j1-2"), (2, "j2-1 j2-2")]
    assert json.loads(Path(f"{out}.job.json").read_bytes())["state"] == "done"


def test_csv_cells_are_no_formulas_and_lists_are_readable(tmp_path: Path) -> None:
    out = tmp_path / "ranked.csv"
    job = Job(out, PLAN, open_writer(out))
    commit(job, out, range(1, 2))
    job.finish()
    job.close()
    first = next(csv.DictReader(io.StringIO(out.read_text("utf-8-sig"), newline="")))
    assert first == {
        "row": "1",
        "id": "m1",
        "source": "x.csv",
        "title": "'=1+1",
        "rank": "1",
        "score": "1",
        "journal": "j1-1",
        "journal_title": "Ärzte, “heute”",
        "journal_publisher": "",
        "journal_issns": "1234-5679; 2345-6789",
        "journal_open_access": "gold",
        "journal_apc_usd": "1200.0",
        "journal_subjects": "surgery",
        "journal_homepage": "https://example.org",
        "nearness": "0.5",
        "papers": "'=Cells (2016) https://doi.org/10.1/x; Organs (2012)",
        "journal_cited": "",
        "scored": "100",
        "rows": "24",
        "fit": "0.75",
        "release": "release-1",
        "warnings": "short",
    }


def test_a_job_is_taken_up_by_the_same_job_only(tmp_path: Path) -> None:
    out = tmp_path / "ranked.jsonl"
    writer = open_writer(out)
    out.write_text("mine")
    with pytest.raises(InputError, match="exists: name another file, or give --restart"):
        Job(out, PLAN, writer)
    assert out.read_text() == "mine"
    job = Job(out, PLAN, writer, restart=True)
    with pytest.raises(InputError, match="another process is writing"):
        Job(out, PLAN, writer)
    commit(job, out, range(1, 3))
    assert out.read_text() == "mine"
    job.close()
    with pytest.raises(InputError, match="belongs to another job: top_k was 10 and is now 5"):
        Job(out, {**PLAN, "top_k": 5}, writer)
    anew = Job(out, {**PLAN, "top_k": 5}, writer, restart=True)
    assert (anew.progress.rows, anew.name == job.name) == (0, False)
    commit(anew, out, range(1, 2))
    anew.finish()
    anew.close()
    assert read(out) == [(1, "j1-1 j1-2")]
    with pytest.raises(InputError, match="belongs to another job"):
        Job(out, PLAN, writer)
    out.unlink()
    with pytest.raises(InputError, match="was complete and is gone: give --restart"):
        Job(out, {**PLAN, "top_k": 5}, writer)


def test_files_that_were_meddled_with_are_told(tmp_path: Path) -> None:
    out = tmp_path / "ranked.jsonl"
    writer = open_writer(out)
    job = Job(out, PLAN, writer)
    commit(job, out, range(1, 3))
    job.close()
    part, state = Path(f"{out}.part"), Path(f"{out}.job.json")
    part.write_bytes(part.read_bytes()[:-5])
    with pytest.raises(InputError, match=r"part is shorter than it was: give --restart"):
        Job(out, PLAN, writer)
    for content in ("", "[]", '{"job": 1}'):
        state.write_text(content)
        with pytest.raises(InputError, match="is not the state of a job: remove it, or give --restart"):
            Job(out, PLAN, writer)
    with pytest.raises(InputError, match="No such file"):
        Job(tmp_path / "nowhere" / "x.jsonl", PLAN, writer)


def test_an_output_that_cannot_be_one_is_refused(tmp_path: Path) -> None:
    backlog = tmp_path / "backlog.jsonl"
    with pytest.raises(InputError, match=r"ends in none of \.jsonl, \.csv, \.parquet"):
        open_writer(tmp_path / "ranked.xlsx")
    with pytest.raises(InputError, match="is the backlog itself"):
        check_apart([backlog], backlog)
    with pytest.raises(InputError, match="is inside the backlog directory"):
        check_apart([tmp_path], tmp_path / "sub" / "ranked.csv")
    check_apart([backlog], tmp_path / "ranked.csv")
