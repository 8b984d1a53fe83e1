"""The catalogue: the versioned set of journals that a deployment ranks."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, cast, get_args

from xuankan.bounded import gunzip_bounded, read_bounded
from xuankan.errors import CatalogueError, UnknownJournal
from xuankan.unicode import normalized

FORMAT = "xuankan-catalogue/1"
MAX_FILE_BYTES, MAX_CONTENT_BYTES = 128 * 2**20, 512 * 2**20
"""Packed and unpacked; the package's has 0.6 MB unpacked, one of 27,000 journals about 25."""
OpenAccess = Literal["diamond", "gold", "hybrid", "subscription"]
"""diamond: open, authors pay nothing · gold: open, authors pay · hybrid: open on payment · subscription."""
OPEN_ACCESS: tuple[OpenAccess, ...] = get_args(OpenAccess)


@dataclass(frozen=True, slots=True)
class Journal:
    """One venue. What is not known is None or empty, never a guess.

    Attributes:
        id: a slug of the title, unique in the catalogue.
        apc_usd: list price of publishing openly, in US dollars; 0.0 where authors pay nothing.
        languages: ISO 639-1 codes of the languages it publishes in.
        licence: of its open papers, such as `CC BY`.
        subjects: what its papers are about, the commonest first.
        sjr, quartile: SCImago's indicator and best quartile (`Q1` to `Q4`), where a deployment imported them.
        profile: the text that stands for the journal in a pair, the most telling words first.
        examples: the titles of real papers that the profile quotes.
        sources: where the facts come from.
    """

    id: str
    title: str
    publisher: str | None = None
    issns: tuple[str, ...] = ()
    country: str | None = None
    homepage: str | None = None
    open_access: OpenAccess | None = None
    apc_usd: float | None = None
    languages: tuple[str, ...] = ()
    licence: str | None = None
    subjects: tuple[str, ...] = ()
    sjr: float | None = None
    quartile: str | None = None
    profile: str = ""
    examples: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    def metadata(self) -> dict[str, Any]:
        """What a result carries of the journal: every field but `profile` and `examples`, as plain values."""
        return {name: list(getattr(self, name)) if name in _TEXTS else getattr(self, name) for name in _SHOWN}


_TEXT = ("id", "title", "profile")
_OPTIONAL_TEXT = ("publisher", "country", "homepage", "open_access", "licence", "quartile")
_TEXTS = ("issns", "languages", "subjects", "examples", "sources")
_NUMBERS = ("apc_usd", "sjr")
_NAMES = tuple(f.name for f in fields(Journal))
_FIELDS = frozenset(_NAMES)
_SHOWN = tuple(name for name in _NAMES if name not in ("profile", "examples"))


def journal_from_dict(row: Mapping[str, Any], where: str) -> Journal:
    """A journal from plain values; `where` names the row in errors.

    Raises:
        CatalogueError: an unknown field, or a value of the wrong type, naming row, field and value.
    """
    if unknown := sorted(set(row) - _FIELDS):
        raise CatalogueError(f"{where}: unknown field {unknown[0]!r}; known are {', '.join(sorted(_FIELDS))}")
    values: dict[str, Any] = dict(row)
    for name in _TEXT:
        value = values.setdefault(name, "")
        if not isinstance(value, str) or (not value.strip() and name != "profile"):
            raise CatalogueError(f"{where}: {name} is {value!r}, not a text with something in it")
    for name in _OPTIONAL_TEXT:
        value = values.get(name)
        if value is not None and not isinstance(value, str):
            raise CatalogueError(f"{where}: {name} is {value!r}, neither a text nor null")
    for name in _TEXTS:
        value = values.get(name, ())
        if not isinstance(value, list | tuple) or not all(
            isinstance(v, str) for v in cast("list[Any]", value)
        ):
            raise CatalogueError(f"{where}: {name} is {value!r}, not a list of texts")
        values[name] = tuple(cast("list[str]", value))
    for name in _NUMBERS:
        value = values.get(name)
        if value is not None:
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e6:
                raise CatalogueError(f"{where}: {name} is {value!r}, not a number from 0 to 1,000,000")
            values[name] = float(value)
    open_access = values.get("open_access")
    if open_access is not None and open_access not in OPEN_ACCESS:
        raise CatalogueError(f"{where}: open_access is {open_access!r}, not one of {', '.join(OPEN_ACCESS)}")
    return Journal(**values)


def fold(text: str) -> str:
    """Lower case without accents, `&` as `and`, everything but letters and digits as single spaces."""
    plain = normalized("NFKD", text.replace("&", " and "))
    plain = "".join(c for c in plain if not unicodedata.combining(c)).casefold()
    return re.sub(r"[\W_]+", " ", plain).strip()


def slug(title: str) -> str:
    """`"Physical Review B"` -> `"physical-review-b"`; empty if the title has no letter or digit."""
    return fold(title).replace(" ", "-")


def _canonical(journal: Journal) -> dict[str, Any]:
    # Not dataclasses.asdict: its deep copies take most of the time of opening a large catalogue.
    values = ((name, getattr(journal, name)) for name in _NAMES)
    return {name: value for name, value in values if value not in (None, (), "")}


@dataclass(frozen=True, slots=True)
class Catalogue:
    """An ordered set of journals. `version` is the hash of their content: equal catalogues, equal versions.

    Raises:
        CatalogueError: no journal, or two with one id.
    """

    journals: tuple[Journal, ...]
    version: str = field(init=False)
    _by_id: Mapping[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.journals:
            raise CatalogueError("a catalogue needs at least one journal")
        by_id: dict[str, int] = {}
        for position, journal in enumerate(self.journals):
            if (first := by_id.setdefault(journal.id, position)) != position:
                raise CatalogueError(f"journals {first} and {position} have the same id, {journal.id!r}")
        content = json.dumps([_canonical(j) for j in self.journals], sort_keys=True, ensure_ascii=False)
        object.__setattr__(self, "version", hashlib.sha256(content.encode()).hexdigest()[:16])
        object.__setattr__(self, "_by_id", by_id)

    def __len__(self) -> int:
        return len(self.journals)

    def __iter__(self) -> Iterator[Journal]:
        return iter(self.journals)

    def __getitem__(self, position: int) -> Journal:
        return self.journals[position]

    def __contains__(self, journal_id: object) -> bool:
        return journal_id in self._by_id

    def index(self, journal_id: str) -> int:
        """The position of a journal in `journals`, and so in every score vector.

        Raises:
            UnknownJournal: no journal of this id; the message names the closest.
        """
        try:
            return self._by_id[journal_id]
        except KeyError:
            close = [self.journals[i].id for i in self._closest(journal_id)]
            hint = f"; close: {', '.join(close)}" if close else ""
            raise UnknownJournal(
                "journal", f"{journal_id!r} is not in catalogue {self.version} of {len(self)} journals{hint}"
            ) from None

    def find(self, text: str, limit: int = 10) -> tuple[Journal, ...]:
        """Journals by id, ISSN or words of the title: exact matches first, then all words, else near ones."""
        key = fold(text)
        if not key:
            return ()
        exact = [j for j in self.journals if key in (fold(j.id), fold(j.title), *map(fold, j.issns))]
        words = [j for j in self.journals if all(word in fold(j.title) for word in key.split())]
        near = [] if exact or words else [self.journals[i] for i in self._closest(text)]
        found = dict.fromkeys((*exact, *sorted(words, key=lambda j: len(j.title)), *near))
        return tuple(found)[:limit]

    def _closest(self, text: str, limit: int = 3) -> list[int]:
        from difflib import get_close_matches

        wanted = slug(text)
        close = get_close_matches(wanted, list(self._by_id), limit, cutoff=0.6)
        if not close and wanted:
            close = [key for key in self._by_id if wanted in key][:limit]
        return [self._by_id[key] for key in close]

    def save(self, path: Path) -> None:
        """Write the catalogue as gzipped JSON; the same content always gives the same bytes."""
        document = {
            "format": FORMAT,
            "version": self.version,
            "journals": [_canonical(j) for j in self.journals],
        }
        text = json.dumps(document, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        path.write_bytes(gzip.compress(text.encode(), compresslevel=9, mtime=0))

    @classmethod
    def load(cls, path: Path) -> Catalogue:
        """Read a catalogue written by `save`.

        Raises:
            CatalogueError: the file cannot be read, is no catalogue, or its content does not match its
            version.
        """
        try:
            with path.open("rb") as file:
                packed = read_bounded(file, MAX_FILE_BYTES)
            document: Any = json.loads(gunzip_bounded(packed, MAX_CONTENT_BYTES))
        except (OSError, ValueError, RecursionError) as error:
            raise CatalogueError(f"{path} cannot be read as a catalogue: {error}") from error
        if (
            not isinstance(document, dict)
            or (found := cast("dict[str, Any]", document).get("format")) != FORMAT
        ):
            raise CatalogueError(f"{path} is not a catalogue of format {FORMAT}")
        del found
        document = cast("dict[str, Any]", document)
        rows: Any = document.get("journals")
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in cast("list[Any]", rows)):
            raise CatalogueError(f"{path}: journals is not a list of objects")
        rows = cast("list[dict[str, Any]]", rows)
        catalogue = cls(tuple(journal_from_dict(row, f"{path}, journal {i}") for i, row in enumerate(rows)))
        if document.get("version") != catalogue.version:
            raise CatalogueError(
                f"{path} says version {document.get('version')!r} but its content is {catalogue.version!r}: "
                "it was changed by hand or damaged; build or import it again"
            )
        return catalogue

    @classmethod
    def default(cls) -> Catalogue:
        """The catalogue shipped with the package, loaded once per process."""
        return _default()


@cache
def _default() -> Catalogue:
    return Catalogue.load(Path(str(files("xuankan") / "data" / "catalogue.json.gz")))


def quoted_titles(catalogue: Catalogue) -> frozenset[str]:
    """Folded titles (see `fold`) of the papers that profiles quote, so that training can treat them apart."""
    return frozenset(fold(title) for journal in catalogue for title in journal.examples)
