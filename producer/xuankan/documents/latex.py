r"""Title, abstract, keywords and references of a LaTeX source, by macro, environment or heading.

Classes differ in what they call them; what one calls a title is in the tables below. Where nothing is marked,
the text is searched as any other is, by its headings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from xuankan.documents.encodings import decode
from xuankan.documents.files import File
from xuankan.documents.language import is_latin, most_english
from xuankan.documents.latex_definitions import Span
from xuankan.documents.latex_inputs import Group
from xuankan.documents.latex_macros import Converter
from xuankan.documents.latex_references import bibliography, split_bibliography
from xuankan.documents.latex_text import clean_source, finish
from xuankan.documents.latex_tokens import Tokens, tokenize
from xuankan.documents.markup import split_keywords
from xuankan.documents.model import Document, Reference
from xuankan.documents.sections import Block, find_sections, paper, references
from xuankan.errors import Unreadable

_TITLE: Final = re.compile(
    r"(?:icml|aistats|ijcai|paper|article|thesis|full|main|english|eng|en|e|c|cn|zh|jp|chinese|foreign)?"
    r"[tT]itle(?:[eE]n|english|eng|[cC]n|chinese|zh)?\*?|TITLE|Title|titre|titel|titulo|ttitle"
)
_NO_ABSTRACT: Final = re.compile(
    r"(?i:(?:graphical|visual|no|print|make|end|show|use)abstract|abstract(?:name|font|box|page|width|skip|space|"
    r"textfont|namefont|title|header|style|heading|keywords?|runin))\*?"
)
_ABSTRACT: Final = re.compile(r"(?i:[a-z]{0,10}abstract(?:en|eng|english|text|content|cn|zh|fr|de|es)?\*?)")
_ABSTRACT_ENVIRONMENT: Final = re.compile(
    r"(?i:summary|synopsis|resume|resumen|resumo|zusammenfassung|kurzfassung|sommario|riassunto|sammanfattning)"
)
_KEYWORDS: Final = re.compile(
    r"(?:(?:en|e|eng|english|c|cn|zh|ieee|IEEE|author)?(?:[kK]ey[wW]ords?|KEYWORDS?|[kK]eyword[sS]?)(?:[eE]n|english)?"
    r"|kwd|kwdgroup|indexterms|IndexTerms)\*?"
)
# Codes of classifications, which some classes put among the keywords.
_CODES: Final = frozenset(("MSC", "PACS", "JEL", "msc", "pacs", "jel", "UDC", "AMS"))
_SECTIONS: Final = frozenset(
    (
        "section",
        "subsection",
        "subsubsection",
        "chapter",
        "part",
        "paragraph",
        "subparagraph",
        "bmhead",
        "introduction",
    )
)
_AIMS: Final = 5
_MAX_FRONT: Final = 1_000_000
"""Characters of a source that are run; a bibliography behind them is still found."""
_HEAD: Final = "\ue003"
_CUT: Final = "\ue004"
_HEADED: Final = re.compile(f"{_HEAD}([^{_HEAD}]*){_HEAD}")
_LABEL: Final = re.compile(
    r"^\W*(?:abstract|summary)\s*(?:[.:：—–-]+\s*|\n\s*\n)|^\W*ABSTRACT\s+(?=[A-Z])", re.IGNORECASE
)
_PDF_TITLE: Final = re.compile(r"pdftitle\s*=\s*\{([^{}]{8,400})\}")
_NO_TITLE: Final = re.compile(
    r"(?i)(?:your |the |insert |paper |article |full |sample )*(?:title|template)\b.{0,30}"
)
NOTHING: Final = r"it has neither \title nor an abstract: give the main file, or paste them"


def read_latex(file: File) -> Document:
    r"""What a source holds. Other files that it names are not read; a zipped project is (`zipped`).

    Raises:
        Unreadable: there is neither title nor abstract in it.
    """
    text, warning = decode(file.whole())
    return latex_document(text, [warning] if warning else [], file.name)


def latex_document(source: str, warnings: list[str], name: str = "file") -> Document:
    """As `read_latex`, of a source in memory.

    Raises:
        Unreadable: as for `read_latex`.
    """
    front, listed = split_bibliography(clean_source(source))
    if len(front) > _MAX_FRONT:
        warnings = [*warnings, f"of {len(front):,} characters the first {_MAX_FRONT:,} were read"]
    found = _Paper()
    found.run(tokenize(front[:_MAX_FRONT]))
    blocks = list(_blocks("".join(found.out)))
    sections = find_sections(blocks) if not (found.abstracts and found.keywords) else None
    title = most_english(found.titles) or _pdf_title(source)
    abstract = most_english(found.abstracts) or ("" if sections is None else sections.abstract)
    keywords = found.keywords or (() if sections is None else sections.keywords)
    if not (title or abstract):
        raise Unreadable(name, NOTHING)
    if found.missed:
        shown = ", ".join(f"\\{macro}" for macro in list(found.missed)[:5])
        warnings = [*warnings, f"not defined in the file, so kept by name: {shown}; please check the text"]
    cited: tuple[Reference, ...] = bibliography(listed) or references(blocks)
    return paper(title, abstract, keywords, references=cited, warnings=warnings)


class _Paper(Converter):
    """Collects what a source marks as title, abstract and keywords; the rest of its text stays in `out`."""

    def __init__(self) -> None:
        super().__init__()
        self.titles: list[str] = []
        self.abstracts: list[str] = []
        self.missed: dict[str, None] = {}
        self._words: list[str] = []
        self._subtitle = ""
        self._collecting = 0
        self._dropping = 0
        self._plain = False
        self.handlers.update(dict.fromkeys(_SECTIONS, self._section))
        self.handlers.update(dict.fromkeys(_CODES, self._code))
        self.handlers["subtitle"] = self._set_subtitle
        self.fixed |= _SECTIONS | {"subtitle"}

    @property
    def keywords(self) -> tuple[str, ...]:
        """What all macros and environments of keywords hold; those in English, if there are several lists."""
        lists = [words for words in self._words if re.search(r"[,;，；、·•]|\s[–—]\s", words)]
        if len(lists) > 1:
            return split_keywords(most_english(lists))
        english = [words for words in self._words if is_latin(words)]
        return split_keywords("; ".join(english or self._words))

    def run(self, tokens: Tokens) -> None:
        """Read all tokens."""
        # AMS-TeX: `\title ... \endtitle`.
        self._plain = "endtitle" in tokens.texts or "endabstract" in tokens.texts
        super().run(tokens)
        if self._subtitle and self.titles:
            self.titles[0] = f"{self.titles[0].rstrip(' :')}: {self._subtitle}"

    def macro(self, name: str, place: int, source: Span) -> None:
        """Begin to collect, or do what a macro says."""
        if name[:3] == "end" and self._plain and self.close(f"plain {name[3:]}"):
            return
        if (kind := _collected(name)) is not None and self._begin_collecting(kind, name):
            return
        super().macro(name, place, source)

    def begin(self, name: str) -> bool:
        """Collect an environment, or read it as an author's own."""
        kind = "abstract" if _ABSTRACT_ENVIRONMENT.fullmatch(name) else _collected(name)
        if kind is None or kind == "title":
            return super().begin(name)
        written = self.literal(self.option())
        if kind == "keywords" and re.search(r"class\s*=\s*(?:AMS|MSC|JEL|PACS|UDC)", written):
            self._dropping += 1
            self.open(Group(f"env {name}", action=self._drop))
        else:
            self._collecting += 1
            self.open(Group(f"env {name}", action=lambda text: self._collect(kind, text)))
        return True

    def end_body(self, name: str) -> Span | None:
        """Of an environment that was collected, none: what the class prints there is not the author's."""
        return None if _collected(name) else super().end_body(name)

    def _begin_collecting(self, kind: str, name: str) -> bool:
        """Collect a macro's arguments; returns whether it has any here."""
        self.skip("*[[")
        self.spaces()
        if self.peek() != "{":
            if self._plain and not name.startswith("end"):
                self._collecting += 1
                self.open(Group(f"plain {name}", action=lambda text: self._collect(kind, text)))
            return True
        # Astronomy & Astrophysics: context, aims, methods, results, conclusions.
        ahead = self.groups_ahead(_AIMS)
        parts = [self.argument() for _ in range(ahead if kind == "abstract" and ahead >= 3 else 1)]
        self._collecting += 1
        group = Group(object(), action=lambda text: self._collect(kind, text))
        self.open(group)
        self.push_text("", on_end=lambda: self.close(group.name))
        for part in reversed(parts):
            if part is not None:
                self.push_text(" ")
                self.push(part)
        return True

    def _drop(self, _: str) -> str:
        self._dropping -= 1
        return ""

    def _collect(self, kind: str, text: str) -> str:
        self._collecting -= 1
        text = text.partition(_CUT)[0]
        if kind == "abstract":
            heads = [head for head in _HEADED.finditer(text) if head[1].strip().casefold() == "introduction"]
            text = text[: heads[0].start()] if heads else text
        text = finish(_HEADED.sub(r" \1 ", text)).strip()
        if kind == "title":
            line = " ".join(text.split()).strip("* ")
            if line and not _NO_TITLE.fullmatch(line):
                self.titles.append(line)
        elif kind == "abstract":
            text = " ".join(_LABEL.sub("", text, count=1).split())
            if text:
                self.abstracts.append(text)
        elif any(letter.isalnum() for letter in text) and not self._dropping:
            self._words.append(text)
        return ""

    def keep_name(self, name: str, text: str) -> None:
        """Write the name of a macro that nobody defines, and remember it if title or abstract have it."""
        if self._collecting:
            self.missed[name] = None
        super().keep_name(name, text)

    def _section(self, _: str) -> None:
        self.skip("*[")
        if (span := self.group()) is not None:
            self.push(span, Group(object(), lambda text: f"\n\n{_HEAD}{' '.join(text.split())}{_HEAD}\n\n"))

    def _code(self, _: str) -> None:
        self.skip("*[{")
        if self._collecting:
            self.emit(_CUT)

    def _set_subtitle(self, _: str) -> None:
        self.skip("*[")
        if (span := self.group()) is not None:
            self.push(span, Group(object(), self._keep_subtitle))

    def _keep_subtitle(self, text: str) -> str:
        self._subtitle = self._subtitle or " ".join(finish(text).split())
        return ""


def _collected(name: str) -> str | None:
    """As what a macro or an environment is collected, if at all."""
    if _TITLE.fullmatch(name):
        return "title"
    if _ABSTRACT.fullmatch(name) and not _NO_ABSTRACT.fullmatch(name):
        return "abstract"
    return "keywords" if _KEYWORDS.fullmatch(name) else None


def _blocks(text: str) -> Iterator[Block]:
    """The paragraphs of what is left, an empty block between them."""
    for paragraph in re.split(r"\n\s*\n", text):
        found = _HEADED.fullmatch(paragraph.strip())
        line = " ".join(finish(found[1] if found else paragraph.replace(_HEAD, " ")).split())
        if line:
            yield Block(line, heading=found is not None)
            yield Block("")


def _pdf_title(source: str) -> str:
    found = _PDF_TITLE.search(source, 0, 200_000)
    return " ".join(found[1].split()) if found else ""
