"""`xuankan catalogue`, as a user at a terminal and a program see it."""

from __future__ import annotations

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
# pyarrow ships no types.
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from xuankan.candidates import FirstStage
from xuankan.catalogue import Catalogue
from xuankan.catalogue.parquet import read_columns
from xuankan.cli.catalogue import catalogue
from xuankan.cli.running import given_catalogue
from xuankan.errors import CatalogueError

SAMPLE = Path(__file__).parents[1] / "data" / "papers.parquet"
OURS = "title,issns,scope,open_access,apc_usd\nJournal of Tea,2434-561X,The chemistry of tea.,diamond,0\n"


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(catalogue, [str(arg) for arg in args], catch_exceptions=False)


def data(*args: str | Path) -> Any:
    result = run(*args, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_every_command_explains_itself() -> None:
    assert {"build", "check", "import", "show"} == set(catalogue.commands)
    for command in catalogue.commands:
        assert len(run(command, "--help").output) > 300
    assert "\n  DOAJ        its journal CSV" in run("import", "--help").output


def test_show_prints_journals_and_the_summary() -> None:
    assert run("show").output == f"catalogue {Catalogue.default().version}: 632 journals\n"
    output = run("show", "0031-9007").output
    assert output.startswith("Physical Review Letters\n")
    assert "0031-9007; 1079-7114" in output
    assert [row["id"] for row in data("show", "physical review b", "--limit", "1")] == ["physical-review-b"]
    assert len(data("show", "physics", "--limit", "3")) == 3


def test_show_fails_for_nothing_found() -> None:
    result = run("show", "qqqqqq")
    assert result.exit_code == 1
    assert "matches 'qqqqqq'" in result.stderr


def test_check_counts_the_missing_and_ends_with_0_if_nothing_is_wrong() -> None:
    report = data("check")
    assert report["journals"] == 632
    assert report["missing"]["sjr"] == 632
    assert report["findings"] == []
    assert "nothing is inconsistent" in run("check").output


def test_import_adds_to_the_shipped_catalogue(tmp_path: Path) -> None:
    (tmp_path / "ours.csv").write_text(OURS)
    told = data("import", tmp_path / "ours.csv", "-o", tmp_path / "c.json.gz")
    assert told["journals"] == 633
    assert told["tables"][0] | {"table": ""} == {
        "table": "",
        "kind": "own",
        "rows": 1,
        "updated": 0,
        "added": 1,
        "not_in_catalogue": 0,
        "doubts": {},
    }
    tea = data("show", "tea", "--catalogue", tmp_path / "c.json.gz")[0]
    assert (tea["open_access"], tea["apc_usd"]) == ("diamond", 0.0)
    assert tea["profile"] == "Journal of Tea. The chemistry of tea."


def test_import_makes_the_first_stage_that_producers_take_from_beside_the_catalogue(tmp_path: Path) -> None:
    (tmp_path / "ours.csv").write_text(OURS)
    ours = tmp_path / "c.json.gz"
    told = data("import", tmp_path / "ours.csv", "-o", ours)
    assert told["first_stage"] == str(tmp_path / "c.first_stage.npz")
    given = given_catalogue(ours)
    assert given.catalogue is not None
    assert given.first_stage is not None
    made_now = FirstStage.default().for_catalogue(given.catalogue)
    text = ("Green tea and its catechins", "We brew tea at several temperatures.")
    np.testing.assert_allclose(given.first_stage.scores(*text), made_now.scores(*text), atol=0.02)
    assert given.first_stage is not made_now
    assert given.catalogue[int(given.first_stage.scores(*text).argmax())].title == "Journal of Tea"

    Catalogue.default().save(ours)
    with pytest.raises(CatalogueError, match=r"was made for catalogue .* import or build them again"):
        given_catalogue(ours)
    (tmp_path / "c.first_stage.npz").unlink()
    assert given_catalogue(ours).first_stage is FirstStage.default()


def test_import_alone_and_check_of_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "bare.csv").write_text("title\nTea\n")
    output = run("import", tmp_path / "bare.csv", "--empty", "-o", tmp_path / "c.json.gz").output
    assert "1 rows, 0 journals updated, 1 added, 0 not in the catalogue" in output
    result = run("check", "--catalogue", tmp_path / "c.json.gz")
    assert result.exit_code == 1
    assert "tea: profile: only the title is known; give a scope or subjects" in result.output


def test_import_refuses_contradictions_and_unwritable_files(tmp_path: Path) -> None:
    (tmp_path / "ours.csv").write_text(OURS)
    base = tmp_path / "base.json.gz"
    Catalogue.default().save(base)
    result = run("import", tmp_path / "ours.csv", "--empty", "--base", base, "-o", tmp_path / "c")
    assert (result.exit_code, "cannot be combined" in result.stderr) == (2, True)
    result = run("import", tmp_path / "ours.csv", "-o", tmp_path / "no" / "such" / "c.json.gz")
    assert (result.exit_code, "cannot be written: No such file" in result.stderr) == (1, True)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Papers of the sample's commonest journals, mostly a training split, and a table of the journals."""
    folder = tmp_path_factory.mktemp("tables")
    rows = read_columns(SAMPLE, ("title", "abstract", "journal"))
    common = {name for name in rows["journal"] if rows["journal"].count(name) >= 6}
    kept = [i for i, name in enumerate(rows["journal"]) if name in common]
    papers = {name: [values[i] for i in kept] for name, values in rows.items()}
    count = len(kept)
    papers |= {
        "year": [2018] * count,
        "source": ["arxiv_archive"] * count,
        "split": ["test" if i % 10 == 0 else "train" for i in range(count)],
        "arxiv_categories": ["quant-ph"] * count,
    }
    pq.write_table(pa.table(papers), folder / "papers.parquet")
    known = {journal.title: journal for journal in Catalogue.default()}
    found = [known[name] for name in sorted(common)]
    empty = pa.array([None] * len(found), pa.string())
    journals = {
        "title": [journal.title for journal in found],
        "issns": [list(journal.issns) for journal in found],
        "publisher": [journal.publisher for journal in found],
        "country": [journal.country for journal in found],
        "apc_usd": pa.array([None] * len(found), pa.float64()),
        "in_doaj": [False] * len(found),
        **dict.fromkeys(("oa_type", "homepage", "doaj_languages", "doaj_license", "doaj_apc"), empty),
    }
    pq.write_table(pa.table(journals), folder / "journals.parquet")
    return folder / "papers.parquet", folder / "journals.parquet"


def test_build_makes_a_catalogue_and_a_first_stage_that_fit_each_other(
    tmp_path: Path, tables: tuple[Path, Path]
) -> None:
    papers, journals = tables
    told = data("build", "--papers", papers, "--journals", journals, "-o", tmp_path / "out")
    built = Catalogue.load(tmp_path / "out" / "catalogue.json.gz")
    first_stage = FirstStage.load(tmp_path / "out" / "catalogue.first_stage.npz")
    assert told["version"] == built.version == first_stage.catalogue_version
    assert told["first_stage"]["test"]["top5"] >= 0.6
    letters = built[built.index("physical-review-letters")]
    assert letters.subjects == ("quantum physics",)
    assert letters.profile.startswith("Physical Review Letters. quantum physics. Terms: ")
    assert letters.examples
    training = read_columns(papers, ("title", "split"))
    learned = {t for t, split in zip(training["title"], training["split"], strict=True) if split == "train"}
    assert {title for journal in built for title in journal.examples} <= learned


def test_build_refuses_tables_that_do_not_fit(tmp_path: Path, tables: tuple[Path, Path]) -> None:
    papers, journals = tables
    with pytest.raises(
        CatalogueError, match=r"papers.parquet lacks the columns .*year.*; it has title, abstract"
    ):
        run("build", "--papers", SAMPLE, "--journals", journals, "-o", tmp_path)
    with pytest.raises(CatalogueError, match=r"lacks the columns .*issns"):
        run("build", "--papers", papers, "--journals", papers, "-o", tmp_path)
    no_parquet = tmp_path / "x.parquet"
    no_parquet.write_text("hello")
    with pytest.raises(CatalogueError, match="cannot be read as a Parquet table"):
        run("build", "--papers", no_parquet, "--journals", journals, "-o", tmp_path)
