"""One row of a backlog: a manuscript under whatever names its columns have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from xuankan.errors import InputError

FIELDS: Final = ("id", "title", "abstract", "keywords")
# As exports of Scopus, Web of Science, PubMed, OJS and reference managers call them; case, `_` and `-` do not
# matter.
_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "id": ("id", "submission id", "manuscript id", "paper id", "key", "doi"),
    "title": ("title", "article title", "document title", "primary title", "ti"),
    "abstract": ("abstract", "notes abstract", "abstract text", "ab"),
    "keywords": ("keywords", "author keywords", "keyword", "kw"),
}
MAX_RECORD_BYTES: Final = 1_600_000
"""A manuscript has 100,000 characters at most, and a character takes up to 12 bytes in JSON."""
_SHOWN: Final = 2_000


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a file.

    Attributes:
        line: where it begins, from 1; in a Parquet table, its row.
        fields: what it holds, under the file's names. Empty if it cannot be read.
        reason: why it cannot be read; empty if it can.
        text: the beginning of one that cannot be read.
    """

    line: int
    fields: Mapping[str, Any]
    reason: str = ""
    text: str = ""

    @classmethod
    def bad(cls, line: int, reason: str, text: str | bytes = "") -> Record:
        """One that cannot be read."""
        shown = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
        return cls(line, {}, reason, shown[:_SHOWN].encode("utf-8", "replace").decode())


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a backlog.

    Attributes:
        number: its place in the whole backlog, from 1.
        source: the file's name.
        line: as of `Record`.
        fields: what is given of title, abstract, keywords (for `Manuscript.from_mapping`) and id, a text.
        reason, text: as of `Record`.
    """

    number: int
    source: str
    line: int
    fields: Mapping[str, Any]
    reason: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column holds what.

    Attributes:
        given: field (`title`, ...) -> the column's exact name. The others are found by usual names.
    """

    given: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, options: Iterable[str]) -> Columns:
        """From texts such as `title=Titel`.

        Raises:
            InputError: one is no such text, or its field is not one of `FIELDS`.
        """
        found: dict[str, str] = {}
        for option in options:
            field, equals, name = option.partition("=")
            if not equals or not name or field not in FIELDS:
                raise InputError(
                    "column", f"{option!r}: give FIELD=NAME, as title=Titel; fields are {', '.join(FIELDS)}"
                )
            found[field] = name
        return cls(tuple(sorted(found.items())))

    def find(self, names: tuple[str, ...]) -> Mapping[str, str]:
        """Field -> column, of those that are there."""
        return _find(self, names)

    def check(self, names: Iterable[str], source: str) -> None:
        """Check the header of a table.

        Raises:
            InputError: neither title nor abstract is among the columns, or one that was given is not.
        """
        header = tuple(names)
        for field, name in self.given:
            if name not in header:
                raise InputError(source, f"no column {name!r} for the {field}; it has {_listed(header)}")
        found = self.find(header)
        if "title" not in found and "abstract" not in found:
            raise InputError(
                source,
                f"no column of titles or abstracts; it has {_listed(header)}. Name it: --column title=NAME",
            )

    def row(self, number: int, source: str, record: Record) -> Row:
        """A record's manuscript."""
        if record.reason:
            return Row(number, source, record.line, {}, record.reason, record.text)
        found = self.find(tuple(record.fields))
        fields: dict[str, Any] = {}
        for field, name in found.items():
            value = record.fields[name]
            if value is None or value == "" or value != value:  # NaN is a table's way to say nothing
                continue
            if field == "keywords" and isinstance(value, str):
                value = _split(value)
            fields[field] = str(value) if field == "id" else value
        return Row(number, source, record.line, fields)


@lru_cache(maxsize=256)
def _find(columns: Columns, names: tuple[str, ...]) -> Mapping[str, str]:
    found: dict[str, str] = {}
    folded: dict[str, str] = {}
    for name in names:
        folded.setdefault(" ".join(name.casefold().replace("_", " ").replace("-", " ").split()), name)
    given = dict(columns.given)
    for field in FIELDS:
        if field in given:
            if given[field] in names:
                found[field] = given[field]
            continue
        for usual in _NAMES[field]:
            if usual in folded:
                found[field] = folded[usual]
                break
    return found


def _split(keywords: str) -> list[str]:
    separator = ";" if ";" in keywords else ","
    return [word for part in keywords.split(separator) if (word := part.strip())]


def _listed(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:20]) or "none"
    return f"{shown} and {len(names) - 20} more" if len(names) > 20 else shown
