"""Records of tagged lines: RIS, MEDLINE (PubMed), Web of Science, Refer (EndNote).

Read by hand: rispy and nbib give a file up at the first record that differs from their dialect.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import Any, Final

from xuankan.documents.columns import Columns
from xuankan.documents.encodings import Lines
from xuankan.documents.fields import from_values
from xuankan.documents.files import File
from xuankan.documents.model import MAX_RECORD_BYTES, Document, Problem, attempt
from xuankan.documents.tagged_lines import Tagged, split_isi, split_medline, split_refer, split_ris

# EBSCO ends abstracts with these, or writes them as a second abstract; publishers do the like.
_NOTICE: Final = re.compile(
    r"\s*(?:Copyright of .{1,300}? is the property of .{1,400}|"
    r"(?:©|\(c\)|Copyright(?:\s*(?:©|\(c\)))?)\s*(?:The Author|\d{4}).{0,200})\Z",
    re.IGNORECASE | re.DOTALL,
)
_NOTICE_MARKS: Final = ("[ABSTRACT FROM", "(ABSTRACT FROM", "Copyright of ")
_NOTICE_BEHIND: Final = re.compile(
    r"\s*(?:[\[(]ABSTRACT FROM (?:AUTHOR|PUBLISHER)[\])]\s*)?"
    r"(?:Copyright of .{1,300}? is the property of .{1,300}? and its content may not be copied .{0,600})?\Z",
    re.DOTALL,
)


class _TaggedFile:
    """What the four have in common."""

    def __init__(self, file: File, columns: Columns) -> None:
        del columns  # tags are what they are
        self._lines = Lines(file)

    def count(self) -> int:
        """How many records there are."""
        return sum(1 for _ in self._split(self._lines))

    def records(self, start: int = 0) -> Iterator[Document | Problem]:
        """The records from `start` on, from 0."""
        for record in islice(self._split(self._lines), start, None):
            yield attempt(partial(self._record, record), record.line, record.text)

    def _record(self, record: Tagged) -> Document | Problem:
        if record.size > MAX_RECORD_BYTES:
            reason = f"more than {MAX_RECORD_BYTES:,} characters in one record"
            return Problem.of(record.line, reason, record.text())
        warning = self._lines.encoding.warning
        found = from_values(self._values(record), record.line, [warning] if warning else [])
        if found.title or found.abstract:
            return found
        reason = f"there is neither a title nor an abstract in it; its tags are {record.names()}"
        return Problem.of(record.line, reason, record.text(), found.identifier)

    def _split(self, lines: Lines) -> Iterator[Tagged]:
        raise NotImplementedError

    def _values(self, record: Tagged) -> dict[str, Any]:
        raise NotImplementedError


class Ris(_TaggedFile):
    """A .ris file, in the dialect of whatever program wrote it."""

    def _split(self, lines: Lines) -> Iterator[Tagged]:
        return split_ris(lines)

    def _values(self, record: Tagged) -> dict[str, Any]:
        return {
            "id": record.first("ID", "AN", "DO"),
            "title": record.first("TI", "T1", "CT", "BT", "TT", "ST"),
            "abstract": _joined(record.values("AB")) or _joined(record.values("N2")),
            "keywords": record.lines("KW"),
            "journal": record.first("JO", "JF", "T2", "JA", "J2"),
            "issn": record.values("SN"),
            "doi": record.first("DO", "M3", "UR"),
            "year": record.first("PY", "Y1", "DA"),
        }


class Medline(_TaggedFile):
    """A .nbib file."""

    def _split(self, lines: Lines) -> Iterator[Tagged]:
        return split_medline(lines)

    def _values(self, record: Tagged) -> dict[str, Any]:
        return {
            "id": record.first("PMID", "UI"),
            "title": record.first("TI", "BTI", "CTI", "TT"),
            "abstract": record.first("AB", "OAB"),
            "keywords": [word.lstrip("*") for word in record.values("OT") or record.values("MH")],
            "journal": record.first("JT", "TA"),
            "issn": record.values("IS"),
            "doi": next((v for v in record.values("LID", "AID") if "[doi]" in v), ""),
            "year": record.first("DP", "EDAT"),
        }


class WebOfScience(_TaggedFile):
    """A .ciw or .isi file, or what Web of Science calls savedrecs.txt."""

    def _split(self, lines: Lines) -> Iterator[Tagged]:
        return split_isi(lines)

    def _values(self, record: Tagged) -> dict[str, Any]:
        return {
            "id": record.first("UT"),
            "title": record.first("TI"),
            "abstract": _joined(record.values("AB")),
            "keywords": record.first("DE") or record.first("ID"),
            "journal": record.first("SO", "JI", "J9"),
            "issn": record.values("SN", "EI"),
            "doi": record.first("DI"),
            "year": record.first("PY"),
            "references": record.lines("CR"),
        }


class Refer(_TaggedFile):
    """A .enw file."""

    def _split(self, lines: Lines) -> Iterator[Tagged]:
        return split_refer(lines)

    def _values(self, record: Tagged) -> dict[str, Any]:
        return {
            "id": record.first("M", "F", "L", "R"),
            "title": record.first("T", "!", "Q"),
            "abstract": _joined(record.values("X")),
            "keywords": record.lines("K"),
            "journal": record.first("J", "B"),
            "issn": record.values("@"),
            "doi": record.first("R", "U"),
            "year": record.first("D", "8"),
        }


def _joined(parts: list[str]) -> str:
    """An abstract in its parts, each once, without the notices of publishers that stand for one."""
    texts = [_without_notice(part) for part in parts if not _NOTICE.match(part)]
    return " ".join(dict.fromkeys(text for text in texts if text))


def _without_notice(text: str) -> str:
    found = next((text.find(mark) for mark in _NOTICE_MARKS if mark in text), -1)
    if found <= 0:
        return text
    begin = max(0, found - 1)
    return text[:begin] + _NOTICE_BEHIND.sub("", text[begin:], count=1)
