"""Manuscripts: what an author wants to place, checked to be text that can be ranked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

from xuankan.errors import ManuscriptError

MAX_CHARACTERS = 100_000
"""Title, abstract and keywords together; a whole paper fits, a book or a data file does not."""
MAX_CITED: Final = 1_000_000
"""References of one manuscript to one journal; the longest reference lists have some thousands."""

# Tabs, line ends and the page breaks of PDF extraction are white space. Others stray into real abstracts (a
# quotation mark of Windows), where the tokenizer drops them; in numbers they mean binary data.
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]")
_MAX_CONTROL_SHARE = 0.01
_SURROGATE = re.compile("[\ud800-\udfff]")
_LETTERS = re.compile(r"[^\W\d_]+")
_LATIN = re.compile(r"[A-Za-zªºÀ-ÖØ-öø-ɏḀ-ỿ]+")
_WORDS = re.compile(r"[a-z]+")
# Words of English that are no words of French, German, Spanish, Italian, Portuguese or Dutch.
ENGLISH_WORDS = frozenset(
    (
        "the",
        "of",
        "and",
        "to",
        "that",
        "with",
        "for",
        "by",
        "from",
        "this",
        "these",
        "are",
        "is",
        "was",
        "were",
    )
)


@dataclass(frozen=True, slots=True)
class Manuscript:
    """A title, an abstract and keywords, as plain text; remnants of LaTeX or HTML do no harm.

    One of title and abstract may be empty, at the price of a worse ranking and a warning with it.

    Attributes:
        cited: journal id -> how many of the manuscript's references are to it (`documents.citations` counts
            them); None if nothing is known of its references. It changes no score: the ranking repeats it.

    Raises:
        ManuscriptError: something is not text, nothing is there to rank, all together are longer than
            `MAX_CHARACTERS`, or a count is none.
    """

    # Left out of the repr: manuscripts are unpublished, and reprs reach logs and reports of crashes.
    title: str = field(repr=False)
    abstract: str = field(default="", repr=False)
    keywords: tuple[str, ...] = field(default=(), repr=False)
    cited: Mapping[str, int] | None = field(default=None, repr=False, hash=False)

    def __post_init__(self) -> None:
        _check_type("title", self.title)
        _check_type("abstract", self.abstract)
        object.__setattr__(self, "keywords", _as_tuple(self.keywords))
        texts = [("title", self.title), ("abstract", self.abstract)]
        texts += [(f"keywords[{i}]", keyword) for i, keyword in enumerate(self.keywords)]
        # Length first: what follows reads every character.
        length = sum(len(text) for _, text in texts)
        if length > MAX_CHARACTERS:
            field = max(texts, key=lambda text: len(text[1]))[0]
            raise ManuscriptError(
                field,
                f"the manuscript has {length:,} characters, but at most {MAX_CHARACTERS:,} are read: "
                "send the title and the abstract, not the whole text",
            )
        for field, text in texts:
            _check_characters(field, text)
        for journal, count in (self.cited or {}).items():
            if not 0 <= count <= MAX_CITED:
                raise ManuscriptError(
                    "cited", f"{journal} {count} times: give a number of references, 0 to {MAX_CITED:,}"
                )
        if not (_LETTERS.search(self.title) or _LETTERS.search(self.abstract)):
            raise ManuscriptError(
                "title", "there are no words in the title or abstract: give at least one of them"
            )

    @classmethod
    def from_mapping(cls, fields: Mapping[str, Any]) -> Manuscript:
        """A manuscript from decoded JSON with `title`, `abstract`, `keywords`; null counts as absent.

        Other fields are ignored.

        Raises:
            ManuscriptError: as for the class, or there is neither title nor abstract.
        """
        if fields.get("title") is None and fields.get("abstract") is None:
            known = ", ".join(sorted(map(str, fields))[:10]) or "none"
            raise ManuscriptError(
                "title", f"neither title nor abstract is given; the known fields are: {known}"
            )
        return cls(
            title=cast(str, "" if fields.get("title") is None else fields["title"]),
            abstract=cast(str, "" if fields.get("abstract") is None else fields["abstract"]),
            keywords=cast("tuple[str, ...]", () if fields.get("keywords") is None else fields["keywords"]),
        )

    @classmethod
    def from_text(cls, text: str) -> Manuscript:
        """A manuscript from plain text: its first line is the title, the rest the abstract.

        Raises:
            ManuscriptError: as for the class.
        """
        title, _, abstract = text.lstrip().partition("\n")
        return cls(title.strip(), abstract.strip())


def readability(manuscript: Manuscript) -> tuple[str, ...]:
    """Warnings about a manuscript that the model, which reads English, will not read well.

    Raises:
        ManuscriptError: it is mostly in another script than Latin, so that a ranking would be a guess.
    """
    text = f"{manuscript.title}\n{manuscript.abstract}"
    letters = sum(map(len, _LETTERS.findall(text)))
    latin = sum(map(len, _LATIN.findall(text)))
    warnings: list[str] = []
    if latin < 0.2 * letters:
        field = "abstract" if len(manuscript.abstract) > len(manuscript.title) else "title"
        raise ManuscriptError(
            field,
            f"only {latin} of {letters} letters are Latin, and the model reads English: "
            "give the title and the abstract in English, as most journals print them",
        )
    if latin < 0.8 * letters:
        warnings.append(
            f"{letters - latin} of {letters} letters are not Latin, and the model reads only English"
        )
    words = _WORDS.findall(text.lower())
    if len(words) >= 30 and sum(word in ENGLISH_WORDS for word in words) < 0.05 * len(words):
        warnings.append(
            "this does not look like English, the only language that the model reads: rank a translation"
        )
    if not _LETTERS.search(manuscript.abstract):
        warnings.append("there is no abstract: a ranking based on the title alone is much less reliable")
    elif not _LETTERS.search(manuscript.title):
        warnings.append("there is no title: a ranking based on the abstract alone is less reliable")
    return tuple(warnings)


def _check_type(field: str, value: object) -> None:
    if isinstance(value, bytes | bytearray):
        raise ManuscriptError(field, "bytes, not text: decode it first, as in data.decode('utf-8')")
    if not isinstance(value, str):
        raise ManuscriptError(field, f"{type(value).__name__}, not text")


def _as_tuple(keywords: Iterable[str]) -> tuple[str, ...]:
    if isinstance(keywords, str):
        raise ManuscriptError("keywords", "one text, not a list of texts: split it, as in text.split(';')")
    if not isinstance(keywords, Sequence | set | frozenset):
        raise ManuscriptError("keywords", f"{type(keywords).__name__}, not a list of texts")
    found = tuple(keywords)
    for i, keyword in enumerate(found):
        _check_type(f"keywords[{i}]", keyword)
    return found


def _check_characters(field: str, text: str) -> None:
    if bad := _SURROGATE.search(text):
        raise ManuscriptError(
            field,
            f"half a character (a lone surrogate) at position {bad.start()}: the text was decoded wrongly",
        )
    control = _CONTROL.findall(text)
    if "\0" in control or len(control) > 8 + _MAX_CONTROL_SHARE * len(text):
        raise ManuscriptError(
            field, f"{len(control)} control characters ({control[0]!r} and so on): this is not plain text"
        )
