"""Markdown: front matter as Pandoc, Quarto, MyST and JOSS write it, else headings.

By markdown-it-py, which the console output needs already, and PyYAML.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib import import_module
from typing import Any, Final, cast

from xuankan.documents.encodings import decode
from xuankan.documents.files import File
from xuankan.documents.language import most_english
from xuankan.documents.latex_text import latex_to_text
from xuankan.documents.markup import plain, split_keywords
from xuankan.documents.model import Document
from xuankan.documents.sections import Block, find_sections, paper, references
from xuankan.documents.text import of_blocks

_YAML: Final = re.compile(r"\A\ufeff?\s*---[ \t]*\n(.*?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_TOML: Final = re.compile(r"\A\ufeff?\s*\+\+\+[ \t]*\n(.*?)\n\+\+\+[ \t]*(?:\n|\Z)", re.DOTALL)
_MAX_FRONT: Final = 100_000
_MAX_BODY: Final = 400_000
"""Characters of a body that are read: a paper has some 100,000."""
_TITLES: Final = ("title", "title_en", "title-en", "Title")
_ABSTRACTS: Final = ("abstract", "abstract_en", "summary", "description", "Abstract")
_KEYWORDS: Final = ("keywords", "keyword", "tags", "Keywords", "keywords_en")
# Pandoc's citations, attributes and fenced divisions.
_CITATION: Final = re.compile(r"\s*\[[^\[\]\n]{0,100}?-?@[\w:.#$%&+?<>~/-]{1,100}[^\[\]\n]{0,300}\]")
_ATTRIBUTES: Final = re.compile(r"\s*\{[#.][^{}\n]{0,200}\}")
_FENCE: Final = re.compile(r"^:{3,}[^\n]*$", re.MULTILINE)


def read_markdown(file: File) -> Document:
    """What the front matter says counts more than headings."""
    text, warning = decode(file.whole())
    front, body = _front(text)
    warnings = [warning] if warning else []
    title = most_english([found for name in _TITLES if (found := _said(front, name))])
    subtitle = _said(front, "subtitle")
    title = f"{title.rstrip(' :')}: {subtitle}" if title and subtitle else title
    abstract = next((found for name in _ABSTRACTS if (found := _said(front, name))), "")
    keywords = next((found for name in _KEYWORDS if (found := _words(front.get(name)))), ())
    blocks = list(_blocks(body))
    if not title:
        heading = next((block for block in blocks if block.text), None)
        if heading is not None and heading.heading and find_sections([heading]).start != 0:
            title, blocks = heading.text, blocks[blocks.index(heading) + 1 :]
    sections = find_sections(blocks)
    keywords = keywords or sections.keywords
    if abstract and title:
        return paper(title, abstract, keywords, references=references(blocks), warnings=warnings)
    found = of_blocks(blocks, title, warnings)
    if abstract:  # what is said of the body's is not of this one
        return paper(found.title, abstract, keywords, references=found.references, warnings=warnings)
    return replace(found, keywords=keywords or found.keywords)


def _front(text: str) -> tuple[Mapping[str, Any], str]:
    """What stands between the lines at the beginning, and the rest."""
    if (match := _YAML.match(text, 0, _MAX_FRONT)) is not None:
        yaml: Any = import_module("yaml")  # it has no types
        try:
            found = yaml.safe_load(match[1])
        except (yaml.YAMLError, ValueError, RecursionError):
            found = _simple(match[1])
    elif (match := _TOML.match(text, 0, _MAX_FRONT)) is not None:
        try:
            found = tomllib.loads(match[1])
        except (tomllib.TOMLDecodeError, RecursionError):
            found = _simple(match[1])
    else:
        return {}, text
    if not isinstance(found, dict):
        return {}, text
    return cast("dict[str, Any]", found), text[match.end() :]


def _simple(source: str) -> dict[str, Any]:
    """`name: value` lines, of a front matter that is not what it should be (an unquoted colon)."""
    lines = re.findall(r"^(\w[\w-]*)\s*[:=]\s*(\S.*)$", source, re.MULTILINE)
    return {name: value.strip("\"' ") for name, value in lines}


def _said(front: Mapping[str, Any], name: str) -> str:
    value = front.get(name)
    if isinstance(value, dict):  # Quarto's titles by language
        value = cast("dict[str, Any]", value).get("en")
    return _inline(value) if isinstance(value, str) else ""


def _words(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return split_keywords(value)
    if isinstance(value, list):
        return split_keywords(
            [_inline(str(word)) for word in cast("list[Any]", value)[:100] if isinstance(word, str | int)]
        )
    return ()


def _inline(text: str) -> str:
    """A text of the front matter, which may hold Markdown of its own."""
    return " ".join(block.text for block in _blocks(text) if block.text)


def _blocks(source: str) -> Iterator[Block]:
    """Headings and lines, an empty block between paragraphs. Code, tables and raw HTML are left out."""
    from markdown_it import MarkdownIt

    source = _FENCE.sub("", source[:_MAX_BODY])
    heading = False
    for token in MarkdownIt("commonmark").enable("table").parse(source):
        if token.type in ("heading_open", "heading_close"):
            heading = token.type == "heading_open"
        elif token.type == "inline":
            for line in _lines(token.children or []):
                yield Block(line, heading)
            yield Block("")
        elif token.type == "html_block" and (line := plain(token.content)):
            yield Block(line)
            yield Block("")


def _lines(children: list[Any]) -> Iterator[str]:
    pieces: list[str] = []
    for child in children:
        if child.type in ("text", "code_inline", "html_inline", "text_special"):
            pieces.append(child.content)
        elif child.type in ("softbreak", "hardbreak"):
            pieces.append("\n")
    text = _ATTRIBUTES.sub("", _CITATION.sub("", "".join(pieces)))
    for line in text.split("\n"):
        line = plain(latex_to_text(line, lenient=True) if "$" in line or "\\" in line else line)
        if line:
            yield line
