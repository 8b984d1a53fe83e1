"""The table of papers that an import of a snapshot writes. Needs the `data` extra.

Its columns are those that `catalogue import --papers`, `model corpus` and `model prepare` read.
"""

# pyarrow ships no types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

SOURCE = "openalex"
_TEXTS = ("title", "abstract", "journal", "doi", "arxiv_id", "source", "split", "arxiv_categories")
_SCHEMA = pa.schema([*((name, pa.string()) for name in _TEXTS), ("year", pa.int16())])
_ROWS = 5000
_SPLITS = {0: "dev", 1: "test"}
"""By number modulo 50; all others are for training."""


def rows_of(part: Path, numbers: NDArray[np.int64]) -> Iterator[dict[str, Any]]:
    """The papers of a part that have these numbers (ascending), in the part's order, each once."""
    seen: set[int] = set()
    for batch in pq.ParquetFile(part).iter_batches(_ROWS) if len(numbers) else ():
        number = batch.column("number").to_numpy()
        at = np.minimum(np.searchsorted(numbers, number), len(numbers) - 1)
        chosen = pa.array(numbers[at] == number)
        for row in cast("list[dict[str, Any]]", batch.filter(chosen).to_pylist()):
            if row["number"] not in seen:
                seen.add(row["number"])
                yield row


class PapersTable:
    """Writes papers one by one; the file appears when all are written.

    Attributes:
        papers: written so far.
    """

    def __init__(self, path: Path) -> None:
        self.papers = 0
        self._path, self._partial = path, path.with_suffix(".partial")
        self._writer = pq.ParquetWriter(self._partial, _SCHEMA, compression="zstd")
        self._rows: list[dict[str, Any]] = []

    def add(self, row: dict[str, Any], journal: str) -> None:
        """Add a paper as a part has it, of the journal of an ISSN."""
        self._rows.append(
            {
                "title": row["title"],
                "abstract": row["abstract"],
                "journal": journal,
                "doi": row["doi"] or None,
                "arxiv_id": None,
                "source": SOURCE,
                "split": _SPLITS.get(row["number"] % 50, "train"),
                "arxiv_categories": None,
                "year": row["year"],
            }
        )
        self.papers += 1
        if len(self._rows) >= _ROWS:
            self._write()

    def _write(self) -> None:
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=_SCHEMA))
            self._rows.clear()

    def __enter__(self) -> PapersTable:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._write()
        self._writer.close()
        if kind is None:
            self._partial.replace(self._path)
        else:
            self._partial.unlink(missing_ok=True)
