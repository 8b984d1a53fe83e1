"""The one way to a file's documents."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Final, Protocol, cast

from xuankan.documents.columns import Columns
from xuankan.documents.files import File
from xuankan.documents.kinds import Kind, kind_of
from xuankan.documents.markup import tidy
from xuankan.documents.model import Document, Problem, attempt
from xuankan.errors import Unreadable

_NOTHING: Final = "there is neither a title nor an abstract in it"


class Reader(Protocol):
    """A file of one kind."""

    def count(self) -> int:
        """How many records there are, those that cannot be used among them."""
        ...

    def records(self, start: int = 0) -> Iterator[Document | Problem]:
        """The records from `start` on, from 0, in memory that does not grow with the file."""
        ...


class Opened:
    """A file whose kind is known, and its reader."""

    def __init__(self, file: File, kind: Kind, reader: Reader) -> None:
        self.file, self.kind, self._reader = file, kind, reader

    def count(self) -> int:
        """As of `Reader`."""
        return self._reader.count()

    def records(self, start: int = 0) -> Iterator[Document | Problem]:
        """As of `Reader`, tidied; a document without title and abstract is a `Problem`."""
        for found in self._reader.records(start):
            yield _checked(found)


class _Single:
    """A file that is one document."""

    def __init__(self, file: File, read: Callable[[File], Document]) -> None:
        self._file, self._read = file, read

    def count(self) -> int:
        return 1

    def records(self, start: int = 0) -> Iterator[Document | Problem]:
        if start == 0:
            yield attempt(self._attempt, 0, str)

    def _attempt(self) -> Document | Problem:
        try:
            return self._read(self._file)
        except Unreadable as error:
            return Problem.of(0, error.reason)


def open_file(file: File, columns: Columns | None = None) -> Opened:
    """Find out what a file is and make its reader ready.

    Raises:
        Unreadable: it is of no kind that is read, or nothing can be had of it.
        ModuleNotFoundError: the library of its kind is not installed; its extra is `documents`.
    """
    kind = kind_of(file)
    module, _, name = kind.reader.partition(":")
    made = getattr(import_module(f"xuankan.documents.{module}"), name)
    if kind.is_list:
        reader = cast("Callable[[File, Columns], Reader]", made)(file, columns or Columns())
    else:
        reader = _Single(file, cast("Callable[[File], Document]", made))
    return Opened(file, kind, reader)


def read(file: File, columns: Columns | None = None) -> Iterator[Document | Problem]:
    """A file's documents in their order.

    Raises:
        Unreadable: as for `open_file`.
    """
    return open_file(file, columns).records()


def _checked(found: Document | Problem) -> Document | Problem:
    if isinstance(found, Problem):
        return found
    document = tidy(found)
    if document.title or document.abstract:
        return document
    return Problem(document.line, _NOTHING, identifier=document.identifier)
