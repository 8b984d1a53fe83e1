"""Parquet tables, read a piece at a time."""

# pyarrow ships no types. This file is the one seam of readers, and gives plain values.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, cast

import pyarrow as pa
import pyarrow.parquet as pq

from xuankan.documents.columns import Columns
from xuankan.documents.fields import document
from xuankan.documents.files import File
from xuankan.documents.headers import find_columns, layout_of
from xuankan.documents.model import Document, Problem
from xuankan.errors import Unreadable

_READ_ROWS: Final = 256
# System malloc gives memory back; Arrow's own pools keep what a large row group once took.
pa.set_memory_pool(pa.system_memory_pool())


class Parquet:
    """A Parquet table.

    Raises:
        Unreadable: it cannot be read, or has no column of titles or abstracts.
    """

    def __init__(self, file: File, columns: Columns) -> None:
        self._file = file
        try:
            with file.open() as handle, pq.ParquetFile(handle) as table:
                self._rows = [
                    int(table.metadata.row_group(group).num_rows) for group in range(table.num_row_groups)
                ]
                names = cast("list[str]", table.schema_arrow.names)
        except (OSError, ValueError, pa.ArrowException) as error:
            raise Unreadable(file.name, f"cannot be read as a Parquet table: {error}") from error
        layout = find_columns(columns, names, file.name)
        used = {place for choices in layout.places.values() for choice in choices for place in choice}
        self._names = [names[place] for place in sorted(used)]
        self._layout = layout_of(columns, tuple(self._names))

    def count(self) -> int:
        """How many rows there are."""
        return sum(self._rows)

    def records(self, start: int = 0) -> Iterator[Document | Problem]:
        """The rows from `start` on, from 0.

        Raises:
            Unreadable: a row group is damaged.
        """
        first, group = 0, 0
        while group < len(self._rows) and first + self._rows[group] <= start:
            first += self._rows[group]
            group += 1
        place, groups = first, list(range(group, len(self._rows)))
        try:
            with self._file.open() as handle, pq.ParquetFile(handle, pre_buffer=False) as table:
                for batch in table.iter_batches(_READ_ROWS, row_groups=groups, columns=self._names):
                    if place + batch.num_rows <= start:
                        place += batch.num_rows
                        continue
                    for row in cast("list[dict[str, Any]]", batch.to_pylist()):
                        place += 1
                        if place > start:
                            yield self._record(row, place)
        except (OSError, ValueError, pa.ArrowException) as error:
            raise Unreadable(self._file.name, f"cannot be read after row {place:,}: {error}") from error

    def _record(self, row: dict[str, Any], place: int) -> Document | Problem:
        return document(self._layout, [row.get(name) for name in self._names], place, lambda: str(row))
