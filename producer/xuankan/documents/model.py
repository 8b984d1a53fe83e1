"""What readers give: documents, the references they hold, and what could not be read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

MAX_TITLE: Final = 1_000
"""Characters; the longest real titles have some 500."""
MAX_ABSTRACT: Final = 6_000
"""Characters; the longest real abstracts have some 4,000, and the model reads 1,500."""
MAX_KEYWORDS: Final = 50
MAX_REFERENCES: Final = 5_000
MAX_RECORD_BYTES: Final = 1_600_000
"""Of one record of a list, as it is written: a manuscript has 100,000 characters at most, and a character
takes up to 12 bytes in JSON."""
MAX_DOCUMENT_BYTES: Final = 64 * 2**20
"""Of a file that is one document and read as a whole: a paper with its figures."""
MEMORY_BYTES: Final = 4 * 2**30
"""Of the process that reads for the commands. Lists take some 100 MB; spreadsheets about ten times their
unpacked size."""
PROCESSOR_S: Final = 60
"""Of its processor's time, for a record or until more of the file is read. Large papers take seconds."""
NO_RECORD: Final = "there is no record in it"
_SHOWN: Final = 2_000


@dataclass(frozen=True, slots=True)
class Reference:
    """One work that is cited, or where a record was published: whatever is known of it.

    Attributes:
        text: as it is printed; empty if it came in fields.
        journal: the journal's title or an abbreviation of it.
        issns: as they are written.
        doi: without a resolver before it.
        year: four digits, or empty.
    """

    text: str = ""
    journal: str = ""
    issns: tuple[str, ...] = ()
    doi: str = ""
    year: str = ""


@dataclass(frozen=True, slots=True)
class Document:
    """One manuscript or record, as plain text; `title` or `abstract` may be empty, not both.

    Attributes:
        identifier: what its file calls it (a citation key, an accession number), or empty.
        references: what it cites, at most `MAX_REFERENCES`.
        published: where a record of a bibliography was published: it stands in somebody's reference list.
        warnings: what a person should check, each a sentence.
        line: where it begins, from 1; in tables without lines (Parquet, spreadsheets) its row, in a JSON list
            its place. 0: the file is one document.
    """

    # Left out of the repr: manuscripts are unpublished, and reprs reach logs and reports of crashes.
    title: str = field(default="", repr=False)
    abstract: str = field(default="", repr=False)
    keywords: tuple[str, ...] = field(default=(), repr=False)
    identifier: str = ""
    references: tuple[Reference, ...] = field(default=(), repr=False)
    published: Reference | None = field(default=None, repr=False)
    warnings: tuple[str, ...] = ()
    line: int = 0


@dataclass(frozen=True, slots=True)
class Problem:
    """A record that cannot be used.

    Attributes:
        line: as of `Document`.
        problem: why, and what to do about it.
        text: the beginning of the record as it stands in the file.
        identifier: as of `Document`, if that much is known.
    """

    line: int
    problem: str
    text: str = field(default="", repr=False)
    identifier: str = ""

    @classmethod
    def of(cls, line: int, problem: str, text: str | bytes = "", identifier: str = "") -> Problem:
        """A problem with as much of the record's text as is worth showing."""
        shown = text[:_SHOWN]
        shown = shown.decode("utf-8", "replace") if isinstance(shown, bytes) else shown
        return cls(line, " ".join(problem.split()), shown.encode("utf-8", "replace").decode(), identifier)


def attempt(
    make: Callable[[], Document | Problem], line: int, shown: Callable[[], str]
) -> Document | Problem:
    """What `make` gives, or a problem if it fails.

    Files come from strangers. A fault of a library, or of ours, in one record must not cost the others, let
    alone end a job of a million at the same record after every restart.
    """
    try:
        return make()
    except Exception as error:  # for the reason above: whatever it is
        return Problem.of(line, f"it could not be read ({type(error).__name__}: {error})", shown())
