"""Rows of delimited text, strict where it is right, and mended where exports do not double their quotes."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Final

from xuankan.documents.model import MAX_RECORD_BYTES

_MAX_MENDED_LINES: Final = 500


@dataclass(frozen=True, slots=True)
class CsvRow:
    """One row.

    Attributes:
        line: where it begins, from 1.
        cells: what it holds; empty if it cannot be read.
        problem: why not.
        text: its beginning, if it was mended or cannot be read.
    """

    line: int
    cells: list[str]
    problem: str = ""
    text: str = ""


class _Replay:
    """Lines that can be given back."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self._back: list[str] = []  # the next one last
        self.number = 0
        self.taken: list[str] = []

    def __iter__(self) -> _Replay:
        return self

    def __next__(self) -> str:
        line = self._back.pop() if self._back else next(self._lines)
        self.number += 1
        self.taken.append(line)
        return line

    def give_back(self, kept: int) -> None:
        """All that were taken but the first `kept`."""
        back = self.taken[kept:]
        self._back.extend(reversed(back))
        self.number -= len(back)
        del self.taken[kept:]


def rows(lines: Iterator[str], delimiter: str, width: int) -> Iterator[CsvRow]:
    """The rows of a table that are not empty.

    Args:
        lines: with their ends, those of Unix.
        delimiter: what stands between cells.
        width: how many columns the header has; 0 if that is not known.
    """
    csv.field_size_limit(MAX_RECORD_BYTES)  # for the process: the default is short of some abstracts
    replay = _Replay(lines)
    reader = csv.reader(replay, delimiter=delimiter, strict=True)
    while True:
        replay.taken.clear()
        begun = replay.number + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            found = _mend(replay.taken[:_MAX_MENDED_LINES], delimiter, width)
            if found is None:
                text = replay.taken[0]
                replay.give_back(1)
                yield CsvRow(begun, [], f"no CSV: {error}; double the quotes inside of cells", text)
                continue
            cells, used = found
            text = "".join(replay.taken[:used])
            replay.give_back(used)
            yield CsvRow(begun, cells, text=text)
            continue
        if any(cells):
            yield CsvRow(begun, cells, text=replay.taken[0])


def _mend(lines: list[str], delimiter: str, width: int) -> tuple[list[str], int] | None:
    """Cells of a row whose quotes are not doubled, or not closed, and how many lines it has.

    What gives as many cells as the header has is right: a line by itself, quotes being plain text in it or
    not; else several lines.
    """
    plain = [_bare(cell) for cell in lines[0].rstrip("\n").split(delimiter)]
    if delimiter == "\t" and len(plain) == width:  # Web of Science quotes nothing
        return plain, 1
    text = "".join(lines)
    for source in (lines[0], text) if len(lines) > 1 else (text,):
        for pattern in _closings(delimiter):
            cells, end = _lenient(source, delimiter, pattern)
            if cells and width in (0, len(cells)):
                return cells, max(1, text.count("\n", 0, end))
    if len(plain) == width:
        return plain, 1
    cells, _ = _lenient(lines[0], delimiter, _closings(delimiter)[0])
    return (cells, 1) if len(cells) > width else None


@lru_cache(maxsize=8)
def _closings(delimiter: str) -> tuple[re.Pattern[str], ...]:
    """What ends a quoted cell, the strictest first: a cell that is quoted too, no space, any delimiter."""
    mark = re.escape(delimiter)
    return tuple(
        re.compile(rf'\\"|""(?!\s*(?:{mark}|\n|\Z))|"(?=[^\S\n]*(?:{after}|\n|\Z))')
        for after in (rf'{mark}\s*(?:["\d{mark}]|\Z)', rf"{mark}(?! )", mark)
    )


def _lenient(text: str, delimiter: str, closing: re.Pattern[str]) -> tuple[list[str], int]:
    """Cells of the first row, and where it ends; no cells if a quote is never closed."""
    bare = re.compile(rf"[^{re.escape(delimiter)}\n]*")
    cells: list[str] = []
    at = 0
    while True:
        start = at
        while text[at : at + 1] == " ":
            at += 1
        if text[at : at + 1] == '"':
            ends = (end for end in closing.finditer(text, at + 1) if end[0] == '"')
            if (end := next(ends, None)) is None:
                return [], 0
            cells.append(text[at + 1 : end.start()].replace('\\"', '"').replace('""', '"'))
            at = end.end()
            while text[at : at + 1] not in (delimiter, "\n", ""):
                at += 1
        else:
            found = bare.match(text, start)
            at = found.end() if found else start
            cells.append(text[start:at])
        if text[at : at + 1] != delimiter:
            return cells, at + 1
        at += 1


def _bare(cell: str) -> str:
    """A cell without the quotes around it."""
    cell = cell.strip()
    if len(cell) > 1 and cell[0] == cell[-1] == '"':
        cell = cell[1:-1].replace('""', '"')
    return cell


def first_rows(lines: Iterator[str], delimiter: str, count: int) -> list[CsvRow]:
    """The first rows of a table of unknown columns."""
    return list(islice(rows(lines, delimiter, 0), count))
