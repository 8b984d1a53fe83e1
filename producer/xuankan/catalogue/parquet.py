"""Reading Parquet tables. Needs the `data` extra."""

# pyarrow ships no types. This file is the one seam, and gives plain lists.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from xuankan.errors import CatalogueError


def read_columns(path: Path, columns: Sequence[str], optional: Sequence[str] = ()) -> dict[str, list[Any]]:
    """Columns of a Parquet file by name.

    Args:
        path: the file.
        columns: that it must have.
        optional: that it may have; those that it lacks are left out.

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
    wanted = [*columns, *(name for name in optional if name in table.column_names)]
    return cast("dict[str, list[Any]]", table.select(wanted).to_pydict())
