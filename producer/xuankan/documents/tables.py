"""Tables as text: commas, semicolons, tabs or bars between cells."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Final

from xuankan.documents.columns import Columns
from xuankan.documents.csv_rows import CsvRow, first_rows, rows
from xuankan.documents.encodings import Lines
from xuankan.documents.fields import document
from xuankan.documents.files import File
from xuankan.documents.headers import find_columns, fold, is_header, layout_of
from xuankan.documents.model import Document, Problem
from xuankan.errors import Unreadable

_DELIMITERS: Final = ",;\t|"
_SEP: Final = re.compile(r'\A\ufeff?"?sep=(?P<mark>.)"?\s*\Z', re.IGNORECASE)
_HEAD_ROWS: Final = 25
_TEXT_FIELDS: Final = ("title", "abstract", "keywords")


class Csv:
    """A table with a header, which need not be the first line; rows of empty cells are no records.

    Excel's `sep=;` and what Dimensions and others say before the header are skipped. Embase's tables with a
    field a row are read too.

    Raises:
        Unreadable: no header, or no column of titles or abstracts in it.
    """

    def __init__(self, file: File, columns: Columns) -> None:
        self._lines = Lines(file)
        self._columns = columns
        head = list(islice(self._lines, 4 * _HEAD_ROWS))
        self._skipped = 0
        told = ""
        if head and (sep := _SEP.match(head[0])):
            self._skipped, told, head = 1, sep["mark"], head[1:]
        self._delimiter, header = _find_header(head, told, columns)
        if header is None:
            raise Unreadable(file.name, "no header line")
        self._header_line = self._skipped + header.line
        names = [name.strip().lstrip("\ufeff").strip('"') for name in header.cells]
        while names and not names[-1]:
            names.pop()
        self._names = tuple(names)
        self._by_row = not columns.given and _is_by_row(head, self._delimiter)
        self._layout = (
            layout_of(columns, self._names) if self._by_row else find_columns(columns, names, file.name)
        )

    def count(self) -> int:
        """How many rows there are."""
        return sum(1 for _ in (self._blocks() if self._by_row else self._rows()))

    def records(self, start: int = 0) -> Iterator[Document | Problem]:
        """The rows from `start` on, from 0."""
        warning = self._lines.encoding.warning
        if self._by_row:
            found = (self._block(block) for block in islice(self._blocks(), start, None))
        else:
            found = (
                self._record(row, place)
                for place, row in enumerate(islice(self._rows(), start, None), start=start)
            )
        for one in found:
            if warning and isinstance(one, Document):
                one = replace(one, warnings=(warning, *one.warnings))
            yield one

    def _rows(self) -> Iterator[CsvRow]:
        lines = islice(iter(self._lines), self._header_line - 1, None)
        found = rows(lines, self._delimiter, len(self._names))
        next(found)  # the header
        for row in found:
            yield replace(row, line=row.line + self._header_line - 1)

    def _record(self, row: CsvRow, place: int) -> Document | Problem:
        if row.problem:
            return Problem.of(row.line, row.problem, row.text)
        width = len(self._names)
        cells = row.cells
        while len(cells) > width and not cells[-1].strip():
            cells = cells[:-1]
        warning = ""
        if len(cells) > width:
            what = f"{len(cells)} cells, but the header has {width}"
            if len(cells) == width + 1 and cells[0].strip() == str(place + 1):
                cells = cells[1:]  # R numbers rows under no header
            elif '"' in row.text or len(self._names) == 1:
                cells, warning = self._aligned(cells), f"{what}: please check it"
            else:
                return Problem.of(row.line, f"{what}: quote cells that hold {self._delimiter!r}", row.text)
        found = document(self._layout, cells, row.line, lambda: row.text)
        if warning and isinstance(found, Document):
            return replace(found, warnings=(*found.warnings, warning))
        return found

    def _aligned(self, cells: Sequence[str]) -> list[str]:
        """Texts by their place from the left, what stands behind them from the right.

        Scopus gives a second funding text a cell and no column; title and abstract stand before it.
        """
        last = max(
            place
            for field in _TEXT_FIELDS
            for choice in self._layout.places.get(field, ())
            for place in choice
        )
        return [*cells[: last + 1], *cells[last + 1 + len(cells) - len(self._names) :]]

    def _blocks(self) -> Iterator[list[CsvRow]]:
        """Embase's records, each from the row of its title on."""
        block: list[CsvRow] = []
        for row in rows(islice(iter(self._lines), self._skipped, None), self._delimiter, 0):
            if row.cells and fold(row.cells[0]) == "title" and block:
                yield block
                block = []
            if block or (row.cells and fold(row.cells[0]) == "title"):
                block.append(replace(row, line=row.line + self._skipped))
        if block:
            yield block

    def _block(self, block: Sequence[CsvRow]) -> Document | Problem:
        names = tuple(row.cells[0] if row.cells else "" for row in block)
        values = [
            "; ".join(row.cells[1:])
            if "keyword" in fold(name) or "term" in fold(name)
            else " ".join(row.cells[1:])
            for name, row in zip(names, block, strict=True)
        ]
        return document(layout_of(self._columns, names), values, block[0].line, lambda: block[0].text)


def _find_header(head: list[str], told: str, columns: Columns) -> tuple[str, CsvRow | None]:
    """The delimiter and the row of the header: the first that looks like one, else the first at all."""
    given = {name for _, name in columns.given}
    best: tuple[int, int, str, CsvRow] | None = None
    for delimiter in told or _DELIMITERS:
        for place, row in enumerate(first_rows(iter(head), delimiter, _HEAD_ROWS)):
            fits = bool(given) and given <= {cell.strip().strip("\ufeff") for cell in row.cells}
            if fits or is_header([cell.strip("\ufeff") for cell in row.cells]):
                found = (-place, len(row.cells), delimiter, row)
                if best is None or found[:2] > best[:2]:
                    best = found
                break
    if best is not None:
        return best[2], best[3]
    first = next((line for line in head if line.strip()), "")
    delimiter = told or max(_DELIMITERS, key=first.count)
    return delimiter, next(iter(first_rows(iter(head), delimiter, 1)), None)


def _is_by_row(head: list[str], delimiter: str) -> bool:
    """Embase writes a field a row: its name, then what it holds."""
    names = [fold(row.cells[0]) for row in first_rows(iter(head), delimiter, _HEAD_ROWS) if row.cells]
    return names[:1] == ["title"] and bool({"abstract", "author names", "source", "authors"} & set(names[1:]))
