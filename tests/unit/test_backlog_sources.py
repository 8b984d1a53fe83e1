"""Backlogs in every format: the same manuscripts, in order, from any row on; bad ones with their reason."""

from __future__ import annotations

import csv
import json
import tracemalloc
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa  # pyright: ignore[reportMissingTypeStubs]  # it has none
import pyarrow.parquet as pq  # pyright: ignore[reportMissingTypeStubs]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xuankan.backlog.rows import Row
from xuankan.backlog.sources import Backlog, Shard
from xuankan.documents import Columns
from xuankan.documents.model import MAX_RECORD_BYTES
from xuankan.errors import InputError

PAPERS: list[dict[str, Any]] = [
    {
        "id": f"p{number}",
        "title": f"Flow past cylinder {number}, and “more”",
        "abstract": f"We study case {number};\nit is stable for Re < 40 in 5 of 6 cases.",
        "keywords": ["fluid dynamics", f"case {number}"],
    }
    for number in range(300)
]


def jsonl(path: Path) -> None:
    path.write_text("\n\n".join(json.dumps(paper) for paper in PAPERS), "utf-8")


def table(path: Path) -> None:
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        rows = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ";")
        rows.writerow(["Submission ID", "Year", "Article Title", "Abstract", "Author Keywords"])
        for paper in PAPERS:
            keywords = "; ".join(paper["keywords"])
            rows.writerow([paper["id"], 2020, paper["title"], paper["abstract"], keywords])


def parquet(path: Path) -> None:
    made: Any = pa
    write: Any = pq
    write.write_table(made.Table.from_pylist(PAPERS), path, row_group_size=64)


def bib(path: Path) -> None:
    entries = [
        f"@article{{{paper['id']},\n  title = {{Flow past {{cylinder}} {number}, and “more”}},\n"
        f'  year = 2020,\n  abstract = "{paper["abstract"]}",\n'
        f"  keywords = {{{', '.join(paper['keywords'])}}}\n}}\n"
        for number, paper in enumerate(PAPERS)
    ]
    path.write_text("% a library\n@comment{of mine}\n" + "\n".join(entries), "utf-8")


def ris(path: Path) -> None:
    records = [
        f"TY  - JOUR\r\nID  - {paper['id']}\r\nTI  - {paper['title']}\r\n"
        f"AB  - {paper['abstract']}\r\n"
        + "".join(f"KW  - {word}\r\n" for word in paper["keywords"])
        + "ER  - \r\n\r\n"
        for paper in PAPERS
    ]
    path.write_bytes("".join(records).encode("utf-8-sig"))


FORMATS: dict[str, Callable[[Path], None]] = {
    "p.jsonl": jsonl,
    "p.csv": table,
    "p.tsv": table,
    "p.parquet": parquet,
    "p.bib": bib,
    "p.ris": ris,
}


def plain(row: Row) -> dict[str, Any]:
    """With white space as single spaces: reference managers fold lines."""
    return {
        name: " ".join(value.split()) if isinstance(value, str) else value
        for name, value in row.fields.items()
    }


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_rows_from_any_place(tmp_path: Path, name: str) -> None:
    FORMATS[name](tmp_path / name)
    backlog = Backlog.open([tmp_path / name])
    assert backlog.total == len(PAPERS)
    rows = list(backlog.rows())
    wanted = [{**paper, "abstract": " ".join(paper["abstract"].split())} for paper in PAPERS]
    assert [plain(row) for row in rows] == wanted
    assert [row.number for row in rows] == list(range(1, len(PAPERS) + 1))
    for start, stop in ((0, 1), (63, 65), (64, 64), (200, 270), (299, 300), (300, 300)):
        assert list(backlog.rows(start, stop)) == rows[start:stop], (start, stop)


def test_files_and_directories_follow_each_other_and_shards_cut_through_them(tmp_path: Path) -> None:
    folder = tmp_path / "library"
    (folder / "b").mkdir(parents=True)
    (folder / ".trash").mkdir()
    jsonl(folder / ".trash" / "old.jsonl")
    bib(folder / "b" / "x.bib")
    ris(folder / "a.RIS")
    (folder / "notes.txt").write_text("no backlog")
    jsonl(tmp_path / "more.jsonl")
    backlog = Backlog.open([folder, tmp_path / "more.jsonl"])
    assert [Path(source.name).name for source in backlog.sources] == ["a.RIS", "x.bib", "more.jsonl"]
    rows = list(backlog.rows())
    assert len(rows) == 900
    shards = [Shard(index, 16).bounds(backlog.total) for index in range(16)]
    assert [row for start, stop in shards for row in backlog.rows(start, stop)] == rows
    assert [row.number for row in rows] == list(range(1, 901))


@given(st.integers(0, 10**6), st.integers(1, 500))
def test_shards_are_a_partition_into_equal_ranges(total: int, of: int) -> None:
    bounds = [Shard(index, of).bounds(total) for index in range(of)]
    assert bounds[0][0] == 0
    assert bounds[-1][1] == total
    assert all(before[1] == after[0] for before, after in pairwise(bounds))
    assert {stop - start for start, stop in bounds} <= {total // of, total // of + 1}


@pytest.mark.parametrize("text", ["3", "3/3", "-1/4", "a/b", "1/", "/2", "0/0"])
def test_a_shard_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="0/16"):
        Shard.parse(text)


def reasons(path: Path, content: bytes) -> list[tuple[int, int, str]]:
    """Row, line and reason of the bad rows; the others are good."""
    path.write_bytes(content)
    rows = Backlog.open([path]).rows()
    return [(row.number, row.line, row.reason) for row in rows if row.reason]


def test_a_bad_line_of_json_is_one_bad_row(tmp_path: Path) -> None:
    good = b'{"title": "a"}\n'
    long = b'{"title": "' + b"a" * (3 * MAX_RECORD_BYTES) + b'"}\n'
    content = good + b"{broken\n\n" + long + b'[1]\n{"title": 5}\n' + b"[" * 5000 + b"\n" + good
    found = reasons(tmp_path / "x.jsonl", content)
    assert [(row, line) for row, line, _ in found] == [(2, 2), (3, 4), (4, 5), (5, 6), (6, 7)]
    wanted = ("not JSON", "more than 1,600,000 bytes", "list, not an object", "int, not text", "not JSON")
    for (_, _, reason), part in zip(found, wanted, strict=True):
        assert part in reason


def test_a_bad_line_of_csv_is_one_bad_row(tmp_path: Path) -> None:
    content = b'title,abstract\na,"two\nlines"\nb,c,d\nx,y\n,,\n"a" b, "c\ne,\n'
    found = reasons(tmp_path / "x.csv", content)
    assert [(row, line) for row, line, _ in found] == [(2, 4)]
    assert "header has 2" in found[0][2]
    titles = [row.fields.get("title") for row in Backlog.open([tmp_path / "x.csv"]).rows()]
    assert titles == ["a", None, "x", '"a" b', "e"]


def test_a_bad_bibtex_entry_is_one_bad_row(tmp_path: Path) -> None:
    content = (
        b"@string{jfm = {J. Fluid Mech.}}\n@article{a, title={one}}\n@article{b, title={two, abstract={z}\n"
        b"@article{c,\n title = jfm,\n title = {twice}}\n@preamble{x}\n@misc{d, year={2020}}\n@article{}\n"
        b'@article{e, title="caf\\\'e {$x^2$}"}\n@book(f, title={round})\n@article{g, title={never ends'
    )
    path = tmp_path / "x.bib"
    assert [(row, line) for row, line, _ in reasons(path, content)] == [(4, 8), (5, 9)]
    rows = list(Backlog.open([path]).rows())
    titles = [row.fields.get("title") for row in rows]
    assert titles == ["one", "two", "J. Fluid Mech.", None, None, "café x^2", "round", "never ends"]
    assert ["brace" in " ".join(row.document.warnings) for row in rows].count(True) == 2


def test_a_bad_ris_record_is_one_bad_row(tmp_path: Path) -> None:
    content = (
        b"Exported by hand\nTY  - JOUR\nT1  - one\nN2  - the\n  abstract\nER  - \nTY  - JOUR\nTI  - no end\n"
        b"TY  - JOUR\nAU  - x\nER  - \nTI  - no type\nER  - \nTY  - JOUR\nTI  - last\nKW  - a; b"
    )
    path = tmp_path / "x.ris"
    found = reasons(path, content)
    assert [(row, line) for row, line, _ in found] == [(3, 9)]
    assert "TY, AU" in found[0][2]
    rows = [row.fields for row in Backlog.open([path]).rows() if not row.reason]
    assert rows == [
        {"title": "one", "abstract": "the abstract"},
        {"title": "no end"},
        {"title": "no type"},
        {"title": "last", "keywords": ["a", "b"]},
    ]


def test_a_damaged_file_of_a_directory_is_one_bad_row(tmp_path: Path) -> None:
    (tmp_path / "a.bib").write_text("@misc{a, title={one}}")
    (tmp_path / "b.parquet").write_bytes(b"PAR1 and no more")
    (tmp_path / "c.txt").write_text("TY  - JOUR\nTI  - in disguise\nER  - \n")
    rows = list(Backlog.open([tmp_path]).rows())
    assert [row.fields.get("title") for row in rows] == ["one", None, "in disguise"]
    assert "Parquet" in rows[1].reason


def test_columns_can_be_named(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("Nr,Ding,Text\n7,a,b\n", "utf-8")
    with pytest.raises(InputError, match=r"Nr, Ding, Text.*--column title=NAME"):
        Backlog.open([path])
    columns = Columns.parse(["id=Nr", "title=Ding", "abstract=Text"])
    (row,) = Backlog.open([path], columns).rows()
    assert row.fields == {"id": "7", "title": "a", "abstract": "b"}
    with pytest.raises(InputError, match="no column 'Title' for the title"):
        Backlog.open([path], Columns.parse(["title=Title"]))
    for bad in ("Titel", "name=Titel", "title="):
        with pytest.raises(InputError, match="title=Titel"):
            Columns.parse([bad])


def test_what_is_no_backlog_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name, content, told in (
        ("x.docm", b"no zip", "is called .docm but is none"),
        ("empty", b"", "no file in it ends in"),
        ("x.csv", b"", "it is empty"),
        ("x.parquet", b"PAR1", "cannot be read as a Parquet table"),
        ("gone.jsonl", None, "No such file"),
    ):
        path = tmp_path / name
        if content is not None and name != "empty":
            path.write_bytes(content)
        with pytest.raises(InputError, match=told):
            Backlog.open([path])


@pytest.mark.parametrize("name", ["p.jsonl", "p.bib", "p.ris", "p.csv"])
def test_reading_takes_the_memory_of_a_few_rows(tmp_path: Path, name: str) -> None:
    short, long = tmp_path / name, tmp_path / f"long-{name}"
    FORMATS[name](short)
    content = short.read_bytes()
    header = content.partition(b"\n")[0] + b"\n" if name == "p.csv" else b""
    long.write_bytes(content + 3 * (b"\n" + content.removeprefix(header)))

    def peak(path: Path) -> int:
        backlog = Backlog.open([path])
        rows = backlog.rows()
        next(rows)  # by then what stays is there
        tracemalloc.start()
        try:
            assert sum(1 for _ in rows) == backlog.total - 1
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(long)  # what is cached once and for all
    assert peak(long) < 1.5 * peak(short) + 50_000
