"""Bringing tables of journals into a catalogue: a deployment's own, DOAJ's, SCImago's."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xuankan.catalogue import Catalogue, Journal
from xuankan.catalogue.check import check
from xuankan.catalogue.imports import Table, read_table
from xuankan.catalogue.merge import Merged, merge
from xuankan.errors import CatalogueError

RICE = Journal(
    id="rice", title="Rice", issns=("1939-8425",), subjects=("breeding",), profile="Rice. breeding."
)
KNEE = Journal(id="knee", title="Knee", issns=("0968-0160",), publisher="Old", profile="Knee. joints.")
BASE = (RICE, KNEE)

DOAJ = """\
Journal title,Journal URL,Journal ISSN (print version),Journal EISSN (online version),Publisher,\
Country of publisher,\
Journal license,APC,APC amount,Languages in which the journal accepts manuscripts,Subjects
Rice,https://rice.example,1939-8425,1939-8433,SpringerOpen,United States,CC BY,Yes,2690 USD; 2290 EUR,\
"English, Klingon",Agriculture: Plant culture
The Knee Again,https://knee.example,0968-0160,,Knee Society,Netherlands,CC BY-NC,No,,"English, French",\
Medicine: Surgery: Orthopedic surgery | Medicine: Internal medicine
Elsewhere,https://else.example,2434-561X,,Nobody,Chile,CC BY,Yes,100 EUR,Spanish,Law
"""
SCIMAGO = """\
Rank;Sourceid;Title;Type;Issn;SJR;SJR Best Quartile;H index;Country;Region;Publisher;Coverage;Categories;Areas
1;28773;"Rice";journal;"19398425, 19398433";1,212;Q1;63;United States;Northern America;"Springer New York";\
"2008-2021";"Agronomy and Crop Science (Q1); Plant Science (Q1); Plant Science (miscellaneous)";"Agricultural"
2;1;"KNEE";journal;"-";"0,7";Q2;10;Netherlands;Western Europe;Elsevier;"1994-2021";\
"Sports Medicine (Q2)";"Medicine"
"""


def table(tmp_path: Path, text: str, name: str = "table.csv") -> Table:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return read_table(path)


def merged(tmp_path: Path, text: str, name: str = "table.csv") -> Merged:
    return merge(BASE, table(tmp_path, text, name))


def test_doaj_brings_access_price_and_languages(tmp_path: Path) -> None:
    found = table(tmp_path, DOAJ)
    result = merge(BASE, found)
    assert (result.updated, result.added, result.passed_over) == (2, 0, 1)
    rice, knee = result.catalogue
    assert (rice.open_access, rice.apc_usd, rice.licence) == ("gold", 2690.0, "CC BY")
    assert rice.issns == ("1939-8425", "1939-8433")
    assert rice.languages == ("en",)
    assert rice.subjects == ("breeding", "plant culture")
    assert rice.profile == "Rice. breeding."
    assert rice.sources == ("DOAJ",)
    assert (knee.title, knee.publisher, knee.open_access, knee.apc_usd) == (
        "Knee",
        "Knee Society",
        "diamond",
        0.0,
    )
    assert knee.subjects == ("orthopedic surgery", "internal medicine")
    assert found.doubts == {"language 'Klingon' has no known code": 1}


def test_a_price_in_another_currency_is_not_converted(tmp_path: Path) -> None:
    rice = merged(tmp_path, DOAJ.replace("2690 USD; 2290 EUR", "2290 EUR")).catalogue[0]
    assert (rice.open_access, rice.apc_usd) == ("gold", None)


def test_scimago_brings_decimal_commas_and_matches_by_title_too(tmp_path: Path) -> None:
    rice, knee = merged(tmp_path, SCIMAGO).catalogue
    assert (rice.sjr, rice.quartile) == (1.212, "Q1")
    assert rice.subjects == ("breeding", "agronomy and crop science", "plant science")
    assert (knee.sjr, knee.quartile, knee.country) == (0.7, "Q2", "Netherlands")


def test_ones_own_csv_updates_and_adds(tmp_path: Path) -> None:
    result = merged(
        tmp_path,
        "\ufefftitle;issns;apc_usd;languages;subjects;scope\n"
        "Rice;1939-8433;$1 200;English;;\n"
        "Journal of Tea;2434-561X;0;en;tea;The chemistry of tea. Its trade.\n".replace(
            "English;;", "English;;"
        ),
    )
    assert (result.updated, result.added) == (1, 1)
    rice, _, tea = result.catalogue
    assert rice.apc_usd == 1200.0
    assert rice.publisher is None
    assert (tea.id, tea.apc_usd, tea.languages, tea.sources) == (
        "journal-of-tea",
        0.0,
        ("en",),
        ("own table",),
    )
    assert tea.profile == "Journal of Tea. tea. The chemistry of tea. Its trade."


def test_ones_own_jsonl_on_no_base_is_a_whole_catalogue(tmp_path: Path) -> None:
    lines = '{"title": "Tea", "subjects": ["tea"], "apc_usd": 10}\n\n{"title": "Té", "id": "te-es"}\n'
    catalogue = merge((), table(tmp_path, lines, "ours.jsonl")).catalogue
    assert [(j.id, j.profile) for j in catalogue] == [("tea", "Tea. tea."), ("te-es", "Té.")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title,impact\nTea,3\n", r"line 2: unknown column 'impact'; known are apc_usd"),
        ("title,issns\nTea,1234-5678\n", r"line 2: issns holds '1234-5678', which has a wrong check digit"),
        ("title,issns\nTea,12345\n", r"line 2: issns holds '12345', which does not have the form"),
        ("title,apc_usd\nTea,cheap\n", r"line 2: apc_usd is 'cheap', not a number"),
        ("title,apc_usd\nTea,nan\n", r"line 2: apc_usd is nan"),
        ("title,open_access\nTea,bronze\n", r"line 2: open_access is 'bronze', not one of diamond"),
        ("title,languages\nTea,Klingon\n", r"line 2: languages holds 'Klingon'"),
        ("title,publisher\n,Tea Press\n", r"line 2: title is None"),
        ("title\n!!!\n", r"line 2: title is '!!!'"),
        ("title,publisher\nTea,Press, Ltd.\n", r"line 2: 3 cells, but the header has 2; quote cells"),
        ("title,title\nTea,Tea\n", r"the column 'title' occurs twice"),
        ('title\n"Tea\n', r"line 2: "),
        ("title\n", r"has no journals"),
        ("", r"has no header line"),
        ("name,year\nTea,1\n", r"is not a table of journals: its header \(name, year"),
        ("title\nTea\nTEA\n", r"line 3: the id 'tea' of 'TEA' is taken"),
        ("title\nRice\nRICE\n", r"line 3: 'RICE' is the journal of .*line 2 again"),
        ("title,issns\nTea,2434-561X\nTe,2434-561X\n", r"line 3: the ISSN 2434-561X is already that of"),
        ("title,issns\nBoth,1939-8425; 0968-0160\n", r"line 2: the ISSNs .* belong to 2 journals"),
    ],
)
def test_what_is_wrong_in_ones_own_csv_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(CatalogueError, match=message):
        merged(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{\n", r"line 1 is not JSON"),
        ('{"title": "Tea"}\n[1]\n', r"line 2 is not a JSON object: '\[1\]'"),
        ('{"title": 5}\n', r"line 1: title is 5"),
        ('{"title": "Tea", "scope": 5}\n', r"line 1: scope is 5"),
        ('{"title": "Tea", "subjects": "tea"}\n', r"line 1: subjects is 'tea', not a list"),
        ('{"title": "Tea", "apc_usd": true}\n', r"line 1: apc_usd is True"),
    ],
)
def test_what_is_wrong_in_jsonl_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(CatalogueError, match=message):
        merged(tmp_path, text, "ours.jsonl")


def test_what_is_wrong_in_foreign_tables_is_named(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="line 2: APC is 'Maybe', neither Yes nor No"):
        table(tmp_path, DOAJ.replace("Yes,2690", "Maybe,2690"))
    with pytest.raises(CatalogueError, match="line 2: APC amount is 'much USD'"):
        table(tmp_path, DOAJ.replace("2690 USD; 2290 EUR", "much USD"))
    with pytest.raises(CatalogueError, match="line 2: SJR is 'high', not a number such as 4,611"):
        table(tmp_path, SCIMAGO.replace("1,212", "high"))
    with pytest.raises(CatalogueError, match="SJR Best Quartile is 'Q9'"):
        table(tmp_path, SCIMAGO.replace(";Q1;", ";Q9;"))


def test_a_file_in_another_encoding_is_told_so(tmp_path: Path) -> None:
    path = tmp_path / "latin.csv"
    path.write_bytes("title\nRevista Española\n".encode("latin-1"))
    with pytest.raises(CatalogueError, match=r"is not UTF-8 .*save it as UTF-8"):
        read_table(path)


def test_bad_issns_of_foreign_tables_are_passed_over_and_told(tmp_path: Path) -> None:
    found = table(tmp_path, SCIMAGO.replace("19398433", "19398434"))
    assert found.rows[0].issns == ("1939-8425",)
    assert found.doubts == {"ISSN '19398434' is malformed or has a wrong check digit": 1}


TEXTS = st.text(st.characters(codec="utf-8"), max_size=30)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(codec="utf-8"), max_size=300), st.sampled_from(["t.csv", "t.jsonl"]))
def test_any_text_is_at_worst_a_clear_error(tmp_path: Path, text: str, name: str) -> None:
    for content in (text, "title,issns,apc_usd\n" + text, DOAJ.partition("\n")[0] + "\n" + text):
        try:
            result = merged(tmp_path, content, name)
        except CatalogueError as error:
            assert name in str(error)  # noqa: PT017  # any text may also be a good table
        else:
            assert result.updated + result.added > 0 or result.passed_over > 0


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=8))
def test_a_quoted_table_is_read_as_it_was_meant(tmp_path: Path, cells: list[tuple[str, str]]) -> None:
    buffer = io.StringIO()
    csv.writer(buffer).writerows(
        [("title", "publisher"), *((f"T{i} {a}", b) for i, (a, b) in enumerate(cells))]
    )
    path = tmp_path / "quoted.csv"
    path.write_bytes(buffer.getvalue().encode())
    rows = read_table(path).rows
    assert [row.title for row in rows] == [f"T{i} {a}".strip() for i, (a, _) in enumerate(cells)]
    assert [row.facts.get("publisher", "") for row in rows] == [b.strip() for _, b in cells]


def test_importing_twice_changes_nothing(tmp_path: Path) -> None:
    once = merged(tmp_path, DOAJ).catalogue
    assert merge(once.journals, table(tmp_path, DOAJ)).catalogue.version == once.version


def test_check_tells_what_is_missing_and_what_is_wrong() -> None:
    odd = (
        Journal(id="a", title="A", issns=("0968-0160", "0968-0161"), open_access="diamond", apc_usd=5.0),
        Journal(id="b", title="a", issns=("0968-0160",), profile="A"),
        Journal(id="c", title="C", publisher="P", profile="C. seas, lakes and rivers"),
    )
    report = check(Catalogue(odd), lambda text: len(text.split()), 4)
    assert report.missing["publisher"] == 2
    assert report.missing["issns"] == 1
    assert report.cut_profiles == 1
    found = {(finding.journal, finding.field) for finding in report.findings}
    assert found == {("a", "issns"), ("a", "profile"), ("a", "apc_usd"), ("a", "title"), ("b", "profile")}


def test_nothing_is_wrong_with_the_shipped_catalogue() -> None:
    assert check(Catalogue.default(), len, 10**6).findings == ()
