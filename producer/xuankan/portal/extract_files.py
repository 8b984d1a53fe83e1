"""Readers of the kinds of files; `extract_child` calls them. Each gives manuscripts and warnings."""

from __future__ import annotations

import logging
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from io import BytesIO
from typing import Any, Final, cast

from xuankan.portal.extract import MAX_MANUSCRIPTS, Extracted, Format
from xuankan.portal.extract_text import find_sections, first_long, join, shorten, split_keywords

_MAX_UNZIPPED_BYTES: Final = 200 * 2**20
_MAX_TITLE: Final = 1_000
_BROKEN_LIGATURES: Final = {"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st"}
_UNPRINTABLE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\ufeff\ufffe\uffff\ud800-\udfff]"
)

NO_HEADING: Final = "there is no heading “Abstract”: the first long paragraph was taken, please check it"
NO_ABSTRACT: Final = "no abstract was found: please paste it"
NO_TITLE: Final = "no title was found: please type it"
NOT_UTF8: Final = "the file is not in UTF-8: accents may be wrong, please check them"

Read = tuple[list[Extracted], list[str]]


class Unreadable(Exception):
    """A file of which nothing can be had; the message is for its owner."""


def finish(found: list[Extracted], warnings: list[str]) -> dict[str, Any]:
    """Tidy what a reader found and put it into plain values.

    Raises:
        Unreadable: there is neither title nor abstract anywhere.
    """
    tidied = [_tidy(one) for one in found]
    whole = [one for one in tidied if one.title or one.abstract]
    if not whole:
        raise Unreadable("neither title nor abstract was found in it: paste them")
    if len(whole) == 1:
        if not whole[0].title:
            warnings.append(NO_TITLE)
        if not whole[0].abstract:
            warnings.append(NO_ABSTRACT)
    shown = whole[:MAX_MANUSCRIPTS]
    return {
        "manuscripts": [
            {"title": one.title, "abstract": one.abstract, "keywords": list(one.keywords)} for one in shown
        ],
        "left_out": len(found) - len(shown),
        "warnings": warnings,
    }


def read_bibtex(data: bytes) -> Read:
    """Every entry's title, abstract and keywords, LaTeX resolved."""
    from bibtexparser.middlewares import LatexDecodingMiddleware
    from bibtexparser.middlewares.parsestack import default_parse_stack
    from bibtexparser.model import DuplicateBlockKeyBlock, Entry
    from bibtexparser.splitter import Splitter

    logging.disable()
    text, warnings = _decode(data)
    library = Splitter(text).split()
    for number, block in enumerate(library.failed_blocks):
        # An entry of a key that was there before is an entry all the same.
        if isinstance(block, DuplicateBlockKeyBlock) and isinstance(entry := block.ignore_error_block, Entry):
            entry.key = f"{entry.key}-again-{number}"
            library.replace(block, entry)
    for middleware in (*default_parse_stack(), LatexDecodingMiddleware()):
        library = middleware.transform(library)
    if broken := len(library.failed_blocks):
        warnings.append(f"{broken} entries are broken and were left out")
    if not library.entries:
        raise Unreadable("there is no whole BibTeX entry in it")
    return [
        _from_fields({field.key.casefold(): field.value for field in entry.fields}, ("title",), ("abstract",))
        for entry in library.entries
    ], warnings


def read_ris(data: bytes) -> Read:
    """Every record's title, abstract and keywords."""
    import rispy  # pyright: ignore[reportMissingTypeStubs]  # it has none

    text, warnings = _decode(data)
    try:
        records = cast("list[dict[str, Any]]", cast(Any, rispy).loads(text))
    except Exception as error:  # its parser has no one class of errors
        raise Unreadable("it is not in the RIS format") from error
    if not records:
        raise Unreadable("there is no whole RIS record in it")
    titles, abstracts = ("title", "primary_title"), ("abstract", "notes_abstract")
    return [_from_fields(record, titles, abstracts) for record in records], warnings


def read_text(data: bytes) -> Read:
    """The first line is the title; the abstract stands under its heading or is all that follows."""
    text, warnings = _decode(data)
    lines = text.lstrip().splitlines()
    title = re.sub(r"^(?:#+|title\s*[:：])\s*", "", lines[0], flags=re.IGNORECASE)
    body = [re.sub(r"^#+\s*", "", line) for line in lines[1:]]
    found = find_sections(body)
    if found.abstract:
        return [Extracted(title, found.abstract, found.keywords)], warnings
    until = found.start if found.keywords else len(body)
    return [Extracted(title, shorten(join(body[:until])), found.keywords)], warnings


def read_docx(data: bytes) -> Read:
    """The title by its style, its size or its place; the abstract under its heading."""
    import docx

    try:
        archive = zipfile.ZipFile(BytesIO(data))
        unzipped = sum(info.file_size for info in archive.infolist())
    except (zipfile.BadZipFile, ValueError) as error:
        raise Unreadable("it is damaged") from error
    if unzipped > _MAX_UNZIPPED_BYTES:
        raise Unreadable(f"it has more than {_MAX_UNZIPPED_BYTES // 2**20} MiB inside")
    try:
        document: Any = docx.Document(BytesIO(data))
    except (KeyError, ValueError) as error:
        raise Unreadable("it is no Word document, or it is damaged") from error
    paragraphs = [p for p in _paragraphs(document) if p[0]]
    lines = [text for text, _, _ in paragraphs]
    found = find_sections(lines)
    named = str(document.core_properties.title or "").strip()
    head = paragraphs[: found.start]
    title = (
        next((text for text, style, _ in head if re.search(r"(?<!sub)title$", style)), "")
        or (named if any(_same(named, text) for text, _, _ in head[:15]) else "")
        or max(head[:6], key=lambda p: p[2], default=("", "", 0))[0]
    )
    if found.abstract:
        return [Extracted(title, found.abstract, found.keywords)], []
    guess = first_long([line for line in lines if line != title])
    return [Extracted(title, guess, found.keywords)], [NO_HEADING] if guess else []


def read_latex(data: bytes) -> Read:
    r"""What `\title`, `abstract` and `keywords` hold, as text. Other files that it names are not read."""
    from xuankan.portal.extract_latex import latex_fields

    text, warnings = _decode(data)
    title, abstract, keywords = latex_fields(text)
    if not (title or abstract):
        raise Unreadable(r"it has neither \title nor an abstract: give the main file, or paste them")
    return [Extracted(title, abstract, split_keywords([keywords] if keywords else []))], warnings


def read_pdf(data: bytes) -> Read:
    """The largest text of the first page, and what stands under `Abstract` on the first pages."""
    from xuankan.portal.extract_pdf import pdf_lines

    try:
        pages, named = pdf_lines(data)
    except ValueError as error:
        raise Unreadable(str(error)) from error
    if not any(line.text for page in pages for line in page):
        raise Unreadable("there is no text in it, only pictures of pages (a scan): paste title and abstract")
    from xuankan.portal.extract_layout import paragraphs, title_of

    first = pages[0]
    title = title_of(first, named)
    blocks = [paragraph for page in pages for paragraph in paragraphs(page)]
    # An empty line between paragraphs ends the keywords.
    lines = [line for block in blocks for line in (*(text.text for text in block), "")]
    found = find_sections(lines)
    if found.abstract:
        return [Extracted(title, found.abstract, found.keywords)], []
    guess = first_long([join([line.text for line in block]) for block in blocks])
    return [Extracted(title, guess, found.keywords)], [NO_HEADING] if guess else []


READERS: Final[Mapping[Format, Callable[[bytes], Read]]] = {
    "bibtex": read_bibtex,
    "ris": read_ris,
    "text": read_text,
    "docx": read_docx,
    "latex": read_latex,
    "pdf": read_pdf,
}


def _from_fields(fields: Mapping[str, Any], titles: Iterable[str], abstracts: Iterable[str]) -> Extracted:
    words = fields.get("keywords") or fields.get("keyword") or ()
    words = [words] if isinstance(words, str) else [str(word) for word in words]
    return Extracted(
        next((str(fields[name]) for name in titles if fields.get(name)), ""),
        next((str(fields[name]) for name in abstracts if fields.get(name)), ""),
        split_keywords(words) if len(words) == 1 else tuple(words),
    )


def _paragraphs(container: Any) -> Iterator[tuple[str, str, float]]:
    """Text, style's name in small letters and largest size in points (0: not said) of each paragraph."""
    for item in container.iter_inner_content():
        if hasattr(item, "rows"):
            for row in item.rows:
                for cell in row.cells:
                    yield from _paragraphs(cell)
            continue
        sizes = [run.font.size.pt for run in item.runs if run.font.size is not None]
        yield item.text.strip(), (item.style.name if item.style else "").casefold(), max(sizes, default=0.0)


def _decode(data: bytes) -> tuple[str, list[str]]:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", errors="replace"), []
    try:
        return data.decode("utf-8-sig"), []
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace"), [NOT_UTF8]


def _tidy(found: Extracted) -> Extracted:
    return Extracted(
        _clean(found.title)[:_MAX_TITLE],
        shorten(_clean(found.abstract)),
        tuple(word for keyword in found.keywords if (word := _clean(keyword))),
    )


def _clean(text: str) -> str:
    for broken, whole in _BROKEN_LIGATURES.items():
        text = text.replace(broken, whole)
    return " ".join(_UNPRINTABLE.sub(" ", text).split())


def _same(one: str, other: str) -> bool:
    return bool(one) and re.sub(r"\W+", "", one).casefold() == re.sub(r"\W+", "", other).casefold()
