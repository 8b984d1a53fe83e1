"""Which line of a paper's head is its title, and what of it is none: notes, labels, marks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_LABEL: Final = re.compile(
    r"(?:(?:original|research|review|short|brief|full|regular|invited|technical|scientific|data|case|rapid|special)"
    r"\s+)*"
    r"(?:articles?|papers?|communications?|reports?|letters?|notes?|reviews?|manuscripts?|contributions?|"
    r"perspectives?|"
    r"editorials?|commentar(?:y|ies)|title\s+page|cover\s+(?:page|letter)|draft|preprint|open\s+access|"
    r"submission|anonymous(?:\s+submission)?|supplementary\s+materials?)(?:\s+\d+|\s+title)?[:.]?",
    re.IGNORECASE,
)
_NOTE: Final = re.compile(
    r"\s*(?:running\s+(?:head|title)|short\s+title|manuscript\s+(?:id|number|no|type|category|draft)|word\s+count|"
    r"corresponding\s+author|authors?\s*:|affiliations?\s*:|e-?mail|received\b|accepted\b|published\b|doi\b|"
    r"https?://|www\.|article\s+type|target\s+journal|submitted\s+to|to\s+(?:be\s+submitted|appear)|vol(?:ume|\.)\s*\d|"
    r"issn\b|arxiv:|©|\(c\)\s|copyright\b|available\s+online|contents\s+lists|journal\s+homepage|date\s*:|"
    r"prepared\s+using|draft\s+version|preprint\b|page\s+\d|\d+$)",
    re.IGNORECASE,
)
_PREFIX: Final = re.compile(
    r"^\s*(?:(?:manuscript|article|paper|full|the)\s+)?title\s*[:：.]\s*", re.IGNORECASE
)
_ALONE: Final = re.compile(r"^\s*(?:(?:manuscript|article|paper|full)\s+)?title\s*[:：.]?\s*$", re.IGNORECASE)
_MARKS: Final = re.compile(r"(?:\s*[*∗⁎†‡§¶★☆✩♯#]|\s+[⋆])+\s*$")
# What programs write into the properties when the author wrote nothing.
_NO_NAME: Final = re.compile(
    r"^(?:untitled|unknown|microsoft (?:word|powerpoint)|word \d|document\d*|title\b.{0,12}$|main\b|"
    r"paper\b|manuscript\b|template\b|print\b|pii:|doi:|.*\.(?:docx?|tex|pdf|dvi|rtf|odt|indd|qxd|md)\b)",
    re.IGNORECASE,
)
_HEAD: Final = 8
"""Paragraphs in which a title without a style is looked for."""


@dataclass(frozen=True, slots=True)
class TitleCandidate:
    """A paragraph of the head; `size` in points, 0 if unknown; `styled`: its style says it is the title."""

    text: str
    size: float = 0.0
    styled: bool = False


def pick_title(head: Sequence[TitleCandidate], named: str) -> str:
    """The title by its style, by a label before it, by the properties if the page says it too, or by size."""
    styled = _run([candidate.styled for candidate in head])
    if styled:
        return clean_title(" ".join(head[at].text for at in styled))
    for at, candidate in enumerate(head[:_HEAD]):
        if (labelled := _PREFIX.sub("", candidate.text)) != candidate.text and labelled.strip():
            return clean_title(labelled)
        if _ALONE.match(candidate.text) and at + 1 < len(head):
            return clean_title(head[at + 1].text)
    if is_name(named) and any(is_same(named, candidate.text) for candidate in head[:15]):
        return clean_title(named)
    able = [candidate for candidate in head[:_HEAD] if can_be_title(candidate.text)]
    return clean_title(max(able, key=lambda candidate: candidate.size, default=TitleCandidate("")).text)


def can_be_title(text: str) -> bool:
    """Whether a line is neither a label, as `Research Article`, nor a note, as `Received 3 May`."""
    return bool(re.search(r"\w", text)) and not _LABEL.fullmatch(text.strip()) and not _NOTE.match(text)


def clean_title(text: str) -> str:
    """A title without the marks of footnotes at its end and a label before it."""
    return _MARKS.sub("", _PREFIX.sub("", " ".join(text.split())))


def is_name(named: str) -> bool:
    """Whether a title in the properties may be one: more than a word, and not a program's own."""
    return len(named.split()) > 1 and not _NO_NAME.match(named)


def is_same(one: str, other: str) -> bool:
    """Whether two texts have the same letters."""
    return bool(one) and letters(one) == letters(other)


def letters(text: str) -> str:
    """Letters and digits alone, in small letters: spaces and marks differ from place to place."""
    return re.sub(r"[\W_]+", "", text).casefold()


def _run(flags: Sequence[bool]) -> list[int]:
    """The first places in a row that are set."""
    found: list[int] = []
    for at, flag in enumerate(flags):
        if flag:
            found.append(at)
        elif found:
            break
    return found
