"""Reading the tables that `xuankan model evaluate` and `xuankan bench` take."""

from __future__ import annotations

from pathlib import Path

import pytest

from xuankan.errors import CatalogueError, InputError
from xuankan_worker.releases.labelled import read_labelled

PAPERS = Path(__file__).parents[1] / "data" / "papers.parquet"


def test_a_split_and_a_sample_of_it() -> None:
    everything = read_labelled(PAPERS, (), None, 0)
    test = read_labelled(PAPERS, ("test",), None, 0)
    assert 0 < len(test.title) <= len(everything.title)
    assert len(test.title) == len(test.abstract) == len(test.journal)
    sample = read_labelled(PAPERS, ("test",), 7, 1)
    assert len(sample.title) == 7
    assert sample == read_labelled(PAPERS, ("test",), 7, 1)
    assert sample != read_labelled(PAPERS, ("test",), 7, 2)
    assert set(sample.title) <= set(test.title)


def test_a_limit_beyond_the_table_takes_all_of_it() -> None:
    assert read_labelled(PAPERS, ("test",), 10**6, 0) == read_labelled(PAPERS, ("test",), None, 0)


def test_an_unknown_split_is_named_with_those_that_exist() -> None:
    with pytest.raises(InputError, match=r"no paper of split 'tset'; its splits are .*test"):
        read_labelled(PAPERS, ("tset",), None, 0)


def test_what_is_no_table_of_papers_is_refused(tmp_path: Path) -> None:
    (tmp_path / "papers.parquet").write_text("title,abstract,journal")
    with pytest.raises(CatalogueError, match="Parquet"):
        read_labelled(tmp_path / "papers.parquet", (), None, 0)
