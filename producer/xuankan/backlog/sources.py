"""Which files a backlog is, what is in them, and their rows in order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Self

from xuankan.backlog.rows import Row
from xuankan.documents import Columns, File, Problem
from xuankan.documents.confined import ConfinedReaders
from xuankan.documents.kinds import SUFFIXES, kind_of
from xuankan.documents.reading import Reader
from xuankan.errors import InputError, Unreadable

_MISSING: Final = Problem(0, "not read, because the file could not be read to its end")
_PROSE: Final = frozenset({"text", "markdown"})
"""In a directory these are notes rather than manuscripts, unless there is something else in them."""


@dataclass(frozen=True, slots=True)
class Source:
    """One file: its name as it was given, its reader, how many rows it has, and the hash of its bytes."""

    name: str
    reader: Reader
    rows: int
    digest: str


class _Refused:
    """A file of a directory that cannot be read: one row."""

    def __init__(self, reason: str) -> None:
        self._problem = Problem(0, reason)

    def count(self) -> int:
        return 1

    def records(self, start: int = 0) -> Iterator[Problem]:
        yield from (self._problem,)[start:]


@dataclass(frozen=True, slots=True)
class Shard:
    """One of `of` ranges of a backlog, as long as each other give or take a row; `index` counts from 0."""

    index: int = 0
    of: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """From `K/N`.

        Raises:
            InputError: not such a text, or K is not from 0 to N - 1.
        """
        index, slash, of = text.partition("/")
        if not (slash and index.isdecimal() and of.isdecimal() and int(index) < int(of)):
            raise InputError("shard", f"{text!r}: give K/N with K from 0 to N-1, as 0/16")
        return cls(int(index), int(of))

    def bounds(self, total: int) -> tuple[int, int]:
        """The first row and the one after the last, from 0."""
        return total * self.index // self.of, total * (self.index + 1) // self.of


@dataclass(frozen=True, slots=True)
class Backlog:
    """Files of manuscripts, one after the other; `close` it, or use it as a context manager."""

    sources: tuple[Source, ...]
    columns: Columns
    readers: ConfinedReaders

    @classmethod
    def open(cls, paths: Sequence[Path], columns: Columns | None = None) -> Backlog:
        """Look through files, and directories of them: by name, with what is in their subdirectories.

        Every file is read, to count its rows and to recognize it: a gigabyte takes a minute. A file of a
        directory that cannot be read is one row without a ranking.

        Raises:
            InputError: a file that was named cannot be read, is of no known kind, or there is none; a table
                without a column of titles or abstracts.
        """
        columns, readers = columns or Columns(), ConfinedReaders()
        try:
            sources = tuple(_source(path, named, columns, readers) for path, named in _files(paths))
        except BaseException:
            readers.close()
            raise
        return cls(sources, columns, readers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes that read the files."""
        self.readers.close()

    @property
    def total(self) -> int:
        """Rows of all files."""
        return sum(source.rows for source in self.sources)

    @property
    def digest(self) -> str:
        """Of names and bytes of all files, in their order; directories do not matter."""
        told = [(Path(source.name).name, source.digest) for source in self.sources]
        return hashlib.blake2b(repr(told).encode(), digest_size=16).hexdigest()

    def rows(self, start: int = 0, stop: int | None = None) -> Iterator[Row]:
        """The rows from `start` on, from 0, to before `stop`.

        Raises:
            InputError: a file cannot be read any more.
        """
        first = 0
        stop = self.total if stop is None else min(stop, self.total)
        for source in self.sources:
            if first >= stop:
                return
            skipped = max(0, start - first)
            if skipped < source.rows:
                number = first + skipped
                for record in source.reader.records(skipped):
                    if number == min(stop, first + source.rows):
                        break
                    number += 1
                    yield Row.of(number, source.name, record)
                # Whatever a file does, the rows of the next keep the numbers that were counted.
                for missing in range(number + 1, min(stop, first + source.rows) + 1):
                    yield Row.of(missing, source.name, _MISSING)
            first += source.rows


def _source(path: Path, named: bool, columns: Columns, readers: ConfinedReaders) -> Source:
    try:
        reader: Reader = readers.open(File.at(path), columns)
        rows = reader.count()
    except Unreadable as error:
        if named:
            raise
        reader, rows = _Refused(error.reason), 1
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, partial(hashlib.blake2b, digest_size=16))
    except OSError as error:
        raise InputError(str(path), f"cannot be read: {error.strerror or error}") from error
    return Source(str(path), reader, rows, digest.hexdigest())


def check_apart(paths: Sequence[Path], out: Path) -> None:
    """Check that writing `out` does not change the backlog.

    Raises:
        InputError: it is one of the files, or in one of the directories.
    """
    made = out.resolve()
    for path in paths:
        if path.is_dir() and made.is_relative_to(path.resolve()):
            raise InputError("out", f"{out} is inside the backlog directory {path}: choose another place")
        if made == path.resolve():
            raise InputError("out", f"{out} is the backlog itself: name another file")


def _files(paths: Sequence[Path]) -> Iterator[tuple[Path, bool]]:
    """Each file, and whether it was named itself."""
    for path in paths:
        if not path.is_dir():
            yield path, True
            continue
        found = [
            one
            for one in sorted(path.rglob("*"))
            if one.suffix.lower() in SUFFIXES
            and one.is_file()
            and not any(part.startswith(".") for part in one.relative_to(path).parts)
            and not (SUFFIXES[one.suffix.lower()] in _PROSE and _is_prose(one))
        ]
        if not found:
            raise InputError(str(path), f"no file in it ends in one of {', '.join(SUFFIXES)}")
        yield from ((one, False) for one in found)


def _is_prose(path: Path) -> bool:
    try:
        return kind_of(File.at(path)).name in _PROSE
    except Unreadable:
        return True  # an empty one
