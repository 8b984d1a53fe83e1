"""Records of tagged lines, as they are gathered from RIS, MEDLINE, Web of Science and Refer files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from xuankan.documents.encodings import Lines
from xuankan.documents.model import MAX_RECORD_BYTES

_RIS_TAG: Final = re.compile(r"[\s\ufeff]{0,4}(?P<tag>[A-Z][A-Z0-9])(?P<gap> {0,2})-(?P<value>.*)", re.DOTALL)
_RIS_KNOWN: Final = re.compile(
    r"A[1-4BDNUV]|BT|C[1-8ANPRTY]|D[ABOPS]|E[DPRT]|H[12]|I[DS]|J[12AFO]|KW|L[1-4AB]|M[1-3]|N[1-2LV]|OP|"
    r"P[ABPY]|R[DINP]|S[ENPTV]|T[1-3AITY]|U[1-5R]|VL|WP|Y[12]|ZZ"
)
_RIS_TEXTS: Final = frozenset({"TI", "T1", "AB", "N2", "CT", "BT"})
_MEDLINE_TAG: Final = re.compile(
    r"(?P<tag>[A-Z][A-Z0-9]{1,4}) {0,3}-(?:[^\S\n](?P<value>.*))?\s*\Z", re.DOTALL
)
_ISI_TAG: Final = re.compile(r"(?P<tag>[A-Z][A-Z0-9])(?:[^\S\n](?P<value>.*))?\s*\Z", re.DOTALL)
_REFER_TAG: Final = re.compile(r"%(?P<tag>[^\s\w]|\w)(?:[^\S\n](?P<value>.*))?\s*\Z", re.DOTALL)


class Tagged:
    """One record: tags in their order, each with its lines.

    Attributes:
        line: where it begins, from 1.
        size: its characters; of one that is too long, no more is kept than shows it.
    """

    def __init__(self, line: int) -> None:
        self.line, self.size = line, 0
        self._tags: list[tuple[str, list[str]]] = []

    def add(self, tag: str, value: str) -> None:
        """Begin a tag."""
        self.size += len(value) + len(tag)
        if self.size <= MAX_RECORD_BYTES:
            self._tags.append((tag, [value.strip()]))

    def go_on(self, line: str) -> None:
        """Add a line to the last tag."""
        self.size += len(line)
        if self._tags and self.size <= MAX_RECORD_BYTES:
            self._tags[-1][1].append(line.strip())

    def __contains__(self, tag: str) -> bool:
        return any(name == tag for name, _ in self._tags)

    def lines(self, *tags: str) -> list[str]:
        """All lines of tags that say something, one after the other."""
        return [line for name, lines in self._tags if name in tags for line in lines if line]

    def values(self, *tags: str) -> list[str]:
        """What each of the tags holds, its lines joined."""
        return [
            value
            for name, lines in self._tags
            if name in tags and (value := " ".join(line for line in lines if line))
        ]

    def first(self, *tags: str) -> str:
        """The first value of the first tag that has one."""
        return next((value for tag in tags for value in self.values(tag)), "")

    def names(self) -> str:
        """Its tags, each once."""
        return ", ".join(dict.fromkeys(name for name, _ in self._tags)) or "none"

    def text(self) -> str:
        """As it stands in the file, about."""
        return "\n".join(f"{tag}  - " + "\n".join(lines) for tag, lines in self._tags)


def split_ris(lines: Lines) -> Iterator[Tagged]:
    """Records of RIS, which end with ER or where another begins.

    TY need not be the first tag. What stands between ER and the next TY belongs to the next record if there
    is a title or an abstract in it, and else to none (Ovid puts the search there). Programs disagree about
    the spaces before the dash: with fewer than two, only known tags in the spacing of the last TY count, so
    that a line of an abstract is none.
    """
    record: Tagged | None = None
    gap = -1
    for number, line in enumerate(lines, start=1):
        found = _RIS_TAG.match(line)
        tag = found["tag"] if found is not None else ""
        if found is not None and len(found["gap"]) < 2:
            spaced = not found["value"] or found["value"][:1].isspace()
            same = tag in ("TY", "ER") or gap in (-1, len(found["gap"]))
            if not (spaced and same and _RIS_KNOWN.fullmatch(tag)):
                found, tag = None, ""
        if found is None:
            if record is not None:
                record.go_on(line)
        elif tag == "TY":
            gap = len(found["gap"])
            if record is not None and "TY" in record:
                yield record
                record = None
            if record is None or not _has_text(record):
                record = Tagged(number)
            record.add(tag, found["value"])
        elif tag == "ER":
            if record is not None and ("TY" in record or _has_text(record)):
                yield record
            record = None
        else:
            record = record or Tagged(number)
            record.add(tag, found["value"])
    if record is not None and ("TY" in record or _has_text(record)):
        yield record


def split_medline(lines: Lines) -> Iterator[Tagged]:
    """Records of MEDLINE, each of which begins with PMID (UI in old files); further lines are indented."""
    record: Tagged | None = None
    for number, line in enumerate(lines, start=1):
        found = None if line[:1].isspace() else _MEDLINE_TAG.match(line.lstrip("\ufeff"))
        if found is None:
            if record is not None:
                record.go_on(line)
            continue
        tag = found["tag"]
        if record is None or (tag in ("PMID", "UI") and tag in record):
            if record is not None:
                yield record
            record = Tagged(number)
        record.add(tag, found["value"] or "")
    if record is not None:
        yield record


def split_isi(lines: Lines) -> Iterator[Tagged]:
    """Records of Web of Science, from PT to ER; further lines are indented."""
    record: Tagged | None = None
    for number, line in enumerate(lines, start=1):
        found = None if line[:1].isspace() else _ISI_TAG.match(line.lstrip("\ufeff"))
        tag = found["tag"] if found is not None else ""
        if found is None:
            if record is not None:
                record.go_on(line)
        elif tag == "ER":
            if record is not None:
                yield record
            record = None
        elif tag in ("FN", "VR", "EF") and (record is None or "PT" not in record):
            record = None
        else:
            if tag == "PT" and record is not None and "PT" in record:
                yield record
                record = None
            record = record or Tagged(number)
            record.add(tag, found["value"] or "")
    if record is not None:
        yield record


def split_refer(lines: Lines) -> Iterator[Tagged]:
    """Records of Refer (EndNote), from %0 on, or between empty lines if they have none."""
    record: Tagged | None = None
    apart = False
    for number, line in enumerate(lines, start=1):
        found = _REFER_TAG.match(line.lstrip("\ufeff"))
        if found is None:
            apart = apart or not line.strip()
            if record is not None:
                record.go_on(line)
            continue
        tag = found["tag"]
        if record is not None and (tag == "0" or (apart and "0" not in record)):
            yield record
            record = None
        record = record or Tagged(number)
        record.add(tag, found["value"] or "")
        apart = False
    if record is not None:
        yield record


def _has_text(record: Tagged) -> bool:
    return any(tag in record for tag in _RIS_TEXTS)
