"""One file of works becomes one table of papers, so that an interrupted import goes on. Needs `data`."""

# pyarrow ships no types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
from __future__ import annotations

import json
from collections.abc import Container
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from xuankan.catalogue.openalex.records import WorkFilter, journal_of, source_of, work_of
from xuankan.catalogue.openalex.snapshot import records
from xuankan.errors import CatalogueError

_SCHEMA = pa.schema(
    [
        ("number", pa.int64()),
        ("source", pa.dictionary(pa.int32(), pa.string())),
        ("title", pa.string()),
        ("abstract", pa.string()),
        ("year", pa.int16()),
        ("language", pa.dictionary(pa.int32(), pa.string())),
        ("doi", pa.string()),
    ]
)
_ROWS = 5000
"""Papers held in memory until they are written."""
_ABOUT = b"xuankan"


@dataclass(frozen=True, slots=True)
class PartReport:
    """What a file of works held.

    Attributes:
        records: lines of it.
        malformed: of them, that are no JSON objects.
        taken: of them, papers that pass the filter.
    """

    records: int = 0
    malformed: int = 0
    taken: int = 0


def part_file(folder: Path, path: Path) -> Path:
    """Where the papers of a file of works are kept."""
    return folder / f"{path.parent.name}_{path.name.removesuffix('.gz')}.parquet"


def convert(path: Path, out: Path, wanted: WorkFilter, journals: Container[str]) -> None:
    """Write the wanted papers of a file of works. The result appears whole or not at all.

    Args:
        path: of the snapshot.
        out: to write.
        wanted: see there.
        journals: OpenAlex ids of known journals. Journals that only works name are described in the result.

    Raises:
        CatalogueError: the file cannot be read to its end, or the result cannot be written.
    """
    partial = out.with_suffix(".partial")
    seen = malformed = taken = 0
    others: dict[str, dict[str, Any]] = {}
    rows: dict[str, list[Any]] = {name: [] for name in _SCHEMA.names}
    try:
        with pq.ParquetWriter(partial, _SCHEMA, compression="zstd") as writer:
            for record in records(path):
                seen += 1
                if record is None:
                    malformed += 1
                    continue
                work = work_of(record, wanted)
                if work is None or not _has_journal(work.source, journals, others, record):
                    continue
                taken += 1
                for name, column in rows.items():
                    column.append(getattr(work, name))
                if len(rows["number"]) >= _ROWS:
                    _write(writer, rows)
            _write(writer, rows)
            about = {**asdict(PartReport(seen, malformed, taken)), "journals": list(others.values())}
            writer.add_key_value_metadata({_ABOUT: json.dumps(about).encode()})
        partial.replace(out)
    except OSError as error:
        raise CatalogueError(f"{out} cannot be written: {error.strerror or error}") from error


def _has_journal(
    source: str, known: Container[str], others: dict[str, dict[str, Any]], record: dict[str, Any]
) -> bool:
    if source in known or source in others:
        return True
    if (row := journal_of(source_of(record))) is None:
        return False
    others[source] = row
    return True


def _write(writer: pq.ParquetWriter, rows: dict[str, list[Any]]) -> None:
    if rows["number"]:
        writer.write_table(pa.table(rows, schema=_SCHEMA))
    for column in rows.values():
        column.clear()


def about(part: Path) -> tuple[PartReport, list[dict[str, Any]]]:
    """What a part says of itself: its report, and the journals that only its works name.

    Raises:
        CatalogueError: it was not written by `convert`.
    """
    try:
        found: dict[str, Any] = json.loads(pq.ParquetFile(part).metadata.metadata[_ABOUT])
        journals = found.pop("journals")
        return PartReport(**found), journals
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise CatalogueError(
            f"{part} is no part of an import ({error}): delete it, and import again"
        ) from error


@dataclass(frozen=True, slots=True)
class Keys:
    """Of the papers of a part, what decides which are kept: columns of one length, and the sources' ids."""

    number: NDArray[np.int64]
    source: list[str]
    year: NDArray[np.int16]
    language: list[str]


def keys(part: Path) -> Keys:
    """The small columns of a part."""
    table = pq.read_table(part, columns=["number", "source", "year", "language"])
    return Keys(
        table["number"].to_numpy(),
        table["source"].to_pylist(),
        table["year"].to_numpy(),
        table["language"].to_pylist(),
    )
