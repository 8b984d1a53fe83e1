"""Where a snapshot's files are, and their lines."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import urlsplit

from xuankan.errors import CatalogueError

Entity = Literal["works", "sources"]
MAX_LINE_BYTES = 64 * 2**20
"""A work with thousands of authors has some megabytes."""


def parts(snapshot: Path, entity: Entity) -> list[Path]:
    """The files of an entity, those of the latest changes first.

    Args:
        snapshot: the directory that `aws s3 sync s3://openalex` filled, or its `data`, or `data/jsonl`.
        entity: which.

    Raises:
        CatalogueError: there are none, or one that the manifest lists is missing or was not copied to its end.
    """
    for folder in (snapshot, snapshot / "data", snapshot / "data" / "jsonl"):
        found = sorted((folder / entity).glob("updated_date=*/*.gz"), reverse=True)
        if found:
            _check(folder / entity, found)
            return found
    raise CatalogueError(
        f"{snapshot} is no OpenAlex snapshot: neither it nor its data/ holds {entity}/updated_date=…/*.gz"
    )


def _check(folder: Path, found: list[Path]) -> None:
    manifest = folder / "manifest"
    if not manifest.exists():
        return
    try:
        entries: Any = json.loads(manifest.read_bytes())["entries"]
        listed = {
            folder.joinpath(*urlsplit(str(entry["url"])).path.split("/")[-2:]): entry["meta"][
                "content_length"
            ]
            for entry in entries
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CatalogueError(f"{manifest} cannot be read as a manifest: {error}") from error
    if missing := sorted(set(listed) - set(found)):
        raise CatalogueError(
            f"{len(missing):,} of the {len(listed):,} files that {manifest} lists are missing, the first is "
            f"{missing[0]}: copy the snapshot again, or delete the manifest to import what is there"
        )
    for path in found:
        size, whole = path.stat().st_size, listed.get(path)
        if whole is not None and size != whole:
            raise CatalogueError(
                f"{path} has {size:,} bytes, but {manifest} says {whole:,}: it was not copied to its end"
            )


def records(path: Path) -> Iterator[dict[str, Any] | None]:
    """The records of a file; None for each line that is no JSON object.

    Raises:
        CatalogueError: it cannot be read to its end.
    """
    try:
        with gzip.open(path) as lines:
            while line := lines.readline(MAX_LINE_BYTES):
                if not line.strip():
                    continue
                try:
                    row: Any = json.loads(line)
                except (ValueError, RecursionError):
                    row = None
                yield cast("dict[str, Any]", row) if isinstance(row, dict) else None
    except (OSError, EOFError, zlib.error) as error:
        raise CatalogueError(f"{path} cannot be read to its end ({error}): copy it again") from error
