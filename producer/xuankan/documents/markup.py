"""Text without markup: tags of HTML, JATS and MathML, entities, broken ligatures; and keywords apart."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from xuankan.documents.model import MAX_ABSTRACT, MAX_KEYWORDS, MAX_TITLE, Document

# Tags that exports carry. Only these: in "p <0.05 and n> 3" there is none.
_INLINE: Final = (
    "a|abbr|b|bold|cite|em|ext-link|font|i|italic|mark|monospace|named-content|overline|roman|s|sans-serif|sc|"
    "scp|small|span|strike|strong|styled-content|sub|sup|inf|tt|u|underline|uri|xref|"
    "inline-formula|inline-graphic|alternatives|formula|inline|math|mi|mn|mo|mrow|ms|mtext|msub|msup|msubsup|"
    "mfrac|msqrt|mroot|mover|munder|munderover|mfenced|mstyle|mspace|mpadded|mphantom|mtable|mtr|mtd|"
    "menclose|merror|mmultiscripts|mprescripts|none|semantics|annotation|annotation-xml"
)
_BLOCK: Final = (
    "abstract|abstracttext|blockquote|br|break|center|dd|def|disp-formula|div|dl|dt|h[1-6]|hr|label|li|"
    "list|list-item|ol|p|para|sec|section|simple-para|table|tbody|td|th|title|tr|ul"
)
_PREFIX: Final = r"(?:jats|mml|ce|sb|html|ns\d+|m|xhtml):"
_TAG: Final = re.compile(
    rf"</?(?:{_PREFIX})?(?:(?P<block>{_BLOCK})|{_INLINE})(?:\s[^<>]*)?/?>", re.IGNORECASE
)
_COMMENT: Final = re.compile(r"<!--.{0,2000}?-->|<!\[CDATA\[|\]\]>", re.DOTALL)
# The same formula again, as TeX or as what a program computes with.
_TWIN: Final = re.compile(
    rf"<(?P<name>(?:{_PREFIX})?(?:tex-math|annotation(?:-xml)?))\b[^<>]*>.{0, 5000}?</(?P=name)\s*>",
    re.IGNORECASE | re.DOTALL,
)
_HEADING: Final = re.compile(
    rf"\s*<(?P<name>(?:{_PREFIX})?(?:title|label|h[1-6]|b|bold|strong))>\s*(?:abstract|summary)\s*[.:]?\s*</(?P=name)>",
    re.IGNORECASE,
)
_ENTITY: Final = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_LIGATURES: Final = {"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st"}
_CLEANED: Final = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\ufeff\ufffe\uffff\ud800-\udfff\ufb00-\ufb06\xad]"
)
_MAX_CHARACTERS: Final = 100_000
"""Of one text; much less is shown and ranked of it."""
_MAX_KEYWORD_CHARACTERS: Final = 10_000
_SENTENCE_END: Final = re.compile(r"[.!?]['”\")\]]?\s")
_SEPARATORS: Final = re.compile(r"\s*(?:[;；·•∙、|]|\s[–—/]\s|\\sep\b)\s*")
_COMMAS: Final = re.compile(r"\s*[,，]\s*(?![^()\[\]]{0,80}[)\]])")


def plain(text: str) -> str:
    """Text without tags and entities, white space as single spaces.

    Entities that were escaped twice are resolved twice (`&amp;lt;` is `<`): Crossref's are.
    """
    text = text[:_MAX_CHARACTERS]
    if "&" in text:
        text = unescape(text)
    if "<" in text:
        text = _COMMENT.sub(lambda match: " " if match[0].startswith("<!--") else "", text)
        text = _HEADING.sub(" ", _TWIN.sub("", text), count=1)
        text = _TAG.sub(lambda match: " " if match["block"] else "", text)
    return clean(text)


def unescape(text: str) -> str:
    """Text without the entities of HTML; an `&` that begins none stays."""
    for _ in range(2):
        if "&" not in text:
            break
        text = _ENTITY.sub(lambda match: html.unescape(match[0]), text)
    return text


def clean(text: str) -> str:
    """Text without what cannot be printed, broken ligatures mended, white space as single spaces."""
    if not text.isascii() or not text.isprintable():
        text = _CLEANED.sub(lambda match: _cleaned(match[0]), text)
    return " ".join(text.split())


def split_keywords(words: str | Iterable[str]) -> tuple[str, ...]:
    """Keywords as people write them: between semicolons, bars, dots or commas; one a line; each once.

    A list whose items are keywords already is split only where an item holds a semicolon.
    """
    if isinstance(words, str):
        parts = _split(words)
    else:
        given = [word for word in words if word.strip()]
        parts = (
            _split(given[0]) if len(given) == 1 else [p for g in given for p in re.split(r"\s*[;；]\s*", g)]
        )
    found = (clean(part).strip(" .\t;,:*") for part in parts)
    return tuple(dict.fromkeys(word for word in found if word))[:MAX_KEYWORDS]


def shorten(text: str) -> str:
    """At most `MAX_ABSTRACT` characters, up to the end of a sentence if there is one."""
    if len(text) <= MAX_ABSTRACT:
        return text
    ends = [match.end() for match in _SENTENCE_END.finditer(text, 0, MAX_ABSTRACT)]
    return text[: ends[-1] if ends else MAX_ABSTRACT].rstrip()


def tidy(document: Document) -> Document:
    """A reader's document as it is shown and ranked: cleaned, and no longer than it has to be."""
    title, abstract = clean(document.title), clean(document.abstract)
    warnings = list(document.warnings)
    if len(title) > MAX_TITLE:
        warnings.append(f"the title has {len(title):,} characters: the first {MAX_TITLE:,} were taken")
    if len(short := shorten(abstract)) < len(abstract):
        warnings.append(f"the abstract has {len(abstract):,} characters: the first {len(short):,} were taken")
    return replace(
        document,
        title=title[:MAX_TITLE].rstrip(),
        abstract=short,
        keywords=tuple(dict.fromkeys(word for word in map(clean, document.keywords) if word))[:MAX_KEYWORDS],
        identifier=clean(document.identifier)[:200],
        warnings=tuple(dict.fromkeys(warnings)),
    )


def _cleaned(character: str) -> str:
    return "" if character == "\xad" else _LIGATURES.get(character, " ")


def _split(text: str) -> list[str]:
    text = text[:_MAX_KEYWORD_CHARACTERS]
    if _SEPARATORS.search(text):
        return _SEPARATORS.split(text)
    if "\n" in text.strip():
        lines = text.strip().splitlines()
        if not any(_COMMAS.search(line) for line in lines):
            return lines
    return _COMMAS.split(text)
