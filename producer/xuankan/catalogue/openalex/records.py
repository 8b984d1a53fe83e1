"""What is read of OpenAlex's records: journals of sources, papers of works. Pure.

Values are not taken on trust: a field that is not of the type that OpenAlex documents counts as missing.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from xuankan.catalogue.issn import is_valid_issn, normalise_issn
from xuankan.catalogue.model import fold, slug

ABSTRACT_WORDS = 1000
"""Words of an abstract that are kept: some hold a whole paper, and a model reads a few hundred tokens."""
SUBJECTS = 5
TYPES = frozenset({"article", "review", "journal-article", "letter"})
"""Of works that are taken if no type is asked for. Before 2023 an article was called `journal-article`."""
_TAG = re.compile(r"</?[A-Za-z][^<>]{0,100}>")


@dataclass(frozen=True, slots=True)
class WorkFilter:
    """Which works are taken; empty: any.

    Attributes:
        first_year, last_year: of publication.
        languages: ISO 639-1 codes.
        types: OpenAlex's, such as `article`.
        topics: texts of which one is part of the name of a topic, subfield, field, domain or concept, or is
            one's id, such as `T10102` or `C121332964`.
        abstracts: whether works without an abstract are left out.
    """

    first_year: int | None = None
    last_year: int | None = None
    languages: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    abstracts: bool = False


@dataclass(frozen=True, slots=True)
class Work:
    """A paper of a journal.

    Attributes:
        number: of its OpenAlex id: 2741809807 of `https://openalex.org/W2741809807`.
        source: the journal's OpenAlex id, such as `S1983995261`.
        language: ISO 639-1 code, empty if not known.
        doi: without `https://doi.org/`, empty if there is none.
    """

    number: int
    source: str
    title: str
    abstract: str
    year: int
    language: str
    doi: str


def identifier(value: Any) -> str:
    """`"https://openalex.org/S137773608"` -> `"S137773608"`; empty for anything else."""
    return value.rpartition("/")[2] if isinstance(value, str) else ""


def journal_of(source: Mapping[str, Any]) -> dict[str, Any] | None:
    """A row of a table of journals, of a source or of what a work says of its source.

    None for what is no journal, has no title or no ISSN: neither could be told from others.
    """
    title, source_id = _text(source.get("display_name")), identifier(source.get("id"))
    if source.get("type") != "journal" or not slug(title) or not source_id:
        return None
    given = [source.get("issn_l"), *_list(source.get("issn"))]
    issns = list(dict.fromkeys(normalise_issn(v) for v in given if isinstance(v, str) and is_valid_issn(v)))
    if not issns:
        return None
    apc = source.get("apc_usd")
    price = (
        float(apc) if isinstance(apc, int | float) and not isinstance(apc, bool) and 0 <= apc < 1e6 else None
    )
    row: dict[str, Any] = {
        "openalex": source_id,
        "title": title,
        "issns": issns,
        "publisher": _text(source.get("host_organization_name")) or _text(source.get("publisher")),
        "homepage": _text(source.get("homepage_url")),
        "open_access": _open_access(source, price),
        "apc_usd": price,
        "subjects": _subjects(source),
    }
    return {name: value for name, value in row.items() if value not in (None, "", [])}


def _open_access(source: Mapping[str, Any], price: float | None) -> str | None:
    """What OpenAlex says with certainty: a closed journal with a price is hybrid, an open one is as it costs."""
    if price is None:
        return None
    if source.get("is_oa") is True or source.get("is_in_doaj") is True:
        return "gold" if price else "diamond"
    return "hybrid" if source.get("is_oa") is False and price else None


def _subjects(source: Mapping[str, Any]) -> list[str]:
    """The commonest topics; in snapshots without them, the commonest narrow concepts."""
    named = [_text(topic.get("display_name")) for topic in _objects(source.get("topics"))]
    if not any(named):
        concepts = [c for c in _objects(source.get("x_concepts")) if _number(c.get("level"))]
        concepts.sort(key=lambda concept: -_number(concept.get("score")))
        named = [_text(concept.get("display_name")) for concept in concepts]
    return list(dict.fromkeys(name.lower() for name in named if name))[:SUBJECTS]


def work_of(record: Mapping[str, Any], wanted: WorkFilter) -> Work | None:
    """The paper that a record is of, None if it is not wanted or not of a source."""
    year = record.get("publication_year")
    if not isinstance(year, int) or isinstance(year, bool) or not 1500 <= year <= 2200:
        return None
    if (wanted.first_year and year < wanted.first_year) or (wanted.last_year and year > wanted.last_year):
        return None
    if record.get("type") not in (wanted.types or TYPES):
        return None
    if record.get("is_paratext") is True or record.get("is_retracted") is True:
        return None
    language = _text(record.get("language")).lower()
    if wanted.languages and language not in wanted.languages:
        return None
    number = identifier(record.get("id"))[1:]
    title = _plain(_text(record.get("title")) or _text(record.get("display_name")))
    source = identifier(source_of(record).get("id"))
    if not (number.isascii() and number.isdecimal() and len(number) < 19 and slug(title) and source):
        return None
    if wanted.topics and not _about(record, wanted.topics):
        return None
    abstract = _plain(abstract_text(record.get("abstract_inverted_index")))
    if wanted.abstracts and not abstract:
        return None
    doi = _text(record.get("doi")).lower().removeprefix("https://doi.org/")
    return Work(int(number), source, title, abstract, year, language, doi if doi.startswith("10.") else "")


def source_of(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a work says of the source that published it; empty if nothing."""
    location = record.get("primary_location")
    if not isinstance(location, dict):
        return {}
    source: Any = cast("dict[str, Any]", location).get("source")
    return cast("dict[str, Any]", source) if isinstance(source, dict) else {}


def abstract_text(inverted: Any) -> str:
    """The text of `{"Despite": [0], "growing": [1], …}`, cut to `ABSTRACT_WORDS`."""
    if not isinstance(inverted, dict):
        return ""
    words: dict[int, str] = {}
    for word, places in cast("dict[str, Any]", inverted).items():
        for place in _list(places):
            if isinstance(place, int) and 0 <= place < ABSTRACT_WORDS:
                words[place] = word
    return " ".join(words[place] for place in sorted(words))


def _about(record: Mapping[str, Any], topics: tuple[str, ...]) -> bool:
    names: set[str] = set()
    for topic in (*_objects(record.get("topics")), *_objects([record.get("primary_topic")])):
        for part in (topic, *_objects([topic.get(level) for level in ("subfield", "field", "domain")])):
            names |= {identifier(part.get("id")), fold(_text(part.get("display_name")))}
    for concept in _objects(record.get("concepts")):
        if _number(concept.get("score")) >= 0.3:  # OpenAlex's own threshold for tagging
            names |= {identifier(concept.get("id")), fold(_text(concept.get("display_name")))}
    wanted = [fold(topic) for topic in topics]
    return any(t in names for t in topics) or any(part in name for part in wanted for name in names if part)


def _plain(text: str) -> str:
    """Without tags of JATS or HTML and without line breaks."""
    return " ".join(html.unescape(_TAG.sub(" ", text)).split())


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0


def _list(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


def _objects(value: Any) -> list[dict[str, Any]]:
    return [cast("dict[str, Any]", one) for one in _list(value) if isinstance(one, dict)]
