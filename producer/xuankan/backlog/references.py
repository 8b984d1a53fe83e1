"""Backlogs from reference managers: BibTeX and RIS.

The libraries read a file at once; so files are cut here into records, and a library reads one at a time.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import rispy  # pyright: ignore[reportMissingTypeStubs]  # it has none
from bibtexparser.model import DuplicateFieldKeyBlock, Entry, ParsingFailedBlock, String
from bibtexparser.splitter import Splitter
from pylatexenc.latex2text import (  # pyright: ignore[reportMissingTypeStubs]  # it has none
    LatexNodes2Text,
)

from xuankan.backlog.rows import MAX_RECORD_BYTES, Columns, Record

# It warns of what is told here as the reason of a bad row.
logging.getLogger("bibtexparser.splitter").setLevel(logging.ERROR)

_BLOCK: Final = re.compile(rb"\s*@\s*([A-Za-z]+)\s*[{(]")
_BRACES: Final = re.compile(rb"(?<!\\)[{}]")
_PLAIN: Final = str.maketrans("~", " ", "{}")
_TEXTS: Final = ("title", "abstract", "keywords")
_TAG: Final = re.compile(rb"[A-Z][A-Z0-9] {1,2}-")
_ENDED: Final = re.compile(rb"^ER {1,2}-", re.MULTILINE)


class BibTex:
    """A .bib file; an entry is a row. Of `@string` macros, those are put in that stand alone for a text."""

    def __init__(self, path: Path, columns: Columns) -> None:
        del columns  # entries have fields of their own
        self._path = path
        self._latex = LatexNodes2Text(math_mode="verbatim")

    def count(self) -> int:
        """How many rows there are."""
        with self._path.open("rb") as file:
            return sum(kind not in _NO_ENTRIES for _, kind, _ in _bib_blocks(file))

    def records(self, start: int) -> Iterator[Record]:
        """The rows from `start` on, from 0."""
        macros: dict[str, str] = {}
        place = 0
        with self._path.open("rb") as file:
            for line, kind, block in _bib_blocks(file):
                if kind == b"string":
                    macros.update(_macros(block))
                elif kind not in _NO_ENTRIES:
                    place += 1
                    if place > start:
                        yield self._record(line, block, macros)

    def _record(self, line: int, block: bytes, macros: Mapping[str, str]) -> Record:
        if (text := _decoded(line, block)) is None or isinstance(text, Record):
            return text or Record.bad(line, f"more than {MAX_RECORD_BYTES:,} bytes in one entry", block)
        for found in Splitter(text).split().blocks:
            entry = found.ignore_error_block if isinstance(found, DuplicateFieldKeyBlock) else found
            if isinstance(entry, Entry):
                fields = {field.key.casefold(): str(field.value) for field in reversed(entry.fields)}
                values: dict[str, Any] = {
                    name: self._plain(fields[name], macros) for name in _TEXTS & fields.keys()
                }
                return Record(line, {"id": entry.key, **values})
            if isinstance(found, ParsingFailedBlock):
                return Record.bad(line, f"no BibTeX entry: {_one_line(found.error)}", text)
        return Record.bad(line, "no BibTeX entry: no key or no closing brace", text)

    def _plain(self, value: str, macros: Mapping[str, str]) -> str:
        value = value[1:-1] if value[:1] in '{"' else macros.get(value.casefold(), value)
        if "\\" in value:
            value = cast(str, cast(Any, self._latex).latex_to_text(value))
        else:  # the same, much faster
            value = value.translate(_PLAIN)
        return " ".join(value.split())


class Ris:
    """A .ris file; what ends with ER is a row."""

    def __init__(self, path: Path, columns: Columns) -> None:
        del columns
        self._path = path

    def count(self) -> int:
        """How many rows there are."""
        with self._path.open("rb") as file:
            return sum(1 for _ in _ris_blocks(file))

    def records(self, start: int) -> Iterator[Record]:
        """The rows from `start` on, from 0."""
        with self._path.open("rb") as file:
            for place, (line, block) in enumerate(_ris_blocks(file)):
                if place >= start:
                    yield _ris_record(line, block)


_NO_ENTRIES: Final = frozenset({b"string", b"comment", b"preamble"})


def _bib_blocks(file: BinaryIO) -> Iterator[tuple[int, bytes, bytes]]:
    """Line, kind in lower case and bytes of what begins with an @ and ends where its braces are closed.

    An @ at the start of a line begins the next one even if they are not, so that a missing brace costs one
    entry. Of one that is too long no more is kept than shows it.
    """
    begun, kind, block, depth, size = 0, b"", list[bytes](), 0, 0
    for number, line in enumerate(_short_lines(file), start=1):
        if (match := _BLOCK.match(line)) is not None:
            if block:
                yield begun, kind, b"".join(block)
            begun, kind, block, depth, size = number, match[1].lower(), [], 0, 0
        elif not begun:
            continue  # BibTeX takes what stands between entries as comment
        if size <= MAX_RECORD_BYTES:
            block.append(line)
            size += len(line)
        depth += sum(1 if brace == b"{" else -1 for brace in _BRACES.findall(line))
        if depth <= 0 and (b"}" in line or line.rstrip().endswith(b")")):
            yield begun, kind, b"".join(block)
            begun, block = 0, []
    if block:
        yield begun, kind, b"".join(block)


def _ris_blocks(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    begun, block, size = 0, list[bytes](), 0
    for number, line in enumerate(_short_lines(file), start=1):
        tag = line[:2] if _TAG.match(line) else b""
        if tag == b"TY" and block:  # the one before was not ended
            yield begun, b"".join(block)
            block = []
        if not block:
            if not tag or tag == b"ER":
                continue  # nothing has begun
            begun, size = number, 0
        if size <= MAX_RECORD_BYTES:
            block.append(line)
            size += len(line)
        if tag == b"ER":
            yield begun, b"".join(block)
            block = []
    if block:
        yield begun, b"".join(block)


def _ris_record(line: int, block: bytes) -> Record:
    if (text := _decoded(line, block)) is None or isinstance(text, Record):
        return text or Record.bad(line, f"more than {MAX_RECORD_BYTES:,} bytes in one record", block)
    if not _ENDED.search(block):
        text += "\nER  - \n"
    try:
        found = cast("list[dict[str, Any]]", cast(Any, rispy).loads(text))
    except Exception as error:  # rispy's own, and what its parser runs into
        return Record.bad(line, f"no RIS record: {_one_line(error)}", text)
    if not found:
        return Record.bad(line, "no RIS record: it has to begin with `TY  - `", text)
    fields = {name: value.strip() if isinstance(value, str) else value for name, value in found[0].items()}
    if keywords := fields.get("keywords"):
        fields["keywords"] = [word for part in keywords for word in map(str.strip, part.split(";")) if word]
    return Record(line, fields)


def _macros(block: bytes) -> dict[str, str]:
    text = block.decode("utf-8-sig", "replace")
    found = (block for block in Splitter(text).split().blocks if isinstance(block, String))
    return {one.key.casefold(): str(one.value).strip().strip('{}"') for one in found}


def _decoded(line: int, block: bytes) -> str | Record | None:
    """None: it is too long."""
    if len(block) > MAX_RECORD_BYTES:
        return None
    try:
        return block.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        reason = f"no UTF-8 text (byte {error.start}): convert the file, as in `iconv -f LATIN1 -t UTF-8`"
        return Record.bad(line, reason, block)


def _short_lines(file: BinaryIO) -> Iterator[bytes]:
    """Lines; one that is too long in pieces."""
    while line := file.readline(MAX_RECORD_BYTES + 1):
        yield line.removeprefix(b"\xef\xbb\xbf")


def _one_line(error: object) -> str:
    return " ".join(str(error).split())
