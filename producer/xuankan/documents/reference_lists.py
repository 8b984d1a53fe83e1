"""A file as a manuscript's reference list: a bibliography beside it, a .bbl, a pasted list, another paper."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from xuankan.documents.encodings import decode
from xuankan.documents.files import File
from xuankan.documents.latex_references import bibliography
from xuankan.documents.model import MAX_REFERENCES, Document, Problem, Reference
from xuankan.documents.reading import open_file
from xuankan.errors import Unreadable

_BBL: Final = re.compile(rb"\\bibitem|\\begin\s*\{thebibliography\}|\\entry\s*\{")
_HEAD_BYTES: Final = 64 * 2**10
_LATEX: Final = frozenset({".tex", ".ltx", ".latex", ".txt"})
_PRINTED: Final = frozenset({"text", "markdown"})


@dataclass(frozen=True, slots=True)
class ReferenceList:
    """Attributes: `references` are at most `MAX_REFERENCES`; `warnings` are sentences for a person."""

    references: tuple[Reference, ...]
    warnings: tuple[str, ...] = ()


def read_references(file: File) -> ReferenceList:
    """The works that a file lists.

    Of a list of records each is a work, by where it was published; of a paper its own references count; of a
    text without a heading for them, each line.

    Raises:
        Unreadable: it lists none, or cannot be read.
        ModuleNotFoundError: as of `open_file`.
    """
    if file.suffix == ".bbl" or (file.suffix in _LATEX and _is_list(file.head(_HEAD_BYTES))):
        text, said = decode(file.whole())
        found = bibliography(text)
        return _checked(file, found, [said] if said else [])
    opened = open_file(file)
    if opened.kind.is_list:
        return _of_records(file, opened.records())
    references: tuple[Reference, ...] = ()
    warnings: list[str] = []
    for record in opened.records():
        if isinstance(record, Document):
            references = record.references
    if not references and opened.kind.name in _PRINTED:
        text, said = decode(file.whole())
        references = tuple(Reference(text=line) for line in map(str.strip, text.splitlines()) if line)
        warnings += [said] if said else []
    return _checked(file, references, warnings)


def _is_list(head: bytes) -> bool:
    r"""Whether a source is a reference list alone, as authors keep one to \input it."""
    return _BBL.search(head) is not None and b"\\documentclass" not in head


def _of_records(file: File, records: Iterator[Document | Problem]) -> ReferenceList:
    references: list[Reference] = []
    nowhere = left_out = 0
    for record in records:
        if not isinstance(record, Document):
            continue
        nowhere += record.published is None
        if len(references) < MAX_REFERENCES:
            references.append(record.published or Reference())
        else:
            left_out += 1
    warnings = [f"{nowhere} of its records do not say where they were published"] if nowhere else []
    if left_out:
        warnings.append(f"only its first {MAX_REFERENCES:,} records were counted")
    return _checked(file, tuple(references), warnings)


def _checked(file: File, references: tuple[Reference, ...], warnings: list[str]) -> ReferenceList:
    if not references:
        raise Unreadable(file.name, "no references were found in it: give a .bib, .ris, .enw, .nbib or .bbl")
    if len(references) > MAX_REFERENCES:
        warnings.append(f"only its first {MAX_REFERENCES:,} references were counted")
    return ReferenceList(references[:MAX_REFERENCES], tuple(warnings))
