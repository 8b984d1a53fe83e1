"""`python -m xuankan.documents.confined_child`: reads files for the commands, one call after the other.

This is the process that may die: of an endless loop, of too much memory, of a fault in a library. `confined`
starts it, asks it, and goes on without it. Both speak msgpack, not pickle: nothing that is said by a process
that reads strangers' files may be run.
"""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import msgpack

from xuankan.bounded import confine
from xuankan.documents.columns import Columns
from xuankan.documents.files import File
from xuankan.documents.model import MEMORY_BYTES, PROCESSOR_S, Document, Problem, Reference
from xuankan.documents.reading import Opened, open_file
from xuankan.errors import InputError, Unreadable

_BUFFER_BYTES: Final = 64 * 2**10
_IN: Final = 0
_OUT: Final = 1


def give_time() -> None:
    """From now on there are `PROCESSOR_S` again, after which the system ends this process.

    The default action of the signal does it, which no library's loop can hold up. Processor time, because the
    process also waits for whoever takes what it reads, and for whoever stopped it.
    """
    signal.setitimer(signal.ITIMER_PROF, PROCESSOR_S)


class _Progress(io.FileIO):
    """A file of which reading on gives time: counting the records of a large one takes minutes."""

    _furthest = 0

    def readinto(self, buffer: Any, /) -> int:
        size = cast(int, super().readinto(buffer))
        if (place := self.tell()) > self._furthest:
            self._furthest = place
            give_time()
        return size


@dataclass(frozen=True, slots=True)
class _WatchedFile(File):
    def open(self) -> BinaryIO:
        if self.path is None:
            return super(_WatchedFile, self).open()
        try:
            return io.BufferedReader(_Progress(self.path), _BUFFER_BYTES)
        except OSError as error:
            raise Unreadable(self.name, f"cannot be read: {error.strerror or error}") from error


def answers(call: dict[str, Any], opened: dict[str, Opened]) -> Iterator[list[Any]]:
    """What a call gives, each answer as a list; the last is `end` or what was wrong."""
    path = call["path"]
    file = _WatchedFile(call["name"], None if path is None else Path(path), call["data"])
    try:
        if call["asked"] == "references":
            from xuankan.documents.reference_lists import read_references

            listed = read_references(file)
            yield ["references", [_plain(one) for one in listed.references], listed.warnings]
        else:
            yield from _read(call, file, opened)
    except Unreadable as error:
        yield ["unreadable", error.field, error.reason]
    except InputError as error:
        yield ["wrong", error.field, str(error).removeprefix(f"{error.field}: ")]
    except ModuleNotFoundError as error:
        yield ["missing", error.name or "", str(error)]
    else:
        yield ["end"]


def _read(call: dict[str, Any], file: File, opened: dict[str, Opened]) -> Iterator[list[Any]]:
    key = repr((call["path"], call["columns"])) if call["path"] is not None else ""
    found = opened.get(key)
    if found is None:
        opened.clear()
        found = open_file(file, Columns(tuple((field, name) for field, name in call["columns"])))
        if key:
            opened[key] = found  # looked through once, opened again for its records
    match call["asked"]:
        case "kind":
            yield ["kind", found.kind.name]
        case "count":
            yield ["count", found.count()]
        case _:
            for record in found.records(call["start"]):
                yield _document(record) if isinstance(record, Document) else _problem(record)


def _document(found: Document) -> list[Any]:
    return [
        "document",
        *(found.title, found.abstract, found.keywords, found.identifier),
        [_plain(one) for one in found.references],
        None if found.published is None else _plain(found.published),
        *(found.warnings, found.line),
    ]


def _problem(found: Problem) -> list[Any]:
    return ["problem", found.line, found.problem, found.text, found.identifier]


def _plain(found: Reference) -> list[Any]:
    return [found.text, found.journal, found.issns, found.doi, found.year]


def main() -> None:
    """Answer calls from standard input on standard output until it ends."""
    confine(MEMORY_BYTES)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's is for the command, which ends this process
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    opened: dict[str, Opened] = {}
    calls = msgpack.Unpacker(io.FileIO(_IN, closefd=False), raw=False, max_buffer_size=0)
    for call in cast("Iterator[dict[str, Any]]", calls):
        give_time()
        for answer in answers(call, opened):
            # Not gathered: what was read before the record that ends this process must not be lost with it.
            _write(msgpack.packb(answer, use_bin_type=True, unicode_errors="surrogatepass"))
            give_time()


def _write(data: bytes) -> None:
    while data:
        data = data[os.write(_OUT, data) :]


if __name__ == "__main__":
    main()
