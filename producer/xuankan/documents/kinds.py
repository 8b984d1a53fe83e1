"""The kinds of files that are read, and how one is told: by content where that tells, else by name."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from xuankan.documents.encodings import decode_head
from xuankan.documents.files import File
from xuankan.errors import Unreadable

_HEAD_BYTES: Final = 64 * 2**10


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of file.

    Attributes:
        name: a stable word for programs.
        label: what people call it.
        suffixes: endings of names in small letters, the usual one first.
        reader: `module:attribute` below `xuankan.documents`, imported when there is such a file: the
            libraries stand behind extras. Of a list of records a class, `(File, Columns) -> Reader`; of a
            single document a function, `(File) -> Document`.
        is_list: whether it holds records, read one by one, or is one document.
    """

    name: str
    label: str
    suffixes: tuple[str, ...]
    reader: str
    is_list: bool = True


KINDS: Final[Mapping[str, Kind]] = {
    kind.name: kind
    for kind in (
        Kind("bibtex", "BibTeX", (".bib", ".bibtex"), "bibtex:BibTex"),
        Kind("ris", "RIS", (".ris",), "tagged:Ris"),
        Kind("nbib", "PubMed (MEDLINE)", (".nbib", ".medline"), "tagged:Medline"),
        Kind("isi", "Web of Science", (".ciw", ".isi"), "tagged:WebOfScience"),
        Kind("enw", "EndNote (Refer)", (".enw", ".refer"), "tagged:Refer"),
        Kind("csv", "a table as text", (".csv", ".tsv", ".tab"), "tables:Csv"),
        Kind("jsonl", "JSON lines", (".jsonl", ".ndjson"), "objects:JsonLines"),
        Kind("json", "JSON", (".json",), "objects:JsonDocument"),
        Kind("parquet", "Parquet", (".parquet",), "parquet:Parquet"),
        Kind("xlsx", "a spreadsheet", (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods"), "sheets:Sheet"),
        Kind("endnote-xml", "EndNote XML", (".xml",), "records_xml:EndNoteXml"),
        Kind("pubmed-xml", "PubMed XML", (), "records_xml:PubMedXml"),
        Kind("jats", "JATS XML", (".nxml",), "jats:read_jats", is_list=False),
        Kind("latex", "LaTeX", (".tex", ".latex", ".ltx"), "latex:read_latex", is_list=False),
        Kind("zip", "a zipped LaTeX project", (".zip",), "zipped:read_zip", is_list=False),
        Kind("docx", "Word", (".docx", ".docm"), "word:read_docx", is_list=False),
        Kind("odt", "OpenDocument text", (".odt",), "odt:read_odt", is_list=False),
        Kind("pdf", "PDF", (".pdf",), "pdf:read_pdf", is_list=False),
        Kind("markdown", "Markdown", (".md", ".markdown"), "markdown:read_markdown", is_list=False),
        Kind("text", "plain text", (".txt", ".text"), "text:read_text", is_list=False),
    )
}
"""Name -> kind."""
SUFFIXES: Final[Mapping[str, str]] = {
    suffix: kind.name for kind in KINDS.values() for suffix in kind.suffixes
}
"""Ending -> the name of the kind that is usually called so."""

# In the order in which they are believed. Anchors are of lines; Web of Science and tables are told by more.
# Of several patterns each is found behind the one before: one pattern for all would look at the rest of the
# file again for each place where it can begin. Possessive quantifiers have the same reason.
_TEXTS: Final[Mapping[str, re.Pattern[str] | tuple[re.Pattern[str], ...]]] = {
    "pubmed-xml": re.compile(r"\A\s*<(?:[?!][^>]*>\s*<)*(?:PubmedArticle|PubmedBookArticle|MedlineCitation)"),
    "endnote-xml": re.compile(r"\A\s*<(?:[?!][^>]*>\s*<)*(?:xml|records)>\s*<(?:records>|record>)"),
    "jats": re.compile(r"\A\s*<(?:[?!][^>]*>\s*<)*(?:article|pmc-articleset)[\s>]"),
    "json": re.compile(r"\A\s*(?:\{\s*[\"}]|\[\s*[\[{\]])"),
    "nbib": (
        re.compile(r"^PMID ?- ?\d+[^\S\n]*$", re.MULTILINE),
        re.compile(r"^(?:TI|AB|OWN|STAT|DP) {0,2}- ", re.MULTILINE),
    ),
    "ris": re.compile(r"^(?:\ufeff|[^\S\n])*TY {0,2}-(?:\s|$)", re.MULTILINE),
    "isi": re.compile(
        r"\A\s*+(?:FN (?:Clarivate|ISI|Thomson)[^\n]*+\s++(?:VR [\d.]+\s++)?)?(?:PT [A-Z]\s++|FN )(?=[A-Z])|"
        r"\A[^\n]*+\nVR [\d.]+[^\S\n]*+\nPT [A-Z][^\S\n]*+\n[A-Z][A-Z\d] "  # a damaged first line
    ),
    "enw": (re.compile(r"^%0 \S", re.MULTILINE), re.compile(r"^%[A-Z] ", re.MULTILINE)),
    "latex": re.compile(
        r"^ {0,3}(?:\\documentclass|\\documentstyle|\\begin\s*\{(?:document|abstract)\})", re.MULTILINE
    ),
    "bibtex": re.compile(
        r"^[^\S\n]*@[^\W\d_][\w-]*+\s*+[{(]\s*+[^\s,{}()=]*+\s*+(?:,|\w++\s*+=)", re.MULTILINE
    ),
}
_LOOKALIKES: Final[Mapping[str, str]] = {
    "html": "a web page: save the PDF, or paste the title and the abstract",
    "rtf": "an RTF file: save it as .docx or .pdf",
    "ole": "an old or locked Office file: save it as .docx or .xlsx, without a password",
    "gzip": "a compressed file: unpack it first",
}


def kind_of(file: File) -> Kind:
    """What a file is. What its content says without doubt counts more than its name.

    Raises:
        Unreadable: it is empty, or of no kind that is read; the message says which it is, if that is known.
    """
    head = file.head(_HEAD_BYTES)
    if not head.strip(b"\0 \t\r\n\xef\xbb\xbf\xff\xfe"):
        raise Unreadable(file.name, "it is empty")
    if (name := _binary(file, head)) is None:
        name = _textual(file, head)
    return KINDS[name]


def _binary(file: File, head: bytes) -> str | None:
    if b"%PDF-" in head[:1024]:
        return "pdf"
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(b"PK\x03\x04"):
        return _zipped(file)
    if head.startswith(b"\xd0\xcf\x11\xe0"):
        if file.suffix == ".xls":
            return "xlsx"
        raise Unreadable(file.name, _LOOKALIKES["ole"])
    if head.startswith(b"{\\rtf"):
        raise Unreadable(file.name, _LOOKALIKES["rtf"])
    if head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf", b"Rar!", b"(\xb5/\xfd")):
        raise Unreadable(file.name, _LOOKALIKES["gzip"])
    return None


def _zipped(file: File) -> str:
    try:
        with file.open() as handle, zipfile.ZipFile(handle) as archive:
            names = archive.namelist()
            mimetype = archive.read("mimetype")[:100] if names[:1] == ["mimetype"] else b""
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError, EOFError) as error:
        raise Unreadable(file.name, f"a damaged zip file ({error}): save or download it again") from None
    folded = {name.replace("\\", "/").casefold().lstrip("/") for name in names}
    if "word/document.xml" in folded or (file.suffix in (".docx", ".docm") and "_rels/.rels" in folded):
        return "docx"
    if folded & {"xl/workbook.xml", "xl/workbook.bin"} or b"opendocument.spreadsheet" in mimetype:
        return "xlsx"
    if b"opendocument.text" in mimetype or (file.suffix == ".odt" and "content.xml" in folded):
        return "odt"
    if any(name.endswith((".tex", ".ltx", ".latex")) for name in folded):
        return "zip"
    shown = ", ".join(sorted(folded)[:5]) or "nothing"
    raise Unreadable(file.name, f"a zip file without a LaTeX source in it; it holds {shown}")


def _textual(file: File, head: bytes) -> str:
    named = SUFFIXES.get(file.suffix)
    text = decode_head(head)
    found = list(_told(text))
    if "json" in found:
        return _json_kind(text, named)
    if named in found:
        return str(named)
    if found:
        return found[0]
    if re.match(r"\s*<(?:!doctype\s+html|html|head|body)\b", text, re.IGNORECASE):
        raise Unreadable(file.name, _LOOKALIKES["html"])
    if named in (None, "text") and _is_table(text):
        return "csv"
    if named is not None and (KINDS[named].is_list or named in ("latex", "markdown", "text")):
        if named in ("parquet", "xlsx", "endnote-xml"):
            known = (
                "neither EndNote's, PubMed's nor JATS"
                if named == "endnote-xml"
                else f"no {KINDS[named].label}"
            )
            raise Unreadable(file.name, f"it is called {file.suffix}, and is {known}")
        return named
    if named is not None:
        raise Unreadable(file.name, f"it is called {file.suffix} but is none, or it is damaged")
    if file.suffix and file.suffix not in (".stdin",):
        raise Unreadable(file.name, f"a file called {file.suffix}; {', '.join(sorted(SUFFIXES))} are read")
    if "\0" in text:
        raise Unreadable(file.name, "it is no text, and of no known kind")
    return "text"


def _told(text: str) -> Iterator[str]:
    for name, patterns in _TEXTS.items():
        place = 0
        for pattern in patterns if isinstance(patterns, tuple) else (patterns,):
            if (found := pattern.search(text, place)) is None:
                break
            place = found.end()
        else:
            yield name


def _json_kind(text: str, named: str | None) -> str:
    """JSON lines, if the first line is an object of its own and another follows, or the name says so."""
    first, _, rest = text.lstrip().partition("\n")
    if named == "jsonl":
        return "json" if first.startswith("[") or first.strip() == "{" else "jsonl"
    return "jsonl" if first.rstrip().endswith("}") and rest.lstrip().startswith("{") else "json"


def _is_table(text: str) -> bool:
    """Whether the first line is a header that exports have: of text files, only those are tables."""
    from xuankan.documents.headers import looks_like_header

    return looks_like_header(text.lstrip().partition("\n")[0])
