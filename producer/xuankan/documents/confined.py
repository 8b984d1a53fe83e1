"""The readers for the commands, in processes of their own: what ends one costs a record, not the command.

`attempt` turns errors into problems; it cannot stop a loop, nor a library that takes all memory or crashes.
So the commands read through a process (`confined_child`) that has limits. It is asked for one file after the
other; one that dies is replaced, and reading goes on behind the record at which it died.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, Self, cast

import msgpack

from xuankan.bounded import confined_command
from xuankan.documents.columns import Columns
from xuankan.documents.files import File
from xuankan.documents.kinds import KINDS, Kind
from xuankan.documents.model import PROCESSOR_S, Document, Problem, Reference
from xuankan.documents.reference_lists import ReferenceList
from xuankan.errors import InputError, Unreadable

_READ_BYTES: Final = 256 * 2**10
_MAX_DEATHS: Final = 3
"""Records one behind the other; then the rest of the file is given up: each may take a minute."""
Asked = Literal["kind", "count", "records", "references"]
_LAST: Final = frozenset({"end", "unreadable", "wrong", "missing"})


class Died(Exception):
    """Attributes: `reason` is why; `fresh` whether the process had been asked for nothing before."""

    def __init__(self, reason: str, fresh: bool) -> None:
        super().__init__(reason)
        self.reason, self.fresh = reason, fresh


class _Child:
    """A process that reads files."""

    def __init__(self) -> None:
        command, environment = confined_command("xuankan.documents.confined_child")
        self._process = subprocess.Popen(  # noqa: S603  # our own interpreter and module
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            bufsize=0,
        )
        self._is_fresh = True

    def ask(self, call: dict[str, Any]) -> Iterator[list[Any]]:
        """Answers, the last one included.

        Raises:
            Died: the process did.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        fresh, self._is_fresh = self._is_fresh, False
        data = memoryview(msgpack.packb(call, use_bin_type=True))
        with contextlib.suppress(BrokenPipeError):  # what it died of is found below
            while data:
                data = data[self._process.stdin.write(data) or 0 :]
        answers = msgpack.Unpacker(raw=False, unicode_errors="surrogatepass", max_buffer_size=0)
        out = self._process.stdout.fileno()
        while chunk := os.read(out, _READ_BYTES):
            answers.feed(chunk)
            yield from cast("Iterator[list[Any]]", answers)
        raise Died(_why(self._process.wait()), fresh)

    def kill(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.wait()

    def end(self) -> None:
        """The same, if nobody listens to it any more."""
        self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


def _why(status: int) -> str:
    if status == -signal.SIGPROF:
        return f"reading it takes more than {PROCESSOR_S} s of the processor: it was given up"
    return f"reading it ended its process (status {status}): it is damaged, or too large inside"


class ConfinedReaders:
    """Processes that read files, as many as read at the same time, usually one; `close` ends them.

    They end with this object too, but exceptions, which hold what was on the stack, may keep it for long.
    """

    def __init__(self) -> None:
        self._idle: list[_Child] = []
        self._busy: list[_Child] = []
        self.is_closed = False
        weakref.finalize(self, _end_all, self._idle)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes. Whoever reads in another thread finds the file at its end."""
        self.is_closed = True
        for child in list(self._busy):
            child.kill()
        _end_all(self._idle)

    def open(self, file: File, columns: Columns | None = None) -> ConfinedFile:
        """As `reading.open_file`, but nothing that the file does to its reader harms this process.

        Raises:
            Unreadable, InputError, ModuleNotFoundError: as of `open_file`.
        """
        columns = columns or Columns()
        return ConfinedFile(file, KINDS[self.ask_once(file, "kind", columns)[1]], columns, self)

    def references(self, file: File) -> ReferenceList:
        """As `reference_lists.read_references`.

        Raises:
            Unreadable, ModuleNotFoundError: as there.
        """
        _, references, warnings = self.ask_once(file, "references", Columns())
        return ReferenceList(tuple(_reference(one) for one in references), tuple(warnings))

    def ask_once(self, file: File, asked: Asked, columns: Columns) -> list[Any]:
        """The one answer to a question.

        Raises:
            Unreadable: nobody lived to give it; or as of `ask`.
        """
        for is_last in (False, True):
            try:
                return next(iter(list(self.ask(file, asked, columns))))
            except Died as died:
                if died.fresh or is_last:
                    raise Unreadable(file.name, died.reason) from None
        raise AssertionError

    def ask(self, file: File, asked: Asked, columns: Columns, start: int = 0) -> Iterator[list[Any]]:
        """Answers to a question, as `confined_child` has them.

        Raises:
            Died: the process did.
            Unreadable, InputError, ModuleNotFoundError: what it answers last, if not `end`.
        """
        call = {
            "asked": asked,
            "name": file.name,
            "path": None if file.path is None else str(file.path.absolute()),
            "data": file.data,
            "columns": columns.given,
            "start": start,
        }
        child = self._idle.pop() if self._idle else _Child()
        self._busy.append(child)
        is_done = False
        try:
            for answer in child.ask(call):
                if is_done := answer[0] in _LAST:
                    _raise(answer)
                    return
                yield answer
        finally:
            # One that somebody stopped listening to has more to say, and is of no use any more.
            self._busy.remove(child)
            if is_done and not self.is_closed:
                self._idle.append(child)
            else:
                child.end()


@dataclass(frozen=True, slots=True)
class ConfinedFile:
    """A file whose kind is known, read by another process. A `Reader`."""

    file: File
    kind: Kind
    columns: Columns
    readers: ConfinedReaders

    def count(self) -> int:
        """As of `Reader`.

        Raises:
            Unreadable: nobody can tell.
        """
        return int(self.readers.ask_once(self.file, "count", self.columns)[1])

    def records(self, start: int = 0) -> Iterator[Document | Problem]:
        """As of `Reader`; a record at which the process dies is a `Problem`."""
        place, line, deaths, again = start, 0, 0, False
        while True:
            try:
                for answer in self.readers.ask(self.file, "records", self.columns, place):
                    if answer[0] == "end":
                        return
                    found = _made(answer)
                    place, line, deaths, again = place + 1, found.line, 0, False
                    yield found
            except Died as died:
                if self.readers.is_closed:
                    return
                if not (died.fresh or again):
                    again = True  # it may have died of what it read before
                    continue
                problem, deaths, again = died.reason, deaths + 1, False
            else:
                return
            if self.kind.is_list:
                problem = f"record {place + 1}, behind line {line}: {problem}"
            if deaths == _MAX_DEATHS:
                problem += f"; the {_MAX_DEATHS - 1} before it too, so the rest of the file was not read"
            yield Problem.of(line, problem)
            place += 1
            if deaths == _MAX_DEATHS or not self.kind.is_list:
                return


def _raise(answer: list[Any]) -> None:
    """What went wrong, if something did."""
    match answer:
        case ["unreadable", name, reason]:
            raise Unreadable(name, reason)
        case ["wrong", field, reason]:
            raise InputError(field, reason)
        case ["missing", name, message]:
            raise ModuleNotFoundError(message, name=name)
        case _:
            pass


def _made(answer: list[Any]) -> Document | Problem:
    if answer[0] == "problem":
        return Problem(*answer[1:])
    title, abstract, keywords, identifier, references, published, warnings, line = answer[1:]
    return Document(
        title,
        abstract,
        tuple(keywords),
        identifier,
        tuple(_reference(one) for one in references),
        None if published is None else _reference(published),
        tuple(warnings),
        line,
    )


def _reference(plain: list[Any]) -> Reference:
    text, journal, issns, doi, year = plain
    return Reference(text, journal, tuple(issns), doi, year)


def _end_all(idle: list[_Child]) -> None:
    while idle:
        idle.pop().end()
