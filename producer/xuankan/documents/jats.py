"""JATS, the XML of journals and of PubMed Central: an article's title, abstract, keywords and references."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from xuankan.documents.archives import attribute, local, parse_xml
from xuankan.documents.files import File
from xuankan.documents.formulas import fraction, script, wrapped
from xuankan.documents.language import most_english
from xuankan.documents.latex_text import latex_to_text
from xuankan.documents.model import MAX_REFERENCES, Document, Reference
from xuankan.documents.sections import paper
from xuankan.errors import Unreadable

_NO_ABSTRACT: Final = re.compile(
    r"graphical|teaser|toc|precis|key-points|highlights|executive|editor|plain-language|lay|web-summary|stereochemical|"
    r"video|translated-title|short|objectives_only|author-summary|synopsis|significance"
)
_NO_KEYWORDS: Final = re.compile(
    r"abbr|jel|msc|pacs|subject|research-organism|article-type|ocis|oasis", re.IGNORECASE
)
_NO_TEXT: Final = frozenset(
    (
        *(
            "fn",
            "fn-group",
            "label",
            "graphic",
            "inline-graphic",
            "media",
            "object-id",
            "annotation",
            "annotation-xml",
        ),
        *("inline-supplementary-material", "table-wrap", "fig", "alt-text", "long-desc", "x", "author-notes"),
        *("processing-meta",),
    )
)
_BLOCKS: Final = frozenset(
    ("p", "sec", "title", "list", "list-item", "break", "disp-formula", "td", "th", "def")
)
# Of figures and abstracts some journals print the address of their own.
_DOI_LINE: Final = re.compile(r"\s*DOI:\s*https?://\S+$")
_DOI: Final = re.compile(r"10\.\d{4,9}/\S{1,200}")


def read_jats(file: File) -> Document:
    """The first article of a file.

    Raises:
        Unreadable: it is no XML, or holds no article.
    """
    root = parse_xml(file.name, file.whole(), recover=True)
    article = next((one for one in root.iter() if local(one) in ("article", "sub-article")), None)
    if article is None:
        raise Unreadable(file.name, "there is no article in it")
    meta = next((one for one in article.iter() if local(one) == "article-meta"), article)
    titles = [title for group in _children(meta, "title-group") for title in _titles(group)]
    abstracts = [
        _abstract(one)
        for one in meta
        if local(one) in ("abstract", "trans-abstract")
        and not _NO_ABSTRACT.search(attribute(one, "abstract-type").casefold())
    ]
    return paper(
        most_english(titles),
        most_english([text for text in abstracts if text]),
        _keywords(meta),
        references=tuple(_references(article)),
    )


def _titles(group: Any) -> Iterator[str]:
    """A title and its subtitle, then its translations with theirs."""
    title = " ".join(_text(one) for one in group if local(one) in ("article-title", "trans-title"))
    subtitle = " ".join(_text(one) for one in group if local(one) in ("subtitle", "trans-subtitle"))
    if title:
        yield f"{title.rstrip(' :')}: {subtitle}" if subtitle else title
    for translated in _children(group, "trans-title-group"):
        yield from _titles(translated)


def _abstract(element: Any) -> str:
    title = next((one for one in element if local(one) == "title"), None)
    text = _DOI_LINE.sub("", _text(element))
    label = "" if title is None else _text(title)
    # `Background` begins an abstract in parts, `Abstract` says what everyone can see.
    return (
        text.removeprefix(label).strip()
        if re.fullmatch(r"\W*(?:abstract|summary)\W*", label.casefold())
        else text
    )


def _keywords(meta: Any) -> tuple[str, ...]:
    groups: list[tuple[bool, list[str]]] = []
    for group in _children(meta, "kwd-group"):
        if _NO_KEYWORDS.search(attribute(group, "kwd-group-type")):
            continue
        words = [text for one in group.iter() if local(one) == "kwd" and (text := _text(one))]
        words += [text for one in group.iter() if local(one) == "compound-kwd-part" and (text := _text(one))]
        if words:
            groups.append((attribute(group, "lang").startswith("en"), words))
    english = [words for is_english, words in groups if is_english]
    return tuple(word for words in (english or [words for _, words in groups]) for word in words)


def _references(article: Any) -> Iterator[Reference]:
    count = 0
    for reference in article.iter():
        if local(reference) != "ref":
            continue
        found = [one for one in reference.iter() if re.search(r"citation$", local(one))]
        for citation in found[:1] or [reference]:
            if (made := _reference(citation)) is not None:
                count += 1
                yield made
        if count >= MAX_REFERENCES:
            return


def _reference(citation: Any) -> Reference | None:
    held: dict[str, str] = {}
    issns: list[str] = []
    for element in citation.iter():
        kind = local(element)
        if kind in ("source", "year", "article-title"):
            held.setdefault(kind, _text(element))
        elif kind == "issn":
            issns.append(_text(element))
        elif kind in ("pub-id", "ext-link", "object-id") and (doi := _DOI.search(_text(element))):
            held.setdefault("doi", doi[0].rstrip("."))
    # Elements without punctuation between them, or a text as it is printed.
    parts = citation if local(citation) == "element-citation" else ()
    text = ", ".join(part for child in parts if (part := _text(child))) or _text(citation)
    if not text:
        return None
    return Reference(
        text=text,
        journal=held.get("source", ""),
        issns=tuple(issns),
        doi=held.get("doi", ""),
        year=held.get("year", "")[:4],
    )


def _children(parent: Any, name: str) -> list[Any]:
    return [child for child in parent if local(child) == name]


def _text(element: Any) -> str:
    """The text of an element in one line; formulas readable, references to notes and works left out."""
    pieces: list[str] = []
    _collect(element, pieces)
    return re.sub(
        r"\s*[\[(][\s,;–-]*\ue000[\s,;–\ue000-]*[\])]|\s*\ue000", "", " ".join("".join(pieces).split())
    )


def _collect(element: Any, pieces: list[str]) -> None:
    """Recursion is bounded by the parser, which refuses more than 256 levels."""
    pieces.append(element.text or "")
    for child in element:
        kind = local(child)
        if kind == "xref" and attribute(child, "ref-type") in (
            "bibr",
            "fn",
            "aff",
            "corresp",
            "author-notes",
            "table-fn",
        ):
            pieces.append("\ue000" if attribute(child, "ref-type") == "bibr" else "")
        elif kind == "alternatives":
            _formula(child, pieces)
        elif kind == "tex-math":
            pieces.append(_tex(child.text or ""))
        elif kind == "math":
            pieces.append(_mathml(child))
        elif kind not in _NO_TEXT and kind:
            pieces.append(" " if kind in _BLOCKS else "")
            _collect(child, pieces)
            pieces.append(" " if kind in _BLOCKS else "")
        pieces.append(child.tail or "")


def _formula(alternatives: Any, pieces: list[str]) -> None:
    """One of a formula's forms: they say the same."""
    known = {local(child): child for child in alternatives}
    if "math" in known:
        pieces.append(_mathml(known["math"]))
    elif "tex-math" in known:
        pieces.append(_tex(known["tex-math"].text or ""))
    else:
        for child in known.values():
            _collect(child, pieces)
            break


def _tex(source: str) -> str:
    r"""A formula of LaTeX; publishers wrap each into a document of its own."""
    body = source.partition(r"\begin{document}")[2].partition(r"\end{document}")[0] or source
    text = body.strip()
    return latex_to_text(text if text.startswith(("$", "\\(", "\\[", "\\begin")) else f"${text}$")


def _mathml(element: Any) -> str:
    kind = local(element)
    if kind in _NO_TEXT:
        return ""
    parts = [_mathml(child) for child in element]
    if kind == "mfrac" and len(parts) == 2:
        return fraction(*parts)
    if kind in ("msup", "msub", "mover", "munder") and len(parts) == 2:
        mark = "^" if kind in ("msup", "mover") else "_"
        return parts[0] + script(mark, parts[0][-1:], parts[1])
    if kind in ("msubsup", "munderover") and len(parts) == 3:
        return parts[0] + script("_", parts[0][-1:], parts[1]) + script("^", parts[0][-1:], parts[2])
    if kind == "msqrt":
        return f"√{wrapped(''.join(parts))}"
    if kind == "mfenced":
        return f"{element.get('open', '(')}{', '.join(parts)}{element.get('close', ')')}"
    if kind in ("mi", "mn", "mo", "mtext", "ms"):
        text = element.text or ""
        return text if kind == "mtext" else text.strip()
    return (element.text or "").strip() + "".join(parts)
