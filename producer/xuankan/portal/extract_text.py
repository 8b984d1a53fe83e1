"""Finds the abstract and the keywords in the lines of a paper. Plain text in, plain text out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

MAX_ABSTRACT: Final = 6_000
"""Characters; the longest real abstracts have some 4,000, and the model reads 1,500."""
_MAX_KEYWORD_LINES: Final = 8
_MAX_KEYWORDS: Final = 20
_LONG: Final = 350
"""Characters of a paragraph that may be an abstract without a heading."""

# Headings are compared without spaces, because small capitals and letterspacing come out as `A BSTRACT`.
_NUMBER = re.compile(r"^\s*(?:§\s*)?(?:\d{1,2}(?:\.\d)*|[IVX]{1,4})[.):]?\s+")
_ABSTRACT = re.compile(r"^(abstract|summary|(?:extended|english)abstract)$")
_ABSTRACT_LINE = re.compile(
    r"^\s*(?:A\s*B\s*S\s*T\s*R\s*A\s*C\s*T|Abstract|abstract|S\s*U\s*M\s*M\s*A\s*R\s*Y|Summary)"
    r"(?:\s*[.:：—–―-]+\s*|(?<=[ABSTRCUMY])\s+(?=[A-Z]))(?P<rest>\S.*)$"
)
_KEYWORDS_LINE = re.compile(
    r"^\s*(?:(?:additional\s+|author\s+)?key\s?-?\s?words?(?:\s+and\s+phrases)?|index\s+terms|"
    r"k\s*e\s*y\s*w\s*o\s*r\s*d\s*s)\s*(?P<mark>[.:：—–―-]*)\s*(?P<rest>.*)$",
    re.IGNORECASE,
)
_END = re.compile(
    r"^(introduction|contents|background|ccsconcepts|generalterms|articleinfo|highlights|graphicalabstract|"
    r"plainlanguagesummary|significance(statement)?|authorsummary|nomenclature|acknowledge?ments?|"
    r"tableofcontents|关键词|引言|introductionandmainresults?)$"
)
_END_LINE = re.compile(
    r"^\s*(?:PACS\b|MSC\b|JEL\b|AMS\b|DOI\b|CCS\s+Concepts|ACM\s+Reference|Mathematics\s+Subject\s+Class|"
    r"Subject\s+class|Categories\s+and\s+Subject|\(?Dated:|©|Copyright\b|Received\b|Corresponding\s+author|"
    r"\*\s*Corresponding|E-?mail\b|Preprint\s+submitted|arXiv:|Manuscript\s+received|This\s+work\s+was\s+supported|"
    r"关键词|引言|中图分类号)",
    re.IGNORECASE,
)
_SEPARATORS = re.compile(r"\s*(?:[;；·•∙|、]|\s[–—]\s)\s*")
_SENTENCE_END = re.compile(r"[.!?]['”\")\]]?\s")


@dataclass(frozen=True, slots=True)
class Sections:
    """What was found in a paper's lines.

    Attributes:
        abstract: empty if there is none.
        keywords: as they are printed.
        start: the first line that belongs to abstract or keywords; what stands before is the head.
    """

    abstract: str
    keywords: tuple[str, ...]
    start: int


def find_sections(lines: Sequence[str]) -> Sections:
    """Find what stands under `Abstract` and `Keywords`; an empty line or a heading ends keywords."""
    abstract: list[str] = []
    keywords: list[str] = []
    into: list[str] | None = None
    start = len(lines)
    seen_abstract = seen_keywords = False
    for number, line in enumerate(lines):
        key = _heading(line)
        if not seen_abstract and (_ABSTRACT.match(key) or _ABSTRACT_LINE.match(line)):
            opened = _ABSTRACT_LINE.match(line)
            into, seen_abstract = abstract, True
            abstract.extend([opened["rest"]] if opened else [])
            start = min(start, number)
        elif not seen_keywords and (opened := _keywords(line)) is not None:
            into, seen_keywords = keywords, True
            keywords.extend([opened] if opened else [])
            start = min(start, number)
        elif into is None:
            continue
        elif _END.match(key) or _END_LINE.match(line):
            into = None
            if seen_abstract and seen_keywords:
                break
        elif into is keywords and ((keywords and not line.strip()) or len(keywords) >= _MAX_KEYWORD_LINES):
            into = None
        elif line.strip():
            into.append(line)
        if sum(map(len, abstract)) > 2 * MAX_ABSTRACT:
            break
    return Sections(shorten(join(abstract)), split_keywords(keywords), start)


def is_heading(line: str) -> bool:
    """Whether a line is one of the headings that an abstract has before or after it."""
    return bool(
        _ABSTRACT.match(_heading(line))
        or _ABSTRACT_LINE.match(line)
        or _END.match(_heading(line))
        or _END_LINE.match(line)
        or _keywords(line) is not None
    )


def first_long(paragraphs: Sequence[str]) -> str:
    """The first paragraph that is long enough to be an abstract, or nothing."""
    return next((shorten(p) for p in paragraphs if len(p) >= _LONG and p.count(" ") > len(p) / 12), "")


def split_keywords(lines: Sequence[str]) -> tuple[str, ...]:
    """Keywords as authors write them: between semicolons, dots or commas, or one a line."""
    if not lines:
        return ()
    text = join(lines)
    if _SEPARATORS.search(text):
        parts = _SEPARATORS.split(text)
    elif "," in text or "，" in text:
        parts = re.split(r"\s*[,，]\s*", text)
    else:
        parts = list(lines)
    found = [part.strip(" .\t;,:") for part in parts]
    return tuple(dict.fromkeys(part for part in found if 1 < len(part) <= 100))[:_MAX_KEYWORDS]


def join(lines: Sequence[str]) -> str:
    """Lines of a paragraph as one, with words put together that were split at a line's end."""
    text = ""
    for line in lines:
        line = " ".join(line.split())
        if not text:
            text = line
        elif text.endswith("-") and line[:1].islower():
            word = text.rsplit(" ", 1)[-1]
            # `state-of-the-` keeps its hyphen, `algo-` does not.
            text = (text if "-" in word[:-1] else text[:-1]) + line
        else:
            text += " " + line
    return text


def shorten(text: str) -> str:
    """At most `MAX_ABSTRACT` characters, up to the end of a sentence if there is one."""
    if len(text) <= MAX_ABSTRACT:
        return text
    ends = [match.end() for match in _SENTENCE_END.finditer(text, 0, MAX_ABSTRACT)]
    return text[: ends[-1] if ends else MAX_ABSTRACT].rstrip()


def _heading(line: str) -> str:
    if len(line) > 60:
        return ""
    return re.sub(r"[\s*:.#—–]+", "", _NUMBER.sub("", line)).casefold()


def _keywords(line: str) -> str | None:
    """What stands behind `Keywords` in its line, or None if it is another line."""
    opened = _KEYWORDS_LINE.match(line)
    # `Keywords are ...` in the text is no heading.
    if opened is None or (opened["rest"] and not opened["mark"] and not re.search("[;,·]", line)):
        return None
    return opened["rest"]
