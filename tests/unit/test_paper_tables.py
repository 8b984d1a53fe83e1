"""Tables of papers: which journals they are of, and what is wrong in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.imported import SAMPLE
from xuankan.candidates import FirstStage
from xuankan.candidates.from_papers import PAPERS, with_papers
from xuankan.catalogue import Catalogue, Journal
from xuankan.catalogue.paper_tables import JournalPaper, PaperTable
from xuankan.errors import CatalogueError

TEA = Catalogue(
    (
        Journal("tea", "Journal of Tea", issns=("2434-561X",)),
        Journal("acta", "Acta"),
        Journal("acta-2", "Acta", issns=("0000-0019",)),
    )
)


def read(path: Path, content: str) -> PaperTable:
    path.write_text(content)
    return PaperTable(path, TEA)


def test_a_journal_is_named_by_id_issn_or_a_title_of_its_own(tmp_path: Path) -> None:
    table = read(
        tmp_path / "p.csv",
        "title,journal,year,doi,arxiv_id,extra\n"
        "A,tea,2018,10.1/x,,1\nB,2434561X,,,1706.03762,\nC,Journal of tea,,,,\n"
        "D,Acta,,,,\nE,acta-2,,https://doi.org/10.1/y,,\n , tea,,,,\nF,Nature,,,,\n",
    )
    assert list(table) == [
        JournalPaper(0, "A", "", 2018, "https://doi.org/10.1/x"),
        JournalPaper(0, "B", "", 0, "https://arxiv.org/abs/1706.03762"),
        JournalPaper(0, "C", "", 0, ""),
        JournalPaper(2, "E", "", 0, "https://doi.org/10.1/y"),
    ]
    assert (table.unknown, table.untitled) == (2, 1)
    assert len(list(table)) == 4  # as often as it is asked


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.csv", "title,year\nA,2018\n", "has no column 'journal'"),
        ("p.csv", "title,journal,year\nA,tea,soon\n", "line 2: year is 'soon', not a year"),
        ("p.jsonl", '{"title": ["A"], "journal": "tea"}\n', r"line 1: title is \['A'\], not a text"),
        ("p.parquet", "hello", "cannot be read as a Parquet table"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(CatalogueError, match=message):
        list(read(tmp_path / name, content))


def test_a_parquet_table_needs_its_columns() -> None:
    assert not list(PaperTable(SAMPLE, TEA))
    table = PaperTable(SAMPLE, Catalogue.default())
    assert len(list(table)) == 360
    assert table.unknown == 0


def test_papers_of_journals_that_were_fitted_change_nothing() -> None:
    catalogue, first_stage = Catalogue.default(), FirstStage.default()
    made = with_papers(first_stage, catalogue, [PaperTable(SAMPLE, catalogue)], lambda _what, _part: None)
    assert made.first_stage is first_stage
    assert (made.papers, made.journals) == (0, 0)


def test_a_journal_is_told_by_its_newest_papers_whatever_was_imported_before(tmp_path: Path) -> None:
    """A second import with papers takes the place of a first one that knew the profile alone."""
    catalogue = Catalogue((*Catalogue.default().journals, Journal("tea", "Journal of Tea")))
    by_profile = FirstStage.default().for_catalogue(catalogue)
    assert by_profile.imported == {"tea"}
    old = [f'{{"title": "Lattices of bosons {i}", "journal": "tea", "year": 1999}}\n' for i in range(5)]
    new = [
        f'{{"title": "Green tea catechins and polyphenols {i}", "journal": "tea", "year": {2000 + i}}}\n'
        for i in range(PAPERS)
    ]
    (tmp_path / "p.jsonl").write_text("".join(old + new))
    table = PaperTable(tmp_path / "p.jsonl", catalogue)
    made = with_papers(by_profile, catalogue, [table], lambda _what, _part: None)
    assert (made.papers, made.journals) == (PAPERS, 1)
    made.first_stage.save(tmp_path / "f.npz")
    again = FirstStage.load(tmp_path / "f.npz")
    assert again.imported == {"tea"}
    text = ("Polyphenols of green tea", "")
    for first_stage in (made.first_stage, again):
        assert first_stage.journals[int(first_stage.scores(*text).argmax())] == "tea"
    bosons = "boson lattices"
    place = len(catalogue) - 1
    assert made.first_stage.scores(bosons, "")[place] < made.first_stage.scores(*text)[place] - 1
