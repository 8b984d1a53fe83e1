"""A record's fields, whatever they are called, as a document."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, cast

from xuankan.documents.headers import TableLayout, fold
from xuankan.documents.markup import plain, split_keywords
from xuankan.documents.model import MAX_REFERENCES, Document, Problem, Reference, attempt

_INSIDE: Final = (
    "value",
    "text",
    "title",
    "display_name",
    "name",
    "tag",
    "keyword",
    "subject",
    "term",
    "label",
    "$t",
)
_ENGLISH: Final = ("en", "en_US", "en_GB", "en-US", "eng", "english", "English")
_REFERENCE_JOURNALS: Final = (
    "journal title",
    "journal",
    "venue",
    "container title",
    "source",
    "series title",
)
_YEAR: Final = re.compile(r"(?<!\d)(?:1[89]|20)\d\d(?!\d)")
# As pandas writes a column of lists into a table.
_PYTHON_LIST: Final = re.compile(
    r"\s*\[(?:'[^'\\\n]*'|\"[^\"\\\n]*\")(?:,\s*(?:'[^'\\\n]*'|\"[^\"\\\n]*\"))*\]\s*"
)
_DOI: Final = re.compile(r"10\.\d{4,9}/[^\s\"<>]+")
_ISSN: Final = re.compile(r"(?<![\w-])\d{4}-?\d{3}[\dXx](?![\w-])")


class NotText(ValueError):
    """A field that holds no text; the message names it."""


def document(
    layout: TableLayout, values: Sequence[Any], line: int, shown: Callable[[], str]
) -> Document | Problem:
    """What the columns of one record hold.

    Args:
        layout: where the fields stand.
        values: the record's cells; there may be fewer than columns.
        line: where it stands.
        shown: gives the record as text, for a problem.
    """

    def first(field: str) -> Any:
        for choice in layout.places.get(field, ()):
            parts = [value for place in choice if not is_nothing(value := _at(values, place))]
            if parts:
                return parts[0] if len(parts) == 1 else parts
        return None

    def made() -> Document | Problem:
        try:
            return from_values({field: first(field) for field in layout.places}, line)
        except NotText as error:
            return Problem.of(line, str(error), shown())

    return attempt(made, line, shown)


def from_values(found: Mapping[str, Any], line: int, warnings: Iterable[str] = ()) -> Document:
    """What the fields hold that `headers` knows.

    Raises:
        NotText: title, abstract or keywords are something else than text or a list of texts.
    """
    references = found.get("references")
    return Document(
        title=plain(text_of("title", found.get("title"))),
        abstract=plain(text_of("abstract", found.get("abstract"))),
        keywords=keywords_of(found.get("keywords")),
        identifier=" ".join(str(found.get("id") or "").split()) if not is_nothing(found.get("id")) else "",
        references=references_of(references),
        published=publication(found),
        warnings=tuple(warnings),
        line=line,
    )


def publication(found: Mapping[str, Any]) -> Reference | None:
    """Where a record was published, if it says."""
    journal, issn, doi, year = (_loose(found.get(field)) for field in ("journal", "issn", "doi", "year"))
    dois, years = _DOI.search(doi), _YEAR.search(year)
    made = Reference(
        journal=plain(journal),
        issns=tuple(dict.fromkeys(_ISSN.findall(issn))),
        doi=dois[0] if dois else "",
        year=years[0] if years else "",
    )
    return made if made.journal or made.issns or made.doi else None


def references_of(value: Any) -> tuple[Reference, ...]:
    """A list of references as it is printed: between semicolons, one a line, or in a list."""
    if is_nothing(value):
        return ()
    parts = re.split(r"\s*;\s+|\n+", value) if isinstance(value, str) else _listed(value)
    return tuple(found for part in parts if (found := _reference(part)) is not None)[:MAX_REFERENCES]


def _reference(value: Any) -> Reference | None:
    """One reference: a text, or an object as Crossref and Semantic Scholar write it."""
    if not isinstance(value, Mapping):
        text = plain(_loose(value))
        return Reference(text=text) if text else None
    held = {fold(str(name)): one for name, one in cast("Mapping[str, Any]", value).items()}
    journal = next((held[name] for name in _REFERENCE_JOURNALS if held.get(name)), None)
    names = {"journal": journal, "issn": held.get("issn"), "doi": held.get("doi"), "year": held.get("year")}
    made = publication(names)
    text = plain(_loose(held.get("unstructured")))
    if made is None:
        return Reference(text=text) if text else None
    return replace(made, text=text)


def text_of(field: str, value: Any) -> str:
    """A text, or the first of several, or the English one of several languages.

    Raises:
        NotText: there is none.
    """
    if is_nothing(value):
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        texts = (text_of(field, one) for one in cast("Sequence[Any]", value))
        return next((text for text in texts if text.strip()), "")
    if isinstance(value, Mapping):
        held: Mapping[str, Any] = cast("Mapping[str, Any]", value)
        for name in (*_ENGLISH, *_INSIDE):
            if isinstance(held.get(name), str | list):
                return text_of(field, held[name])
        texts = [text for text in held.values() if isinstance(text, str) and text.strip()]
        if texts and all(len(str(name)) <= 8 for name in held):  # other languages
            return texts[0]
    raise NotText(f"{field}: {type(cast(object, value)).__name__}, not text")


def keywords_of(value: Any) -> tuple[str, ...]:
    """Keywords of a text or a list.

    Raises:
        NotText: they are something else.
    """
    if is_nothing(value):
        return ()
    if isinstance(value, str):
        if _PYTHON_LIST.fullmatch(value):
            return split_keywords([plain(one) for one in ast.literal_eval(value.strip())])
        return split_keywords(plain_lines(value))
    if isinstance(value, Mapping):
        held = cast("Mapping[str, Any]", value)
        spoken = next((held[name] for name in _ENGLISH if held.get(name)), None)
        return keywords_of(next(iter(held.values())) if spoken is None else spoken)
    if isinstance(value, list | tuple | set | frozenset):
        found = [plain(text_of("keywords", one)) for one in cast("Sequence[Any]", value)]
        return split_keywords(found)
    raise NotText(f"keywords: {type(value).__name__}, not a list of texts")


def plain_lines(text: str) -> str:
    """As `plain`, with line ends kept: keywords may stand one a line."""
    return "\n".join(filter(None, map(plain, text.split("\n"))))


def is_nothing(value: Any) -> bool:
    """Whether a cell says nothing; NaN is a table's way to."""
    return (
        value is None
        or (isinstance(value, str) and not value.strip())
        or (isinstance(value, float) and value != value)
        or (isinstance(value, list | tuple | dict) and not value)
    )


def _at(values: Sequence[Any], place: int) -> Any:
    return values[place] if place < len(values) else None


def _loose(value: Any) -> str:
    """Something that is not ranked, as text."""
    if is_nothing(value):
        return ""
    if isinstance(value, list | tuple):
        return " ".join(_loose(one) for one in cast("Sequence[Any]", value))
    if isinstance(value, Mapping):
        held = cast("Mapping[str, Any]", value)
        return next(
            (str(held[name]) for name in ("unstructured", "text", *_INSIDE) if held.get(name)),
            " ".join(map(str, held.values()))[:500],
        )
    return str(value)


def _listed(value: Any) -> Iterable[Any]:
    return cast("Iterable[Any]", value) if isinstance(value, list | tuple) else (value,)
