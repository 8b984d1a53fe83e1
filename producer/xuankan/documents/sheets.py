"""Spreadsheets: .xlsx, .xlsb, .xls and .ods, through calamine, which takes what Excel takes."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from io import BytesIO
from itertools import islice
from typing import Any, Final

from python_calamine import CalamineError, CalamineWorkbook

from xuankan.documents.columns import Columns
from xuankan.documents.fields import document
from xuankan.documents.files import File
from xuankan.documents.headers import TableLayout, find_columns, is_header
from xuankan.documents.model import Document, Problem
from xuankan.errors import Unreadable

_MAX_UNZIPPED_BYTES: Final = 2**30
_HEAD_ROWS: Final = 25


@dataclass(frozen=True, slots=True)
class _Table:
    """A sheet with a header: its rows behind it, and the number of the first of them in the sheet, from 1."""

    rows: list[list[Any]]
    first: int
    layout: TableLayout


class Sheet:
    """A spreadsheet: the rows of every sheet that has a header with titles or abstracts.

    The file is in memory as a whole while it is open: its texts stand in a list apart from the cells.

    Raises:
        Unreadable: it is damaged, locked, too large inside, or has no column of titles or abstracts.
    """

    def __init__(self, file: File, columns: Columns) -> None:
        data = file.whole()
        _check_size(file.name, data)
        sheets = list(_sheets(file.name, data))
        self._tables = [
            table for rows, first in sheets if (table := _table(rows, first, columns, file.name)) is not None
        ]
        if not self._tables:
            if not sheets:
                raise Unreadable(file.name, "no row in any of its sheets")
            rows, _ = sheets[0]
            find_columns(columns, [_text(cell) for cell in rows[0]], file.name)
            raise Unreadable(file.name, "no row under the header of any of its sheets")

    def count(self) -> int:
        """How many rows there are."""
        return sum(1 for _ in self._rows())

    def records(self, start: int = 0) -> Iterator[Document | Problem]:
        """The rows from `start` on, from 0."""
        for number, cells, layout in islice(self._rows(), start, None):
            yield document(layout, cells, number, lambda cells=cells: "; ".join(filter(None, cells)))

    def _rows(self) -> Iterator[tuple[int, list[str], TableLayout]]:
        for table in self._tables:
            for number, row in enumerate(table.rows, start=table.first):
                cells = [_text(cell) for cell in row]
                if any(cells):
                    yield number, cells, table.layout


def _sheets(name: str, data: bytes) -> Iterator[tuple[list[list[Any]], int]]:
    """Each sheet's rows from its first used one on, and that one's number."""
    try:
        workbook = CalamineWorkbook.from_filelike(BytesIO(data))
        for sheet in workbook.sheet_names:
            found = workbook.get_sheet_by_name(sheet)
            rows = found.to_python(skip_empty_area=True)
            if rows:
                yield rows, (found.start[0] if found.start else 0) + 1
    except (CalamineError, OSError, ValueError) as error:
        raise Unreadable(name, f"cannot be read as a spreadsheet: {error}") from error
    except BaseException as error:
        if type(error).__module__ != "pyo3_runtime":  # a panic of calamine, which is no Exception
            raise
        raise Unreadable(name, "a damaged spreadsheet: save it again, or as .csv") from None


def _table(rows: list[list[Any]], first: int, columns: Columns, name: str) -> _Table | None:
    given = {named for _, named in columns.given}
    for place, row in enumerate(rows[:_HEAD_ROWS]):
        cells = [_text(cell) for cell in row]
        if (given and given <= set(cells)) or (not given and is_header(cells)):
            return _Table(rows[place + 1 :], first + place + 1, find_columns(columns, cells, name))
    header = [_text(cell) for cell in rows[0]]
    try:
        layout = find_columns(columns, header, name)
    except Unreadable:
        return None
    return _Table(rows[1:], first + 1, layout)


def _text(cell: Any) -> str:
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    if isinstance(cell, date | datetime | time | timedelta):
        return str(cell)
    return "" if cell is None else str(cell).strip()


def _check_size(name: str, data: bytes) -> None:
    if not data.startswith(b"PK"):
        return
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            size = sum(info.file_size for info in archive.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise Unreadable(name, f"a damaged spreadsheet ({error})") from None
    if size > _MAX_UNZIPPED_BYTES:
        raise Unreadable(name, f"it has more than {_MAX_UNZIPPED_BYTES // 2**20} MiB inside: save it as .csv")
