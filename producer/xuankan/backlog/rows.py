"""One row of a backlog: a document of one of its files, or why it cannot be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from xuankan.documents import Document, Problem


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a backlog.

    Attributes:
        number: its place in the whole backlog, from 1.
        source: the file's name.
        line: as of `Document`.
        document: what it holds; without a title and an abstract if it cannot be read.
        reason: why it cannot be read; empty if it can.
        text: the beginning of one that cannot be read.
    """

    number: int
    source: str
    line: int
    document: Document = field(default_factory=Document)
    reason: str = ""
    text: str = ""

    @classmethod
    def of(cls, number: int, source: str, found: Document | Problem) -> Row:
        """A row of what a reader gave."""
        if isinstance(found, Document):
            return cls(number, source, found.line, found)
        document = Document(identifier=found.identifier)
        return cls(number, source, found.line, document, found.problem, found.text)

    @property
    def fields(self) -> Mapping[str, Any]:
        """What is there of id, title, abstract and keywords, as `Manuscript.from_mapping` takes it."""
        found = {
            "id": self.document.identifier,
            "title": self.document.title,
            "abstract": self.document.abstract,
            "keywords": list(self.document.keywords),
        }
        return {name: value for name, value in found.items() if value}
