"""What a file does to its reader costs a record: loops, crashes, memory."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import cast

import pytest

from xuankan.backlog.sources import Backlog
from xuankan.documents import Columns, Document, File, Problem, read
from xuankan.documents.confined import ConfinedReaders
from xuankan.errors import InputError, Unreadable

CASES = Path(__file__).parents[1] / "data" / "documents" / "cases"
# Loaded by every Python that finds it on its path: the faults that a library may have.
_FAULTS = """
import os, signal
import xuankan.documents.model as model
model.PROCESSOR_S = 0.5
import xuankan.documents.bibtex as bibtex
parse = bibtex.parse_entry
def parse_entry(text, macros):
    if "LOOP" in text:
        while True: pass
    if "CRASH" in text:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "HUNGRY" in text:
        bytearray(8 * 2**30)
    return parse(text, macros)
bibtex.parse_entry = parse_entry
"""


@pytest.fixture
def faulty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers of BibTeX that loop, crash or take all memory at entries that say so."""
    (tmp_path / "faults").mkdir()
    (tmp_path / "faults" / "sitecustomize.py").write_text(_FAULTS)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'faults'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")


def bibliography(*titles: str) -> bytes:
    return "".join(f"@article{{k{n}, title = {{{title}}}}}\n" for n, title in enumerate(titles)).encode()


def titles(name: str, data: bytes) -> list[str]:
    found = ConfinedReaders().open(File(name, data=data)).records()
    return [one.title if isinstance(one, Document) else one.problem for one in found]


@pytest.mark.parametrize(
    "path",
    sorted(path for path in CASES.glob("*") if not path.name.endswith(".expected.txt")),
    ids=lambda path: path.name,
)
def test_nothing_changes_on_the_way_from_the_process(path: Path) -> None:
    opened = ConfinedReaders().open(File.at(path))
    assert list(opened.records()) == (found := list(read(File.at(path))))
    assert opened.count() == len(found)


@pytest.mark.usefixtures("faulty")
@pytest.mark.parametrize(
    ("word", "reason"),
    [("LOOP", "takes more than"), ("CRASH", "ended its process"), ("HUNGRY", "MemoryError")],
)
def test_a_record_that_does_harm_costs_itself(word: str, reason: str) -> None:
    first, bad, last = titles("a.bib", bibliography("One", word, "Three"))
    assert (first, last) == ("One", "Three")
    assert reason in bad


@pytest.mark.usefixtures("faulty")
def test_a_file_of_nothing_but_harm_is_given_up(tmp_path: Path) -> None:
    data = bibliography("One", *["CRASH"] * 5, "Seven")
    found = titles("a.bib", data)
    assert found[0] == "One"
    assert len(found) == 4
    assert found[-1].endswith("so the rest of the file was not read")
    # Of a backlog every row keeps its number.
    (tmp_path / "a.bib").write_bytes(data)
    (tmp_path / "b.bib").write_bytes(bibliography("Eight"))
    rows = list(Backlog.open([tmp_path / "a.bib", tmp_path / "b.bib"]).rows())
    assert [row.number for row in rows] == list(range(1, 9))
    assert [bool(row.reason) for row in rows] == [False, *[True] * 6, False]
    assert rows[6].reason == "not read, because the file could not be read to its end"


@pytest.mark.usefixtures("faulty")
def test_a_reference_list_that_does_harm_says_so() -> None:
    with pytest.raises(Unreadable, match="ended its process"):
        ConfinedReaders().references(File("a.bib", data=bibliography("CRASH")))


def test_whoever_stops_listening_is_not_answered_later() -> None:
    data = bibliography(*[f"Paper {number}" for number in range(5_000)])
    readers = ConfinedReaders()
    for _ in range(3):
        records = readers.open(File("a.bib", data=data)).records()
        assert next(records) == Document("Paper 0", identifier="k0", line=1)
        cast("Generator[Document | Problem]", records).close()
    (other,) = readers.open(File("b.bib", data=bibliography("Other"))).records()
    assert other == Document("Other", identifier="k0", line=1)


def test_what_is_wrong_with_a_file_is_said_as_by_the_readers() -> None:
    with pytest.raises(Unreadable, match=r"called \.pdf but is none"):
        ConfinedReaders().open(File("a.pdf", data=b"x"))
    with pytest.raises(InputError, match="Titel"):
        ConfinedReaders().open(File("a.csv", data=b"Title,B\nx,y\n"), Columns.parse(["title=Titel"])).count()
    (found,) = ConfinedReaders().open(File("a.tex", data=rb"\section{Introduction} No head.")).records()
    assert isinstance(found, Problem)
    listed = ConfinedReaders().references(
        File("a.bib", data=b"@article{a, title={X}, journal={Nature}, year=2001}")
    )
    assert [(one.journal, one.year) for one in listed.references] == [("Nature", "2001")]
