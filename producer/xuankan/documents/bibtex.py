"""BibTeX and BibLaTeX files, as programs and people write them.

Read by hand: the libraries (bibtexparser, pybtex) want a whole file in memory and give an entry up for what
BibTeX itself takes or half of all exports have: a field given twice, a doubled comma, `@article(...)`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from xuankan.documents.bibtex_entry import BibtexEntry, parse_entry
from xuankan.documents.columns import Columns
from xuankan.documents.encodings import Lines
from xuankan.documents.fields import publication
from xuankan.documents.files import File
from xuankan.documents.latex_text import latex_to_text
from xuankan.documents.markup import plain, split_keywords
from xuankan.documents.model import MAX_RECORD_BYTES, Document, Problem, attempt

_BEGIN: Final = re.compile(r"@\s*([^\W\d_][\w.+:-]*)\s*([{(])")
_STEP: Final = re.compile(r"\\.|[{}]", re.DOTALL)
_ROUND_STEP: Final = re.compile(r"\\.|[{}\")]", re.DOTALL)
_SPECIAL: Final = re.compile(r"[\\$`]|--|''")
_LONG: Final = 200
_OTHERS: Final = frozenset({"comment", "preamble", "string"})
_TEXTS: Final = {
    "title": ("title",),
    "abstract": ("abstract", "abstractnote", "annote-abstract", "summary"),
    "keywords": ("keywords", "keyword", "author_keywords", "author-keywords", "authorkeywords"),
}
_MORE_KEYWORDS: Final = ("keywords-plus", "mendeley-tags", "mesh", "index_keywords")
_BOOKS: Final = frozenset(
    {"book", "proceedings", "mvbook", "collection", "mvcollection", "inbook", "booklet"}
)


class BibTex:
    """A .bib file; an entry is a record. `@string` macros are put in, also inside of `#`."""

    def __init__(self, file: File, columns: Columns) -> None:
        del columns  # entries have fields of their own
        self._lines = Lines(file)

    def count(self) -> int:
        """How many entries there are."""
        return sum(block.kind not in _OTHERS for block in _blocks(self._lines))

    def records(self, start: int = 0) -> Iterator[Document | Problem]:
        """The entries from `start` on, from 0."""
        macros: dict[str, str] = {}
        place = 0
        for block in _blocks(self._lines):
            if block.kind == "string":
                macros.update(parse_entry(block.text, macros).fields)
            elif block.kind not in _OTHERS:
                place += 1
                if place > start:
                    yield attempt(
                        partial(self._record, block, macros), block.line, lambda block=block: block.text
                    )

    def _record(self, block: _Block, macros: Mapping[str, str]) -> Document | Problem:
        if block.size > MAX_RECORD_BYTES:
            return Problem.of(
                block.line, f"more than {MAX_RECORD_BYTES:,} characters in one entry", block.text
            )
        entry = parse_entry(block.text, macros)
        if not entry.fields:
            return Problem.of(block.line, "no BibTeX entry: no field in it", block.text, entry.key)
        found = _document(block, entry, self._lines.encoding.warning)
        if not (found.title or found.abstract):
            problem = "there is neither a title nor an abstract in it"
            if not block.closed:
                problem += ", and its braces are not closed"
            return Problem.of(block.line, problem, block.text, entry.key)
        return found


@dataclass(frozen=True, slots=True)
class _Block:
    """What begins with an @: its line, its kind in small letters, its text, whether its end was found."""

    line: int
    kind: str
    text: str
    size: int
    closed: bool


def _document(block: _Block, entry: BibtexEntry, warning: str) -> Document:
    fields = entry.fields
    text = {
        field: next((fields[name] for name in names if fields.get(name, "").strip()), "")
        for field, names in _TEXTS.items()
    }
    if not text["title"] and block.kind in _BOOKS:
        text["title"] = fields.get("booktitle", "")
    title = _plain(text["title"])
    if subtitle := _plain(fields.get("subtitle", "")):
        title = f"{title.rstrip(' :')}: {subtitle}" if title else subtitle
    words = text["keywords"] or next((fields[name] for name in _MORE_KEYWORDS if fields.get(name)), "")
    warnings = [*([warning] if warning else []), *entry.warnings]
    if not block.closed:
        warnings.append("its closing brace is missing: please check it")
    where = {
        "journal": fields.get("journal") or fields.get("journaltitle") or "",
        "issn": fields.get("issn", ""),
        "doi": fields.get("doi", ""),
        "year": fields.get("year") or fields.get("date") or "",
    }
    if "\\" in where["journal"] or "{" in where["journal"]:
        where["journal"] = latex_to_text(where["journal"], lenient=True)
    where["doi"] = where["doi"].replace("\\", "")
    return Document(
        title=title,
        abstract=_plain(text["abstract"]),
        keywords=split_keywords("\n".join(_plain(line) for line in words.split("\n"))) if words else (),
        identifier=entry.key,
        published=publication(where),
        warnings=tuple(warnings),
        line=block.line,
    )


def _plain(value: str) -> str:
    r"""LaTeX first: what is escaped in it may be a tag (`{\textless}i{\textgreater}`)."""
    if not value:
        return ""
    return plain(_latex(value))


def _latex(value: str) -> str:
    """A value's text. Of a long one, only from the first to the last thing that is LaTeX is run as such."""
    first = _SPECIAL.search(value)
    if first is None or len(value) < _LONG:
        return latex_to_text(value, lenient=True)
    begin = value.rfind(" ", 0, first.start()) + 1
    last = max(map(value.rfind, ("\\", "$", "`", "--", "''")))
    end = value.find(". ", last) + 1 or len(value)
    parts = (value[:begin], value[begin:end], value[end:])
    if any(part.count("{") != part.count("}") for part in parts):
        return latex_to_text(value, lenient=True)
    return " ".join(latex_to_text(part, lenient=True) for part in parts if part)


def _blocks(lines: Lines) -> Iterator[_Block]:
    """What begins with an @ and ends where its braces are closed, however many stand on a line.

    An entry at the start of a line begins the next one even if they are not, so that a missing brace costs
    one entry at most. Of one that is too long no more is kept than shows it.
    """
    scan: _Scan | None = None
    for number, line in enumerate(lines, start=1):
        at = 0
        begins = line.lstrip()[:1] == "@" and _BEGIN.match(line, len(line) - len(line.lstrip()))
        if scan is not None and begins:
            yield scan.block(closed=False)
            scan = None
        while True:
            if scan is None:
                if (found := _next(line, at)) is None:
                    break  # BibTeX takes what stands between entries as comment
                scan = _Scan(number, found[1].casefold(), is_round=found[2] == "(")
                at = scan.take(line, found.start(), found.end())
            else:
                at = scan.take(line, at, at)
            if at < 0:
                break
            yield scan.block(closed=True)
            scan = None
    if scan is not None:
        yield scan.block(closed=False)


def _next(line: str, at: int) -> re.Match[str] | None:
    """The next entry in a line; in `mail@home{` there is none, nor behind a `%`."""
    while (found := _BEGIN.search(line, at)) is not None:
        before = line[at : found.start()]
        if "%" in before:
            return None
        if not before or not (before[-1].isalnum() or before[-1] in "._-\\"):
            return found
        at = found.end()
    return None


class _Scan:
    """One entry on its way to its end."""

    def __init__(self, line: int, kind: str, *, is_round: bool) -> None:
        self._line, self._kind, self._is_round = line, kind, is_round
        self._depth, self._quoted, self._size = 0, False, 0
        self._kept: list[str] = []

    def take(self, line: str, start: int, at: int) -> int:
        """Go on with a line, kept from `start`, from `at` on: where the entry ends, or -1."""
        end = self._end(line, at)
        part = line[start : end if end >= 0 else None]
        if self._size <= MAX_RECORD_BYTES:
            self._kept.append(part)
        self._size += len(part)
        return end

    def block(self, *, closed: bool) -> _Block:
        """What was found."""
        return _Block(self._line, self._kind, "".join(self._kept), self._size, closed)

    def _end(self, line: str, at: int) -> int:
        if not self._is_round and self._depth == 0:
            self._depth = 1
        for step in (_ROUND_STEP if self._is_round else _STEP).finditer(line, at):
            mark = step[0]
            if mark == "{":
                self._depth += 1
            elif mark == "}":
                self._depth -= 1
                if self._depth <= 0 and not self._is_round:
                    return step.end()
                self._depth = max(self._depth, 0)
            elif mark == '"':
                self._quoted ^= self._depth == 0
            elif mark == ")" and self._depth == 0 and not self._quoted:
                return step.end()
        return -1
