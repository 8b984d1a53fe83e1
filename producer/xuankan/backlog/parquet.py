"""Parquet tables, written a piece at a time."""

# pyarrow ships no types. This file is the one seam of writers.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast

import pyarrow as pa
import pyarrow.parquet as pq

_GROUP_ROWS: Final = 8_192
"""Rows of a row group that is written: about 25 MB of ten journals each before compression."""
# System malloc gives memory back; Arrow's own pools keep what a large row group once took.
pa.set_memory_pool(pa.system_memory_pool())

_TEXTS: Final = pa.list_(pa.string())
_PAPER: Final = pa.struct(
    [
        pa.field("title", pa.string()),
        pa.field("year", pa.int32()),
        pa.field("link", pa.string()),
        pa.field("nearness", pa.float64()),
    ]
)
_SCHEMA: Final = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("id", pa.string()),
        pa.field("source", pa.string()),
        pa.field("title", pa.string()),
        pa.field(
            "journals",
            pa.list_(
                pa.struct(
                    [
                        pa.field("rank", pa.int32()),
                        pa.field("score", pa.float64()),
                        pa.field("id", pa.string()),
                        pa.field("title", pa.string()),
                        pa.field("publisher", pa.string()),
                        pa.field("issns", _TEXTS),
                        pa.field("open_access", pa.string()),
                        pa.field("apc_usd", pa.float64()),
                        pa.field("subjects", _TEXTS),
                        pa.field("homepage", pa.string()),
                        pa.field("nearness", pa.float64()),
                        pa.field("papers", pa.list_(_PAPER)),
                        pa.field("cited", pa.int32()),
                    ]
                )
            ),
        ),
        pa.field("scored", pa.int32()),
        pa.field("rows", pa.int32()),
        pa.field("fit", pa.float64()),
        pa.field("release", pa.string()),
        pa.field("warnings", _TEXTS),
    ]
)


def begin() -> bytes:
    """The head of an Arrow stream of rankings, which can be cut at any piece's end and gone on with."""
    return cast(bytes, _SCHEMA.serialize().to_pybytes())


def piece(rankings: Sequence[Mapping[str, Any]]) -> bytes:
    """Rankings as a piece of the stream."""
    return cast(bytes, pa.RecordBatch.from_pylist(list(rankings), schema=_SCHEMA).serialize().to_pybytes())


def convert(stream: Path, out: Path) -> None:
    """Write the stream's rankings as a Parquet table."""
    with pa.OSFile(str(stream)) as source, pq.ParquetWriter(out, _SCHEMA, compression="zstd") as writer:
        batches: list[Any] = []
        rows = 0
        for batch in pa.ipc.open_stream(source):
            batches.append(batch)
            rows += batch.num_rows
            if rows >= _GROUP_ROWS:
                writer.write_table(pa.Table.from_batches(batches, schema=_SCHEMA))
                batches, rows = [], 0
        if batches:
            writer.write_table(pa.Table.from_batches(batches, schema=_SCHEMA))
