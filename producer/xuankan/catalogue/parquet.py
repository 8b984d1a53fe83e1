"""Reading Parquet tables. Needs the `data` extra."""

# pyarrow ships no types. This file is the one seam, and gives plain lists.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from xuankan.errors import CatalogueError


def read_columns(path: Path, columns: Sequence[str]) -> dict[str, list[Any]]:
    """Columns of a Parquet file by name.

    Raises:
        CatalogueError: the file cannot be read as Parquet, or lacks a column.
    """
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise CatalogueError(f"{path} cannot be read as a Parquet table: {error}") from error
    if missing := sorted(set(columns) - set(table.column_names)):
        raise CatalogueError(
            f"{path} lacks the columns {', '.join(missing)}; it has {', '.join(table.column_names)}"
        )
    return cast("dict[str, list[Any]]", table.select(list(columns)).to_pydict())


def iterate_columns(path: Path, needed: Sequence[str], known: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file, some thousand in memory at a time, with those of the known columns it has.

    Raises:
        CatalogueError: the file cannot be read as Parquet, or lacks a needed column.
    """
    try:
        file = pq.ParquetFile(path)
        names = set(file.schema_arrow.names)
        if missing := sorted(set(needed) - names):
            raise CatalogueError(
                f"{path} lacks the columns {', '.join(missing)}; it has {', '.join(sorted(names))}"
            )
        for batch in file.iter_batches(5000, columns=[name for name in known if name in names]):
            yield from cast("list[dict[str, Any]]", batch.to_pylist())
    except (OSError, pa.ArrowException) as error:
        raise CatalogueError(f"{path} cannot be read as a Parquet table: {error}") from error
