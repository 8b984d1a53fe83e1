"""Manuscripts from files and standard input."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from xuankan.bounded import TooLarge, read_bounded
from xuankan.documents import Document, File, Problem
from xuankan.documents.model import MAX_DOCUMENT_BYTES, NO_RECORD
from xuankan.errors import InputError, Unreadable

if TYPE_CHECKING:
    from xuankan.documents.confined import ConfinedFile

Beside = Callable[["Document | Problem", bool], "Document | Problem"]
STDIN: Final = "<stdin>"


def given_file(name: str) -> File:
    """The file that a command was given; `-` is standard input.

    Raises:
        Unreadable: standard input holds too much.
    """
    if name != "-":
        return File.at(Path(name))
    try:
        return File(STDIN, data=read_bounded(sys.stdin.buffer, MAX_DOCUMENT_BYTES))
    except TooLarge as error:
        raise Unreadable(STDIN, f"{error}: give the file's name instead") from None


def records_of(opened: ConfinedFile) -> Iterator[Document | Problem]:
    """A file's records, at least one.

    Raises:
        Unreadable: there is none.
    """
    records = opened.records()
    if (first := next(records, None)) is None:
        raise Unreadable(opened.file.name, NO_RECORD)
    yield first
    yield from records


def beside(references: str | None) -> Beside:
    """Puts the reference list of a file, if there is one, in the place of a manuscript's own.

    The function takes what was read, and whether its file is a list of records.

    Raises:
        Unreadable: the file lists no references.
        InputError: from the function, for a record of a list: one reference list belongs to one manuscript.
    """
    from xuankan.documents.confined import ConfinedReaders

    listed = None
    if references is not None:
        with ConfinedReaders() as readers:
            listed = readers.references(given_file(references))

    def put(found: Document | Problem, is_list: bool) -> Document | Problem:
        if listed is None:
            return found
        if is_list:
            raise InputError(
                "references", f"{references} belongs to one manuscript: give a paper, not a list of records"
            )
        if isinstance(found, Problem):
            return found
        return replace(found, references=listed.references, warnings=(*found.warnings, *listed.warnings))

    return put
