"""Which journals of a catalogue a reference list cites, and how often."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

from xuankan.catalogue import Catalogue
from xuankan.catalogue.issn import normalise_issn
from xuankan.documents.model import Document, Reference
from xuankan.manuscript import Manuscript
from xuankan.unicode import normalized

_WORD: Final = re.compile(r"[^\W_]+")
_DOI: Final = re.compile(r"10\.\d{4,9}/[^\s\"<>{},;]+")
# Where a journal's part of a DOI may end: behind a run of letters or of digits.
_RUN_END: Final = re.compile(r"(?<=[a-z])(?=[^a-z])|(?<=\d)(?=\D)|(?<=[^a-z\d])")
_VOLUME: Final = re.compile(r"v?\d+[a-z]?")
_PASSED_OVER: Final = frozenset({"vol", "volume", "no", "number", "issue", "bd", "t", "london", "tokyo"})
_MAX_TEXT: Final = 1_000
"""Characters of a printed reference that are looked through."""
_MAX_KEPT: Final = 8


@dataclass(frozen=True, slots=True)
class _Names:
    """What stands for a catalogue's journals; what stands for two is left out.

    Attributes:
        issns, dois, names: ISSN, beginning of a DOI, folded title or abbreviation -> journal id.
        longest: words of the longest name.
    """

    issns: Mapping[str, str]
    dois: Mapping[str, str]
    names: Mapping[str, str]
    longest: int


_kept: Final[dict[str, _Names]] = {}


def cited_journals(references: Iterable[Reference], catalogue: Catalogue) -> Mapping[str, int]:
    """How often references cite the catalogue's journals.

    A reference is known by its ISSN, the beginning of its DOI, or its journal's title or an abbreviation of
    it; in a printed reference, by a name that a volume follows.

    Returns:
        Journal id -> how many of the references are to it, the most cited first.
    """
    known = _names_of(catalogue)
    found = Counter(journal for one in references if (journal := _journal(one, known)) is not None)
    return dict(found.most_common())


def manuscript_of(document: Document, catalogue: Catalogue) -> Manuscript:
    """What is ranked of a document: its texts, and which journals it cites if it holds references.

    Raises:
        ManuscriptError: it cannot be ranked.
    """
    cited = cited_journals(document.references, catalogue) if document.references else None
    return Manuscript(document.title, document.abstract, document.keywords, cited)


def fold_name(title: str) -> str:
    """A journal's title or abbreviation in a form that all its spellings have in common."""
    plain = normalized("NFKD", title).replace("&", " and ")
    words = _WORD.findall("".join(c for c in plain if not unicodedata.combining(c)).casefold())
    return " ".join(words[1:] if words[:1] == ["the"] and len(words) > 1 else words)


def _journal(reference: Reference, known: _Names) -> str | None:
    for issn in reference.issns:
        if (normal := normalise_issn(issn)) is not None and normal in known.issns:
            return known.issns[normal]
    doi = reference.doi or next(iter(_DOI.findall(reference.text[:_MAX_TEXT])), "")
    if doi and (found := _by_doi(doi, known)) is not None:
        return found
    if reference.journal:
        return known.names.get(fold_name(reference.journal))
    return _in_print(reference.text[:_MAX_TEXT], known)


def _by_doi(doi: str, known: _Names) -> str | None:
    found = _DOI.search(doi.casefold())
    if found is None:
        return None
    text = found[0]
    for end in reversed([match.start() for match in _RUN_END.finditer(text)]):
        if (journal := known.dois.get(text[:end].rstrip(".-_("))) is not None:
            return journal
    return None


def _in_print(text: str, known: _Names) -> str | None:
    """The last name in a printed reference behind which a volume or a year stands."""
    words = fold_name(_DOI.sub(" ", text)).split()
    last: str | None = None
    at = 0
    while at < len(words):
        for size in range(min(known.longest, len(words) - at), 0, -1):
            journal = known.names.get(" ".join(words[at : at + size]))
            if journal is not None and _has_volume(words, at + size):
                last = journal
                at += size - 1
                break
        at += 1
    return last


def _has_volume(words: list[str], at: int) -> bool:
    while at < len(words) and words[at] in _PASSED_OVER:
        at += 1
    return at < len(words) and bool(_VOLUME.fullmatch(words[at]))


def _names_of(catalogue: Catalogue) -> _Names:
    if (known := _kept.get(catalogue.version)) is None:
        known = _build(catalogue)
        if len(_kept) >= _MAX_KEPT:
            _kept.clear()
        _kept[catalogue.version] = known
    return known


def _build(catalogue: Catalogue) -> _Names:
    issns = {issn: journal.id for journal in catalogue for issn in journal.issns}
    names: dict[str, str] = {}
    doubtful: set[str] = set()
    for journal in catalogue:
        name = fold_name(journal.title)
        if name in names:
            doubtful.add(name)
        names[name] = journal.id
    dois: dict[str, str] = {}
    for journal_id, kind, name in _table():
        if journal_id not in catalogue:
            continue
        if kind == "doi":
            dois[name] = journal_id
        elif names.setdefault(name, journal_id) != journal_id:
            doubtful.add(name)
    names = {name: journal_id for name, journal_id in names.items() if name not in doubtful}
    return _Names(issns, dois, names, max((name.count(" ") + 1 for name in names), default=0))


@cache
def _table() -> tuple[tuple[str, str, str], ...]:
    return tuple(_lines())


def _lines() -> Iterator[tuple[str, str, str]]:
    text = resources.files("xuankan.data").joinpath("journal_names.tsv").read_text("utf-8")
    for line in text.splitlines()[1:]:
        journal_id, kind, name = line.split("\t")
        yield journal_id, kind, name
