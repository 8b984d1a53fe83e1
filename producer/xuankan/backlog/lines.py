"""Backlogs of lines: JSON Lines and CSV."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final, TextIO, cast

from xuankan.backlog.rows import MAX_RECORD_BYTES, Columns, Record
from xuankan.errors import InputError

_NOT_UTF8: Final = "not UTF-8 text (byte {}): convert the file, as in `iconv -f GB18030 -t UTF-8`"
_SURROGATES: Final = tuple(map(chr, range(0xDC80, 0xDD00)))


class JsonLines:
    """A file with a JSON object a line; empty lines are no rows."""

    def __init__(self, path: Path, columns: Columns) -> None:
        del columns  # each line has its own
        self._path = path

    def count(self) -> int:
        """How many rows there are."""
        with self._path.open("rb") as file:
            return sum(1 for _ in _lines(file))

    def records(self, start: int) -> Iterator[Record]:
        """The rows from `start` on, from 0."""
        with self._path.open("rb") as file:
            for place, (number, line) in enumerate(_lines(file)):
                if place >= start:
                    yield _json_record(number, line)


class Csv:
    """A table with a header; commas, semicolons or tabs between cells, lines of empty cells are no rows.

    Raises:
        InputError: no header, or no column of titles or abstracts in it.
    """

    def __init__(self, path: Path, columns: Columns) -> None:
        self._path = path
        csv.field_size_limit(MAX_RECORD_BYTES)  # for the process: the default is short of some abstracts
        with self._open() as file:
            first_line = file.readline(MAX_RECORD_BYTES)
        self._delimiter = max(",;\t", key=first_line.count)
        with self._open() as file:
            try:
                self._header = [name.strip() for name in next(self._reader(file))]
            except (StopIteration, csv.Error) as error:
                raise InputError(str(path), "no header line") from error
        while self._header and not self._header[-1]:
            self._header.pop()
        columns.check(self._header, str(path))

    def count(self) -> int:
        """How many rows there are."""
        return sum(1 for _ in self._rows())

    def records(self, start: int) -> Iterator[Record]:
        """The rows from `start` on, from 0."""
        for place, (line, cells) in enumerate(self._rows()):
            if place >= start:
                yield self._record(line, cells)

    def _open(self) -> TextIO:
        # What is not UTF-8 becomes lone surrogates, so that one bad row is one bad row.
        return self._path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")

    def _reader(self, file: TextIO) -> Iterator[list[str]]:
        return csv.reader(file, delimiter=self._delimiter, strict=True)

    def _rows(self) -> Iterator[tuple[int, Sequence[str] | csv.Error]]:
        with self._open() as file:
            reader = csv.reader(file, delimiter=self._delimiter, strict=True)
            next(reader)
            while True:
                line = reader.line_num + 1
                try:
                    cells = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    yield line, error
                    continue
                if any(cells):
                    yield line, cells

    def _record(self, line: int, cells: Sequence[str] | csv.Error) -> Record:
        if isinstance(cells, csv.Error):
            return Record.bad(line, f"no CSV: {cells}")
        text = self._delimiter.join(cells)
        if (place := next((i for i, c in enumerate(text) if c in _SURROGATES), None)) is not None:
            return Record.bad(line, _NOT_UTF8.format(place), text)
        if any(cells[len(self._header) :]):
            what = f"{len(cells)} cells, but the header has {len(self._header)}"
            return Record.bad(line, f"{what}: quote cells that hold {self._delimiter!r}", text)
        return Record(line, {name: cell.strip() for name, cell in zip(self._header, cells, strict=False)})


def _lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Lines that are not empty, with their numbers; of one that is too long, its beginning."""
    number = 0
    while line := file.readline(MAX_RECORD_BYTES + 1):
        number += 1
        rest = line
        while len(rest) > MAX_RECORD_BYTES and not rest.endswith(b"\n"):
            rest = file.readline(MAX_RECORD_BYTES + 1)
        if not line.isspace():
            yield number, line


def _json_record(number: int, line: bytes) -> Record:
    if len(line) > MAX_RECORD_BYTES:
        return Record.bad(number, f"more than {MAX_RECORD_BYTES:,} bytes in one line", line[:10_000])
    try:
        value: object = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return Record.bad(number, _NOT_UTF8.format(error.start), line)
    except (ValueError, RecursionError) as error:
        return Record.bad(number, f"not JSON: {error}", line)
    if not isinstance(value, dict):
        return Record.bad(number, f"{type(value).__name__}, not an object with title and abstract", line)
    return Record(number, cast("dict[str, Any]", value))
