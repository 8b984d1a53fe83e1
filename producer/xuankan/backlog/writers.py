"""Rankings as JSON lines, CSV or Parquet."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, Protocol, cast

from xuankan.backlog.rows import Row
from xuankan.client.rankings import Ranking
from xuankan.errors import InputError
from xuankan.outlets import for_cell

_FACTS: Final = ("title", "publisher", "issns", "open_access", "apc_usd", "subjects", "homepage", "cited")
_CSV_HEADER: Final = (
    "row",
    "id",
    "source",
    "title",
    "rank",
    "score",
    "journal",
    *(f"journal_{f}" for f in _FACTS),
    "nearness",
    "papers",
)
_CSV_END: Final = ("scored", "rows", "fit", "release", "warnings")


_JSON: Final = json.JSONEncoder(ensure_ascii=False, default=str, separators=(",", ":"))


class Writer(Protocol):
    """One format. What it makes is appended to one file, and can be cut after any piece."""

    def begin(self) -> bytes:
        """What the file begins with."""
        ...

    def entry(self, row: Row, ranking: Ranking) -> Any:
        """A ranking in a small form that can wait."""
        ...

    def piece(self, entries: Sequence[Any]) -> bytes:
        """Entries as they go to the file."""
        ...

    def finish(self, part: Path, out: Path) -> None:
        """Make `out`, at once and for good, from the finished file."""
        ...


class _Lines:
    def begin(self) -> bytes:
        return b""

    def piece(self, entries: Sequence[Any]) -> bytes:
        return b"".join(cast("Sequence[bytes]", entries))

    def finish(self, part: Path, out: Path) -> None:
        part.replace(out)


class JsonLinesWriter(_Lines):
    """A line for each manuscript."""

    def entry(self, row: Row, ranking: Ranking) -> bytes:
        """As of `Writer`."""
        return as_line(_entry(row, ranking))


class CsvWriter(_Lines):
    """A line for each journal of each manuscript, for spreadsheets and data frames."""

    def begin(self) -> bytes:
        """As of `Writer`. The mark makes Excel read UTF-8."""
        return b"\xef\xbb\xbf" + _csv([(*_CSV_HEADER, *_CSV_END)])

    def entry(self, row: Row, ranking: Ranking) -> bytes:
        """As of `Writer`."""
        made = _entry(row, ranking)
        head = [_cell(made[name]) for name in _CSV_HEADER[:4]]
        end = [_cell(made[name]) for name in _CSV_END]
        return _csv(
            [
                [
                    *head,
                    place["rank"],
                    f"{place['score']:.6g}",
                    place["id"],
                    *(_cell(place[f]) for f in _FACTS),
                    place["nearness"],
                    _cell("; ".join(_paper(paper) for paper in place["papers"])),
                    *end,
                ]
                for place in made["journals"]
            ]
        )


class ParquetWriter:
    """A row for each manuscript; an Arrow stream while the job runs: Parquet cannot be gone on with."""

    def __init__(self) -> None:
        from xuankan.backlog import parquet

        self._parquet = parquet

    def begin(self) -> bytes:
        """As of `Writer`."""
        return self._parquet.begin()

    def entry(self, row: Row, ranking: Ranking) -> Mapping[str, Any]:
        """As of `Writer`."""
        return _entry(row, ranking)

    def piece(self, entries: Sequence[Any]) -> bytes:
        """As of `Writer`."""
        return self._parquet.piece(entries) if entries else b""

    def finish(self, part: Path, out: Path) -> None:
        """As of `Writer`."""
        made = out.with_name(out.name + ".tmp")
        self._parquet.convert(part, made)
        with made.open("rb") as file:
            os.fsync(file.fileno())
        made.replace(out)
        part.unlink()


_WRITERS: Final[Mapping[str, type[Writer]]] = {
    ".jsonl": JsonLinesWriter,
    ".csv": CsvWriter,
    ".parquet": ParquetWriter,
}


def open_writer(out: Path) -> Writer:
    """The writer that the name of `out` asks for.

    Raises:
        InputError: it asks for none.
    """
    if (made := _WRITERS.get(out.suffix.lower())) is None:
        raise InputError("out", f"{out.name!r} ends in none of {', '.join(_WRITERS)}")
    return made()


def bad_line(row: Row, code: str, reason: str) -> bytes:
    """A row without a ranking, as a line of JSON that can be repaired and ranked as a backlog."""
    head = {"row": row.number, "source": row.source, "line": row.line, "code": code, "reason": reason}
    return as_line({**head, **({"text": row.text} if row.text else {}), **row.fields})


def as_line(values: Mapping[str, Any]) -> bytes:
    """A line of JSON. What is no JSON, as a table's dates, is written as text."""
    return _JSON.encode(values).encode("utf-8", "replace") + b"\n"


def _entry(row: Row, ranking: Ranking) -> dict[str, Any]:
    return {
        "row": row.number,
        "id": row.fields.get("id"),
        "source": row.source,
        "title": row.fields.get("title"),
        "journals": [
            {
                "rank": place.rank,
                "score": place.score,
                "id": place.journal,
                **{fact: place.metadata.get(fact) for fact in _FACTS},
                "nearness": place.nearness,
                "papers": [asdict(paper) for paper in place.evidence],
            }
            for place in ranking
        ],
        "scored": ranking.scored,
        "rows": ranking.rows,
        "fit": ranking.fit,
        "release": ranking.release,
        "warnings": ranking.warnings,
    }


def _paper(paper: Mapping[str, Any]) -> str:
    return " ".join(filter(None, (f"{paper['title']} ({paper['year']})", paper["link"])))


def _csv(rows: Sequence[Sequence[Any]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode("utf-8", "replace")


def _cell(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return "; ".join(map(str, cast("Sequence[Any]", value)))
    return for_cell(value)
