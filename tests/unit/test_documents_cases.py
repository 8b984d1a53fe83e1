"""The smallest files that show what real exports and manuscripts do, each with what should be got of it.

`cases/NAME.expected.txt` has a head that says what went wrong once, and behind each line `--` a manuscript.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from xuankan.backlog.sources import Backlog
from xuankan.documents import Document, File, read

CASES = Path(__file__).parents[1] / "data" / "documents" / "cases"
ENDING = ".expected.txt"


def names() -> list[str]:
    return sorted(path.name.removesuffix(ENDING) for path in CASES.glob(f"*{ENDING}"))


def expected(name: str) -> Iterator[dict[str, str]]:
    _, *records = (CASES / f"{name}{ENDING}").read_text("utf-8").split("\n--\n")
    for record in records:
        pairs = (line.partition(": ") for line in record.rstrip("\n").split("\n"))
        yield {field.rstrip(":"): " ".join(value.split()) for field, _, value in pairs}


def found(name: str) -> Iterator[dict[str, str]]:
    (path,) = (path for path in CASES.glob(f"{name}.*") if not path.name.endswith(ENDING))
    for record in read(File.at(path)):
        if isinstance(record, Document):
            yield {
                "title": record.title,
                "abstract": record.abstract,
                "keywords": "; ".join(record.keywords),
            }


@pytest.mark.parametrize("name", names())
def test_a_case_is_read_as_a_person_would(name: str) -> None:
    wanted = list(expected(name))
    got = list(found(name))
    assert len(got) == len(wanted)
    for have, want in zip(got, wanted, strict=True):
        assert {field: have[field] for field in want} == want


@pytest.mark.parametrize("name", names())
def test_a_backlog_has_the_rows_that_are_read(name: str) -> None:
    (path,) = (path for path in CASES.glob(f"{name}.*") if not path.name.endswith(ENDING))
    rows = [row.document for row in Backlog.open([path]).rows() if not row.reason]
    assert rows == [record for record in read(File.at(path)) if isinstance(record, Document)]
