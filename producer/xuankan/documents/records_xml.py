"""Lists of records in XML, read one at a time: EndNote's and PubMed's.

By lxml, which goes on behind what is broken; entities are not resolved and nothing is fetched.
"""

# lxml ships no types. This file gives plain values.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportMissingTypeStubs=false
# pyright: reportUnknownArgumentType=false, reportMissingModuleSource=false
from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import Any, Final, cast

from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]  # compiled, and without stubs

from xuankan.documents.columns import Columns
from xuankan.documents.fields import from_values
from xuankan.documents.files import File
from xuankan.documents.model import Document, Problem, attempt

_MAX_DEPTH: Final = 100


class _Records:
    """What both have in common."""

    tags: tuple[str, ...] = ()

    def __init__(self, file: File, columns: Columns) -> None:
        del columns  # elements have names of their own
        self._file = file

    def count(self) -> int:
        """How many records there are."""
        return sum(1 for _ in self._elements())

    def records(self, start: int = 0) -> Iterator[Document | Problem]:
        """The records from `start` on, from 0."""
        for element in islice(self._elements(), start, None):
            if isinstance(element, Problem):
                yield element
            else:
                line = int(element.sourceline or 0)
                yield attempt(partial(self._record, element, line), line, partial(_source, element))

    def _record(self, element: Any, line: int) -> Document | Problem:
        found = from_values(self._values(element), line)
        if found.title or found.abstract:
            return found
        reason = "there is neither a title nor an abstract in it"
        return Problem.of(line, reason, _source(element), found.identifier)

    def _elements(self) -> Iterator[Any]:
        with self._file.open() as handle:
            parsed = etree.iterparse(
                handle,
                events=("end",),
                tag=self.tags,
                recover=True,
                resolve_entities=False,
                no_network=True,
                load_dtd=False,
                remove_comments=True,
                remove_pis=True,
            )
            try:
                for _, element in parsed:
                    yield element
                    element.clear(keep_tail=False)
                    while element.getprevious() is not None:
                        del element.getparent()[0]
            except etree.XMLSyntaxError as error:
                yield Problem.of(error.lineno or 0, f"no XML from here on: {error.msg}")

    def _values(self, element: Any) -> dict[str, Any]:
        raise NotImplementedError


class EndNoteXml(_Records):
    """What EndNote exports as XML."""

    tags = ("record",)

    def _values(self, element: Any) -> dict[str, Any]:
        return {
            "id": _first(element, "rec-number", "accession-num", "label"),
            "title": _first(element, "titles/title", "titles/short-title", "titles/tertiary-title"),
            "abstract": _first(element, "abstract"),
            "keywords": _all(element, "keywords/keyword"),
            "journal": _first(
                element, "periodical/full-title", "titles/secondary-title", "periodical/abbr-1"
            ),
            "issn": _first(element, "isbn"),
            "doi": _first(element, "electronic-resource-num"),
            "year": _first(element, "dates/year"),
        }


class PubMedXml(_Records):
    """What PubMed exports as XML."""

    tags = ("PubmedArticle", "PubmedBookArticle")

    def _values(self, element: Any) -> dict[str, Any]:
        return {
            "id": _first(element, "*/PMID"),
            "title": _first(
                element,
                "*/Article/ArticleTitle",
                "*/ArticleTitle",
                "*/Book/BookTitle",
                "*/Article/VernacularTitle",
            ),
            "abstract": " ".join(filter(None, map(_part, self._parts(element)))),
            "keywords": _all(element, "*/KeywordList/Keyword")
            or _all(element, "*/MeshHeadingList/MeshHeading/DescriptorName"),
            "journal": _first(element, "*/Article/Journal/Title", "*/MedlineJournalInfo/MedlineTA"),
            "issn": [
                *_all(element, "*/Article/Journal/ISSN"),
                *_all(element, "*/MedlineJournalInfo/ISSNLinking"),
            ],
            "doi": _first(
                element,
                "PubmedData/ArticleIdList/ArticleId[@IdType='doi']",
                "*/Article/ELocationID[@EIdType='doi']",
            ),
            "year": _first(element, "*/Article/Journal/JournalIssue/PubDate", "*/Article/ArticleDate/Year"),
            "references": _all(element, ".//ReferenceList/Reference/Citation"),
        }

    def _parts(self, element: Any) -> list[Any]:
        return element.findall("*/Article/Abstract/AbstractText") or element.findall(
            "*/Abstract/AbstractText"
        )


def _source(element: Any) -> str:
    return cast(str, etree.tostring(element, encoding="unicode", with_tail=False))


def _part(element: Any) -> str:
    """A part of an abstract behind its label, as PubMed prints it."""
    label, text = str(element.get("Label") or ""), _text(element)
    return f"{label}: {text}" if label and text and label.upper() != "UNLABELLED" else text


def _first(element: Any, *paths: str) -> str:
    return next((text for path in paths for found in element.findall(path) if (text := _text(found))), "")


def _all(element: Any, path: str) -> list[str]:
    return [text for found in element.findall(path) if (text := _text(found))]


def _text(element: Any) -> str:
    """All text inside; a line break stands between keywords that one element holds."""
    return "".join(cast("Iterator[str]", element.itertext())).strip()
