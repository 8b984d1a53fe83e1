"""What the parts of a paper are: title, abstract, keywords and references in its lines or paragraphs.

Plain text in, plain text out: readers of all kinds of prose come here with what their format says of each
block, a heading or a style, and get the same answers.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from xuankan.documents.joining import join, split_lines
from xuankan.documents.language import most_english
from xuankan.documents.model import MAX_ABSTRACT, MAX_REFERENCES, Document, Reference

NO_HEADING: Final = "there is no heading “Abstract”: the first long paragraph was taken, please check it"
NO_ABSTRACT: Final = "no abstract was found: please paste it"
NO_TITLE: Final = "no title was found: please type it"

_MAX_KEYWORD_LINES: Final = 8
_MAX_HEADING: Final = 60
_SAME_SIZE: Final = 0.1
_RUN_IN: Final = 40
"""Characters behind a heading that has no mark, so that it is no title of a few words."""

# Headings are compared without spaces, because small capitals and letterspacing come out as `A BSTRACT`.
_NUMBER: Final = re.compile(r"^\s*(?:§\s*)?(?:\d{1,2}(?:\.\d)*|[IVX]{1,4})[.):]?\s+")
_ABSTRACT: Final = re.compile(
    r"^(?:(?:structured|extended|english|general|executive)?(?:abstract|summary)(?:\(?english\)?)?|"
    r"abstract[/&]?(?:and)?summary|(?:in)?english(?:abstract|summary)|abstractin(?:english)|"
    r"zusammenfassung|kurzfassung|résumé|resumen|resumo|riassunto|sommario|samenvatting|摘要|要旨|аннотация)$"
)
_ABSTRACT_LINE: Final = re.compile(
    r"^\s*(?:[*_#]{0,3})(?:A\s*B\s*S\s*T\s*R\s*A\s*C\s*T|Abstract|abstract|S\s*U\s*M\s*M\s*A\s*R\s*Y|Summary|"
    r"Zusammenfassung|Résumé|Resumen|Resumo|摘\s*要)(?:[*_]{0,3})"
    r"(?:\s*(?:[.:：—–―-]|\\\.)+(?:[*_]{0,3})\s*|(?<=[ABSTRCUMY])\s+(?=[A-Z])|(?<=[*_])\s+)(?P<rest>\S.*)$"
)
_ABSTRACT_WORD: Final = re.compile(r"^\s*(?:Abstract|ABSTRACT)\s+(?P<rest>[A-Z“\"(\d].*)$")
_KEYWORDS_LINE: Final = re.compile(
    r"^\s*(?:[*_#]{0,3})\s*(?:(?:additional\s+|author\s+|english\s+)?key\s?-?\s?words?(?:\s+(?:and|&)\s+phrases)?|"
    r"index\s+terms|k\s*e\s*y\s*w\s*o\s*r\s*d\s*s)(?:[*_]{0,3})\s*(?P<mark>[.:：—–―-]*)(?:[*_]{0,3})\s*(?P<rest>.*)$",
    re.IGNORECASE,
)
_END: Final = re.compile(
    r"^(?:introduction|contents|background|motivation|ccsconcepts|generalterms|articleinfo|highlights|"
    r"graphicalabstract|plainlanguagesummary|significance(?:statement)?|authorsummary|nomenclature|"
    r"abbreviations|acknowledge?ments?|tableofcontents|references|bibliography|introductionandmainresults?|"
    r"impactstatement|laysummary|dataavailability|articlehistory|关键词|引言|einleitung|introducción|introdução)$"
)
_END_LINE: Final = re.compile(
    r"^\s*(?:PACS\b|MSC\b|JEL\b|AMS\b|DOI\b|CCS\s+Concepts|ACM\s+Reference|(?:\d{4}\s+)?Mathematics\s+Subject\s+Class|"
    r"Subject\s+class|Categories\s+and\s+Subject|\(?Dated:|©|\(c\)\s+\d{4}|Copyright\b|Received\b|"
    r"(?:[*∗†‡§¶\d]\s*)?Corresponding\s+author|(?:[*∗†‡]\s*)?E-?mail\b|Preprint\s+submitted|arXiv:|"
    r"Manuscript\s+received|This\s+work\s+was\s+supported|Accepted\b.{0,20}\d{4}|Published\b.{0,20}\d{4}|"
    r"Available\s+online|[*∗†‡]?\s*Correspondence\b|(?:Supported|Funded|Edited|Reviewed)\s+by\b|"
    r"(?:Academic\s+)?Editors?\s*:|Supplementary\s+(?:material|information)|Conflicts?\s+of\s+interest|"
    r"(?:This|The\s+present)\s+(?:article|work|paper|manuscript|research|study)\s+(?:is|was|has\s+been)\s+(?:\w+ly\s+)?"
    r"(?:distributed|supported|funded|licensed|published\s+under|an\s+open\s+access)|"
    r"The\s+authors?\s+(?:declares?|thanks?|gratefully|acknowledges?)|"
    r"https?://doi\.org|Article\s+history|Citation:|How\s+to\s+cite|(?:Abbreviations|Funding)\s*[:：]|"
    r"关键词|引言|中图分类号|Palabras\s+clave|Mots[\s-]+cl[ée]s|Schlüsselwörter|Schlagworte|Palavras[\s-]+chave)",
    re.IGNORECASE,
)
# What may stand in a text too, but not alone behind a sentence: an address, where an article appeared.
_SHORT_NOTE: Final = re.compile(
    r"^(?:\S{0,30}\s){0,4}\S{1,60}@\S+\.\w+\W*$|^[A-Z][^.]{3,60}\b(?:19|20)\d\d\s*[,;:]\s*\d[\d\s,;:()–-]*$|"
    r"^.{3,80}\bcontributed\s+equally\b.{0,40}$|^\s*(?:https?://|www\.)\S+\s*$"
)
# What submission systems ask for, behind the abstract or the keywords.
_COUNT: Final = re.compile(
    r"\s*[\[(]?\b(?:(?:total|abstract|manuscript|main\s+text)\s+)?(?:(?:word|character)s?\s+counts?|"
    r"number\s+of\s+(?:words|characters|pages|figures|tables))\s*(?:\(.{0,30}\)\s*)?[:：=]\s*"
    r"(?:[^\W\d]+\s+){0,2}\d.{0,60}$",
    re.IGNORECASE,
)
_FIRST_SECTION: Final = re.compile(r"^\s*(?:§\s*)?(?:1|I|A)[.)]?\s+[A-Z][\w\s,:&’'–-]{2,60}$")
_STRUCTURE: Final = re.compile(
    r"^(?:background|objectives?|aims?|purpose|methods?|materialsandmethods|patientsandmethods|designs?|setting|"
    r"participants|interventions?|measurements|results?|findings|conclusions?|interpretation|discussion|context|"
    r"rationale|hypothesis|approach|studydesign|mainoutcomemeasures?|limitations|trialregistration|significance)$"
)
_REFERENCES: Final = re.compile(
    r"^(?:references?(?:cited|list)?|bibliography|literature(?:cited)?|workscited|literatur(?:verzeichnis)?|"
    r"bibliographie|referencias|referências|参考文献)$"
)
_LISTED: Final = re.compile(r"^\s*(?:\[\d{1,4}\]|\(\d{1,4}\)|\d{1,4}[.)])\s+")


@dataclass(frozen=True, slots=True)
class Block:
    """A line or a paragraph. An empty one stands between paragraphs.

    Attributes:
        text: what it says, in one line.
        heading: whether its format says that it is a heading.
        style: the name of its style in small letters.
        size: of its letters, in points; 0 if it is not known.
        gap: of an empty one, whether more than an empty line is there: another part of the page.
    """

    text: str
    heading: bool = False
    style: str = ""
    size: float = 0.0
    gap: bool = False


@dataclass(frozen=True, slots=True)
class Sections:
    """What was found in a paper's blocks.

    Attributes:
        abstracts: of each language one, as they stand; none if there is no heading.
        keywords: as they are printed.
        start: the first block that belongs to abstract or keywords; what stands before is the head.
    """

    abstracts: tuple[str, ...]
    keywords: tuple[str, ...]
    start: int

    @property
    def abstract(self) -> str:
        """The one in English, if there are several."""
        return most_english(self.abstracts)


def find_sections(blocks: Sequence[Block], compounds: Container[str] = ()) -> Sections:
    """Find what stands under `Abstract` and `Keywords`; an empty block or a heading ends keywords.

    Args:
        blocks: lines with empty blocks between paragraphs, or paragraphs likewise.
        compounds: words of the text that have a hyphen wherever they stand, as for `join`.
    """
    return _SectionFinder(compounds).run(blocks)


class _SectionFinder:
    def __init__(self, compounds: Container[str]) -> None:
        self._compounds = compounds
        self._size = 0.0
        self._abstracts: list[list[str]] = []
        self._keywords: list[str] = []
        self._into: list[str] | None = None
        self._gap = False
        self._listed = False

    def run(self, blocks: Sequence[Block]) -> Sections:
        start = len(blocks)
        for number, given in enumerate(blocks):
            block = given if given.heading else _uncounted(given)
            if self._begins(block, number):
                start = min(start, number)
            elif self._into is not None and not self._goes_on(block):
                self._into = None
            if self._abstracts and sum(map(len, self._abstracts[-1])) > 2 * MAX_ABSTRACT:
                break
        return Sections(
            tuple(text for lines in self._abstracts if (text := join(lines, self._compounds))),
            split_lines(self._keywords),
            start,
        )

    def _begins(self, block: Block, number: int) -> bool:
        line = block.text
        key = _key(line)
        if self._into is not None and self._into is not self._keywords and self._is_part(block, key):
            return False
        opened = _opened(line, block, number)
        if (
            opened is not None
            or _ABSTRACT.match(key)
            or re.search(r"^(?:.*\s)?abstract\b(?!.*title)", block.style)
        ):
            if opened is None and not _ABSTRACT.match(key):
                opened = None if block.heading or key in ("abstract", "summary") else line
                if self._abstracts and self._into is self._abstracts[-1] and opened:
                    self._abstracts[-1].append(opened)
                    return True
            if len(self._abstracts) < 4:
                self._abstracts.append([opened] if opened else [])
                self._into = self._abstracts[-1]
                self._size = block.size if opened else 0.0
            return True
        if not self._keywords and (words := _keywords(line)) is not None:
            self._into, self._gap, self._listed = self._keywords, False, not words
            self._keywords.extend([words] if words else [])
            return True
        return False

    def _is_part(self, block: Block, key: str) -> bool:
        """Whether a heading is one of an abstract in parts: `Methods` inside it."""
        lines = self._abstracts[-1] if self._abstracts else []
        if not _STRUCTURE.match(key) or (lines and key == "background"):
            return False
        if block.heading or len(block.text) < _MAX_HEADING:
            lines.append(block.text.strip().rstrip(":.") + ":")
        return True

    def _goes_on(self, block: Block) -> bool:
        """Whether a block belongs to what was begun; it is taken if so."""
        assert self._into is not None
        line, key = block.text, _key(block.text)
        if self._into is not self._keywords and self._is_structured(block, key):
            return True
        if block.heading or _END.match(key) or _END_LINE.match(line) or _FIRST_SECTION.match(line):
            return False
        if self._into is self._keywords:
            return self._keyword_line(line)
        if _keywords(line) is not None:
            return False
        if not line.strip():
            return not (block.gap and self._into)
        if _SHORT_NOTE.match(line) and self._into and self._into[-1].rstrip().endswith((".", "!", "?")):
            return False
        # Lines of another size behind an abstract are notes, or the text of the paper.
        if self._size and block.size and abs(block.size - self._size) > _SAME_SIZE * self._size:
            return len(line) < _MAX_HEADING and not self._into[-1].endswith(".")
        self._size = self._size or block.size
        self._into.append(line)
        return True

    def _is_structured(self, block: Block, key: str) -> bool:
        return bool(
            self._into
            and self._into[-1].endswith(":")
            and _key(self._into[-1]) == key
            and _STRUCTURE.match(key)
            and len(block.text) < _MAX_HEADING
        )

    def _keyword_line(self, line: str) -> bool:
        if not line.strip():
            self._gap = True
            return True
        if len(self._keywords) >= _MAX_KEYWORD_LINES * (4 if self._listed else 1):
            return False
        if self._gap and self._keywords:
            unfinished = self._keywords[-1].rstrip().endswith((",", ";", "·", "，", "；"))
            listed = self._listed and len(line) <= _MAX_HEADING and not re.search(r"[.;,]\s|\.$", line)
            if not unfinished and not (listed and len(self._keywords[-1]) <= _MAX_HEADING):
                return False
        self._gap = False
        self._keywords.append(line)
        return True


def _uncounted(block: Block) -> Block:
    """A block without the count of words at its end; empty, and so a boundary, if it says nothing else."""
    if "count" not in (folded := block.text.casefold()) and "number of" not in folded:
        return block
    return replace(block, text=_COUNT.sub("", block.text))


def is_heading(line: str) -> bool:
    """Whether a line is one of the headings that an abstract has before or after it."""
    return bool(
        _ABSTRACT.match(_key(line))
        or _ABSTRACT_LINE.match(line)
        or _END.match(_key(line))
        or _END_LINE.match(line)
        or _keywords(line) is not None
    )


def is_note(line: str) -> bool:
    """Whether a line is one of the notes that publishers print: a date, a DOI, a copyright."""
    return _END_LINE.match(line) is not None


def references(blocks: Sequence[Block]) -> tuple[Reference, ...]:
    """The works listed under `References`, as they are printed."""
    return tuple(Reference(text=text) for text in _listed(blocks))[:MAX_REFERENCES]


def _listed(blocks: Sequence[Block]) -> Iterator[str]:
    start = next(
        (at for at in range(len(blocks) - 1, -1, -1) if _REFERENCES.match(_key(blocks[at].text))), len(blocks)
    )
    entry: list[str] = []
    numbered = any(_LISTED.match(block.text) for block in blocks[start + 1 : start + 4])
    for block in blocks[start + 1 :]:
        if block.heading:
            break
        begins = _LISTED.match(block.text) if numbered else not block.text
        if begins and entry:
            yield join(entry)
            entry = []
        if block.text:
            entry.append(_LISTED.sub("", block.text))
    if entry:
        yield join(entry)


def paper(
    title: str,
    abstract: str,
    keywords: Sequence[str] = (),
    *,
    references: tuple[Reference, ...] = (),
    warnings: Sequence[str] = (),
) -> Document:
    """A document, with a warning for what is missing."""
    said = [*warnings]
    if not title.strip() and abstract.strip():
        said.append(NO_TITLE)
    if not abstract.strip() and title.strip():
        said.append(NO_ABSTRACT)
    return Document(title, abstract, tuple(keywords), references=references, warnings=tuple(said))


def _opened(line: str, block: Block, number: int) -> str | None:
    """What stands behind `Abstract` in its line, or None."""
    if (opened := _ABSTRACT_LINE.match(line)) is not None:
        return opened["rest"]
    if number and not block.heading and (opened := _ABSTRACT_WORD.match(line)) is not None:
        return opened["rest"] if len(opened["rest"]) >= _RUN_IN else None
    return None


def _key(line: str) -> str:
    if len(line) > _MAX_HEADING:
        return ""
    return re.sub(r"[\s*_:.#—–]+", "", _NUMBER.sub("", line)).casefold()


def _keywords(line: str) -> str | None:
    """What stands behind `Keywords` in its line, or None if it is another line."""
    opened = _KEYWORDS_LINE.match(line)
    # `Keywords are ...` in the text is no heading.
    if opened is None or (opened["rest"] and not opened["mark"] and not re.search("[;,·•|]", line)):
        return None
    return opened["rest"]
