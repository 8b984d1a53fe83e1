"""Objects of JSON, a line each, in a list or alone, of any program that writes titles and abstracts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Final, cast

from xuankan.documents.columns import Columns
from xuankan.documents.encodings import Lines
from xuankan.documents.fields import document, is_nothing
from xuankan.documents.files import File
from xuankan.documents.headers import layout_of
from xuankan.documents.model import MAX_DOCUMENT_BYTES, MAX_RECORD_BYTES, Document, Problem

_CHUNK: Final = 2**18
_SPACE: Final = re.compile(r"[\s,\ufeff\x1e]*")
# Where the records are, in answers of Crossref, OpenAlex, DataCite, Solr, Elasticsearch, Zotero and so on.
_LISTS: Final = (
    *("items", "results", "records", "references", "docs", "hits", "papers", "articles", "data", "works"),
    *("submissions", "manuscripts"),
)
_INNER: Final = (
    "message",
    "response",
    "hits",
    "data",
    "attributes",
    "_source",
    "metadata",
    "record",
    "item",
    "article",
)
_NO_OBJECT: Final = "{}, not an object with title and abstract"


class JsonLines:
    """A file with a JSON object a line; empty lines are no records."""

    def __init__(self, file: File, columns: Columns) -> None:
        self._lines, self._columns = Lines(file), columns

    def count(self) -> int:
        """How many records there are."""
        return sum(not line.isspace() for line in self._lines)

    def records(self, start: int = 0) -> Iterator[Document | Problem]:
        """The records from `start` on, from 0."""
        lines = ((number, line) for number, line in enumerate(self._lines, start=1) if not line.isspace())
        for number, line in islice(lines, start, None):
            yield self._record(number, line)

    def _record(self, number: int, line: str) -> Document | Problem:
        if len(line) >= MAX_RECORD_BYTES and not line.endswith("\n"):
            return Problem.of(number, f"more than {MAX_RECORD_BYTES:,} bytes in one line", line)
        try:
            value: object = json.loads(line.lstrip("\ufeff\x1e"))
        except (ValueError, RecursionError) as error:
            return Problem.of(number, f"not JSON: {error}", line)
        return from_object(value, self._columns, number, line)


class JsonDocument:
    """A file that is a list of objects, an object, or an object around a list.

    Lists are read piece by piece. Of one that is broken, the object at the break is a `Problem`, and reading
    goes on with the next one that begins as those before.
    """

    def __init__(self, file: File, columns: Columns) -> None:
        self._lines, self._columns = Lines(file), columns

    def count(self) -> int:
        """How many records there are."""
        return sum(1 for _ in self._values())

    def records(self, start: int = 0) -> Iterator[Document | Problem]:
        """The records from `start` on, from 0."""
        for place, value in enumerate(islice(self._values(), start, None), start=start + 1):
            if isinstance(value, _Broken):
                yield Problem.of(place, value.reason, value.text)
            else:
                yield from_object(value, self._columns, place)

    def _values(self) -> Iterator[Any]:
        for value in _Stream(self._lines).values():
            if isinstance(value, dict) and (found := _records(cast("dict[str, Any]", value))) is not None:
                yield from found
            else:
                yield value


def from_object(value: object, columns: Columns, line: int, shown: str | None = None) -> Document | Problem:
    """What an object holds.

    Args:
        value: decoded JSON.
        columns: see there.
        line: where it stands.
        shown: its source, for a problem.
    """
    if not isinstance(value, dict):
        return Problem.of(line, _NO_OBJECT.format(type(value).__name__), shown or _shown(value))
    given = cast("dict[str, Any]", value)
    fields = _flat(given, columns)
    names = tuple(map(str, fields))
    layout = layout_of(columns, names)
    if not layout.places.keys() & {"title", "abstract"}:
        known = ", ".join(sorted(names)[:10]) or "none"
        reason = f"neither title nor abstract is given; the fields are: {known}"
        return Problem.of(line, reason, shown or _shown(given))
    return document(layout, list(fields.values()), line, lambda: shown or _shown(given))


class _Broken:
    """A place that is not JSON."""

    def __init__(self, reason: str, text: str) -> None:
        self.reason, self.text = reason, text


class _Stream:
    """The values of a JSON text, those of a list one by one."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._decoder = json.JSONDecoder()
        self._text, self._at, self._ended = "", 0, False

    def values(self) -> Iterator[Any]:
        with self._lines.text() as file:
            self._read = lambda: file.read(_CHUNK)
            self._skip()
            in_list = self._text[self._at : self._at + 1] == "["
            self._at += in_list
            begins: re.Pattern[str] | None = None
            while True:
                self._skip()
                if self._at >= len(self._text) or (in_list and self._text[self._at] == "]"):
                    return
                value = self._next(MAX_RECORD_BYTES if in_list else MAX_DOCUMENT_BYTES)
                yield value
                if isinstance(value, dict) and value:
                    key = json.dumps(next(iter(cast("dict[str, Any]", value))), ensure_ascii=False)
                    begins = re.compile(r"\{\s*" + re.escape(key))
                elif isinstance(value, _Broken) and not self._resume(begins):
                    return

    def _next(self, most: int) -> Any:
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except RecursionError:
                return _Broken("not JSON: it is nested too deeply", self._text[self._at : self._at + 2_000])
            except ValueError as error:
                left = len(self._text) - self._at
                if not self._ended and left <= most:
                    self._more(max(_CHUNK, left))
                    continue
                reason = (
                    f"more than {most:,} characters in one object" if left > most else f"not JSON: {error}"
                )
                return _Broken(reason, self._text[self._at : self._at + 2_000])
            # A number may go on in what was not read yet.
            if end == len(self._text) and not self._ended:
                self._more(_CHUNK)
                continue
            self._at = end
            return value

    def _resume(self, begins: re.Pattern[str] | None) -> bool:
        """Go to where the next object begins as those before did; False if there is none."""
        while begins is not None:
            if (found := begins.search(self._text, self._at + 1)) is not None:
                self._at = found.start()
                return True
            if self._ended:
                return False
            self._at = max(self._at, len(self._text) - 1_000)
            self._more(_CHUNK)
        return False

    def _skip(self) -> None:
        while True:
            found = _SPACE.match(self._text, self._at)
            self._at = found.end() if found else self._at
            if self._at < len(self._text) or self._ended:
                return
            self._more(_CHUNK)

    def _more(self, size: int) -> None:
        self._text, self._at = self._text[self._at :], 0
        while size > 0 and not self._ended:
            piece = self._read()
            self._ended = not piece
            self._text += piece
            size -= len(piece)


def _records(value: Mapping[str, Any]) -> list[Any] | None:
    """The list of records in an object around it, if that is what it is."""
    if any(name in value for name in ("title", "Title", "TI", "abstract", "Abstract")):
        return None
    for name in _LISTS:
        inside = value.get(name)
        if (
            isinstance(inside, list)
            and inside
            and all(isinstance(one, dict) for one in cast("list[Any]", inside))
        ):
            return cast("list[Any]", inside)
    for name in _INNER:
        inside = value.get(name)
        if isinstance(inside, dict) and (found := _records(cast("dict[str, Any]", inside))) is not None:
            return found
    return None


def _flat(value: dict[str, Any], columns: Columns) -> dict[str, Any]:
    """An object with what stands deeper put beside it, as far as programs are known to put it there."""
    if layout_of(columns, tuple(map(str, value))).places.keys() & {"title", "abstract"}:
        fields = value
    else:
        inner = next((value[name] for name in _INNER if isinstance(value.get(name), dict)), None)
        fields = {**value, **cast("dict[str, Any]", inner)} if inner else value
    added: dict[str, Any] = {}
    if isinstance(titles := fields.get("titles"), list | dict):  # DataCite, arXiv's JSON, EndNote's
        added["title"] = titles
    if isinstance(found := fields.get("descriptions"), list):  # DataCite
        held = [cast("dict[str, Any]", one) for one in cast("list[Any]", found) if isinstance(one, dict)]
        added["abstract"] = [
            one.get("description") for one in held if one.get("descriptionType") == "Abstract"
        ]
    if is_nothing(fields.get("abstract")) and isinstance(
        index := fields.get("abstract_inverted_index"), dict
    ):  # OpenAlex
        added["abstract"] = _uninverted(cast("dict[str, Any]", index))
    return {**fields, **added} if added else fields


def _uninverted(index: Mapping[str, Any]) -> str:
    """OpenAlex keeps of an abstract the places of each word."""
    placed = [
        (place, word)
        for word, places in index.items()
        if isinstance(places, list)
        for place in cast("list[Any]", places)
        if isinstance(place, int)
    ]
    return " ".join(word for _, word in sorted(placed))


def _shown(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)[:10_000]
