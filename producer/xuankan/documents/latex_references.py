r"""Reference lists of LaTeX: `thebibliography` as authors and BibTeX write it, and biblatex's .bbl files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from xuankan.documents.latex_text import latex_to_text
from xuankan.documents.model import MAX_REFERENCES, Reference

_BEGIN: Final = re.compile(r"\\begin\s*\{(?:thebibliography|references)\*?\}")
_END: Final = re.compile(r"\\end\s*\{(?:thebibliography|references)\*?\}")
_ITEM: Final = re.compile(r"\\(?:bibitem|reference\b|rn\b|harvarditem|bibitemdeclare)\b")
_KEY: Final = re.compile(
    r"\s*(?:\[(?:[^\[\]{}]|\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}|\[[^\[\]]*\]){0,400}\]\s*)*(?:\{[^{}]*\})?"
)
_JOURNAL: Final = re.compile(
    r"\\bibinfo\s*\{journal\}\s*\{([^{}]{2,150})|\\(?:emph|textit|textsl|textem|journal|bibinfo@journal)\s*\{([^{}]{2,150})\}|"
    r"\{\s*\\(?:em|it|sl|itshape)\b\s*([^{}]{2,150})\}"
)
_DOI: Final = re.compile(r"10\.\d{4,9}/[^\s\"<>{}\\,;]{1,150}")
_YEAR: Final = re.compile(r"(?<!\d)(?:19|20)\d\d(?!\d)")
_MAX_ITEM: Final = 3_000
_ENTRY: Final = re.compile(r"\\entry\s*\{")
_FIELD: Final = re.compile(r"\\field\s*\{(journaltitle|shortjournal|title|year|issn)\}\s*\{([^\n]{0,500})\}")
_VERB: Final = re.compile(r"\\verb\s*\{doi\}\s*\\verb\s+(\S{1,200})")


def split_bibliography(source: str) -> tuple[str, str]:
    """A source without its reference lists, and those."""
    front: list[str] = []
    listed: list[str] = []
    at = 0
    while (begun := _BEGIN.search(source, at)) is not None:
        ended = _END.search(source, begun.end())
        front.append(source[at : begun.start()])
        listed.append(source[begun.end() : ended.start() if ended else len(source)])
        at = ended.end() if ended else len(source)
    return "".join([*front, source[at:]]), "".join(listed)


def bibliography(source: str) -> tuple[Reference, ...]:
    r"""The works of a list of `\bibitem`s or of a .bbl file, at most `MAX_REFERENCES`."""
    found: list[Reference] = []
    for reference in _entries(source) if _ENTRY.search(source) else _items(source):
        found.append(reference)
        if len(found) >= MAX_REFERENCES:
            break
    return tuple(found)


def _items(source: str) -> Iterator[Reference]:
    places = [found.end() for found in _ITEM.finditer(source)]
    for start, end in pairwise([*places, len(source)]):
        item = source[start : min(end, start + _MAX_ITEM)]
        key = _KEY.match(item)
        item = re.sub(r"\\bibitem\s*$", "", item[key.end() if key else 0 :])
        text = latex_to_text(item)
        if not text:
            continue
        journal = _JOURNAL.search(item)
        doi, year = _DOI.search(item.replace("\\_", "_")), _YEAR.findall(text)
        yield Reference(
            text=text,
            journal=latex_to_text(next(filter(None, journal.groups()), "")).strip(" ,.") if journal else "",
            doi=doi[0].rstrip(".)") if doi else "",
            year=year[-1] if year else "",
        )


def _entries(source: str) -> Iterator[Reference]:
    r"""Of biblatex: `\entry{key}{article}{} \field{journaltitle}{...} \endentry`."""
    places = [found.start() for found in _ENTRY.finditer(source)]
    for start, end in pairwise([*places, len(source)]):
        entry = source[start : min(end, start + 20_000)]
        fields = {name: latex_to_text(value) for name, value in reversed(_FIELD.findall(entry))}
        doi = _VERB.search(entry)
        yield Reference(
            text=fields.get("title", ""),
            journal=fields.get("journaltitle") or fields.get("shortjournal", ""),
            issns=(fields["issn"],) if "issn" in fields else (),
            doi=doi[1] if doi else "",
            year=fields.get("year", "")[:4],
        )
