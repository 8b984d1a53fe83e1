"""Reading tables that people made: CSV and JSON Lines, with errors that name the row."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from xuankan.bounded import TooLarge, read_bounded
from xuankan.errors import CatalogueError

MAX_TABLE_BYTES = 512 * 2**20
"""DOAJ's and SCImago's have 10 to 60 MB."""


def read_text(path: Path) -> str:
    """A text file in UTF-8, with or without a byte order mark.

    Raises:
        CatalogueError: it cannot be read, is too large, or is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            return read_bounded(file, MAX_TABLE_BYTES).decode("utf-8-sig")
    except OSError as error:
        raise CatalogueError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise CatalogueError(
            f"{path} is not UTF-8 (byte {error.start} is {error.object[error.start]:#04x}); save it as UTF-8"
        ) from error
    except TooLarge as error:
        raise CatalogueError(f"{path}: {error}; is it a table of journals?") from None


def read_csv(path: Path) -> tuple[list[str], Iterator[tuple[int, dict[str, str]]]]:
    """The header of a CSV file with commas, semicolons or tabs, and its rows with their line numbers.

    Values are stripped; rows of nothing but empty cells are skipped.

    Raises:
        CatalogueError: unreadable, no header, a column named twice, or (while iterating) a row that is longer
        than
            the header or cannot be parsed.
    """
    text = read_text(path)
    first_line = text.partition("\n")[0]
    delimiter = max(",;\t", key=first_line.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = [name.strip() for name in next(reader)]
    except (StopIteration, csv.Error) as error:
        raise CatalogueError(f"{path} has no header line") from error
    while header and not header[-1]:
        header.pop()
    if not header:
        raise CatalogueError(f"{path} has no header line")
    if twice := [name for name in header if header.count(name) > 1]:
        raise CatalogueError(f"{path}: the column {twice[0]!r} occurs twice in the header")

    def rows() -> Iterator[tuple[int, dict[str, str]]]:
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise CatalogueError(f"{path}, line {reader.line_num}: {error}") from error
            values = [cell.strip() for cell in cells]
            if not any(values):
                continue
            if any(values[len(header) :]):
                raise CatalogueError(
                    f"{path}, line {reader.line_num}: {len(values)} cells, but the header has {len(header)}; "
                    f"quote cells that hold {delimiter!r}"
                )
            yield reader.line_num, dict(zip(header, values, strict=False))

    return header, rows()


def read_jsonl(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The objects of a JSON Lines file with their line numbers; empty lines are skipped.

    Raises:
        CatalogueError: unreadable, or a line that is no JSON object.
    """
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row: Any = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise CatalogueError(f"{path}, line {number} is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise CatalogueError(f"{path}, line {number} is not a JSON object: {line.strip()[:60]!r}")
        yield number, cast("Mapping[str, Any]", row)
