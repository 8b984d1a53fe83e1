"""Manuscripts from files and standard input."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import Any, BinaryIO, Final, cast

from xuankan.bounded import TooLarge, read_bounded
from xuankan.errors import InputError
from xuankan.manuscript import MAX_CHARACTERS, Manuscript

MAX_LINE_BYTES: Final = 16 * MAX_CHARACTERS
"""A character takes up to 12 bytes in JSON; what else an object may hold is not read."""
MAX_DOCUMENT_BYTES: Final = 64 * 2**20

_DOCUMENTS = {
    b"%PDF": "a PDF document",
    b"PK\x03\x04": "a Word or zip file",
    b"\xd0\xcf\x11\xe0": "a Word file",
}


def read_manuscripts(file: BinaryIO, name: str) -> Iterator[Manuscript | Mapping[str, Any]]:
    """The manuscripts of a file: `.jsonl` (an object a line), `.json` (an object or a list), else plain text.

    Plain text has the title in its first line and the abstract in the rest. Standard input (`-`) that begins
    with `{` is JSON lines. Objects are returned as they are: `Manuscript.from_mapping` reads them.

    Raises:
        InputError: the file is not UTF-8 text, is too large, or not JSON where it should be.
    """
    if name.endswith(".jsonl"):
        yield from _json_lines(file, name)
        return
    try:
        data = read_bounded(file, MAX_DOCUMENT_BYTES)
    except TooLarge as error:
        raise InputError(name, f"{error}: give many manuscripts as .jsonl, one per line") from None
    for mark, what in _DOCUMENTS.items():
        if data.startswith(mark):
            raise InputError(name, f"{what}: copy the title and the abstract into a text file")
    text = _decode(data, name, "")
    if name.endswith(".json"):
        yield from _json_document(text, name)
    elif name in ("-", "<stdin>") and text.lstrip().startswith("{"):
        yield from _json_lines(BytesIO(data), name)
    else:
        yield Manuscript.from_text(text)


def _json_document(text: str, name: str) -> Iterator[Mapping[str, Any]]:
    document = _json(text, name, "")
    for row in cast(list[object], document) if isinstance(document, list) else [document]:
        yield _object(row, name, "")


def _json_lines(file: BinaryIO, name: str) -> Iterator[Mapping[str, Any]]:
    for number in itertools.count(1):
        line = file.readline(MAX_LINE_BYTES + 1)
        where = f" in line {number}"
        if not line:
            return
        if len(line) > MAX_LINE_BYTES:
            raise InputError(name, f"more than {MAX_LINE_BYTES:,} bytes{where}: give one manuscript per line")
        if line.strip():
            yield _object(_json(_decode(line, name, where), name, where), name, where)


def _json(text: str, name: str, where: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(name, f"not JSON{where}: {error}") from None


def _object(row: object, name: str, where: str) -> Mapping[str, Any]:
    if not isinstance(row, dict):
        raise InputError(name, f"{type(row).__name__}{where}, not an object with title and abstract")
    return cast(Mapping[str, Any], row)


def _decode(data: bytes, name: str, where: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            name, f"not UTF-8 text{where} (byte {error.start}): convert it, as in `iconv -f GB18030 -t UTF-8`"
        ) from None
