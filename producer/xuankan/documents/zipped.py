r"""Zipped LaTeX projects, as Overleaf gives them: the main file with what it inputs, and its references.

`\input` and the like are followed inside the archive only: a name that leads out of it is as one that is not
there. How often and how deep is bounded, and so is what comes together.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

from xuankan.documents.archives import Archive
from xuankan.documents.bibtex import BibTex
from xuankan.documents.columns import Columns
from xuankan.documents.encodings import decode
from xuankan.documents.files import File
from xuankan.documents.latex import latex_document
from xuankan.documents.latex_references import bibliography
from xuankan.documents.model import MAX_REFERENCES, Document, Reference
from xuankan.errors import Unreadable

_SUFFIXES: Final = (".tex", ".ltx", ".latex")
_PICTURES: Final = (".pdf_tex", ".pgf", ".tikz", ".pdf", ".png", ".eps", ".eps_tex", ".pstex_t")
"""Endings of what is input to be seen, not read."""
_MAX_SOURCE_BYTES: Final = 8 * 2**20
"""Of one source; more is a table of data."""
_MAX_TOTAL: Final = 16_000_000
"""Characters of the project, put together."""
_MAX_INPUTS: Final = 1_000
_MAX_DEPTH: Final = 20
_MAX_TIMES: Final = 20
"""How often one file is taken."""
_MAX_CANDIDATES: Final = 200
_INPUT: Final = re.compile(
    r"(?P<comment>(?<!\\)(?:\\\\)*%[^\n]*)|"
    r"\\(?P<macro>input|include|subfile|subfileinclude|InputIfFileExists|loadgeometry)\s*"
    r"(?:\{\s*\"?(?P<braced>[^{}\n]{1,300}?)\"?\s*\}|(?<=input)\s+(?P<bare>[\w./-]{1,300}))|"
    r"\\(?:sub)?(?:import|inputfrom|includefrom)\*?\s*\{(?P<folder>[^{}\n]{0,300})\}\s*\{(?P<file>[^{}\n]{1,300})\}"
)
_BODY: Final = re.compile(r"\\begin\s*\{document\}(.*?)(?:\\end\s*\{document\}|\Z)", re.DOTALL)
_BIBLIOGRAPHY: Final = re.compile(r"\\(?:bibliography|addbibresource(?:\[[^\]]*\])?)\s*\{([^{}]{1,500})\}")
_SIGNS: Final = (
    (re.compile(r"^[^%\n]*\\document(?:class|style)", re.MULTILINE), 4),
    (re.compile(r"^[^%\n]*\\begin\s*\{document\}", re.MULTILINE), 4),
    (re.compile(r"^[^%\n]*\\(?:\w{0,8}[tT]itle|TITLE)\s*[\[{]", re.MULTILINE), 2),
    (re.compile(r"^[^%\n]*(?:\\begin\s*\{\w*abstract|\\abstract\s*\{)", re.MULTILINE | re.IGNORECASE), 2),
    (re.compile(r"\\documentclass\s*(?:\[[^\]]*\])?\s*\{(?:standalone|subfiles|beamer|letter)\}"), -6),
)
_USUAL: Final = re.compile(r"(?:main|ms|paper|article|manuscript|root|sample|arxiv)\b", re.IGNORECASE)
_OTHER: Final = re.compile(
    r"suppl|appendix|response|cover|letter|rebuttal|reply|diff|template|old", re.IGNORECASE
)


def read_zip(file: File) -> Document:
    """The paper of a project.

    Raises:
        Unreadable: the archive is damaged or locked, or there is neither title nor abstract in its main file.
    """
    archive = Archive(file.name, file.whole())
    sources = [
        name
        for name in archive.names
        if name.lower().endswith(_SUFFIXES) and "__macosx/" not in f"/{name.lower()}"
    ]
    if not sources:
        raise Unreadable(file.name, "there is no LaTeX source in it")
    ranked = sorted(sources[:_MAX_CANDIDATES], key=lambda name: _rank(archive, name), reverse=True)
    main = ranked[0]
    project = _Project(archive, main)
    text = project.text()
    warnings = [*project.warnings]
    if len(ranked) > 1 and _rank(archive, ranked[1])[0] >= _rank(archive, main)[0] > 0:
        warnings.append(f"it holds several papers: {main} was read")
    if project.missing:
        shown = ", ".join(list(project.missing)[:5])
        warnings.append(f"not in the archive, so left out: {shown}")
    document = latex_document(text, warnings, file.name)
    references = document.references or tuple(_references(archive, main, text))
    return Document(
        document.title,
        document.abstract,
        document.keywords,
        references=references,
        warnings=document.warnings,
    )


def _rank(archive: Archive, name: str) -> tuple[int, int, int]:
    """How much a source looks like the paper: by what it holds, then by its name and its place."""
    text = _decoded(archive, name)
    stem = posixpath.basename(name)
    points = sum(weight for sign, weight in _SIGNS if sign.search(text))
    return (
        points,
        (_USUAL.match(stem) is not None) - 2 * (_OTHER.search(name) is not None),
        -name.count("/"),
    )


def _decoded(archive: Archive, name: str) -> str:
    try:
        data = archive.read(name, _MAX_SOURCE_BYTES)
    except Unreadable:
        return ""
    return decode(data)[0] if data else ""


class _Project:
    """A main file with everything that it inputs, each in its place.

    Attributes:
        missing: names of files that are not in the archive.
        warnings: what was left out.
    """

    def __init__(self, archive: Archive, main: str) -> None:
        self._archive, self._main = archive, main
        self._folder = posixpath.dirname(main)
        self._times: Counter[str] = Counter()
        self._length = 0
        self.missing: dict[str, None] = {}
        self.warnings: list[str] = []

    def text(self) -> str:
        """The source as TeX would read it."""
        pieces: list[str] = []
        stack = [self._pieces(self._main, "")]
        while stack:
            found = next(stack[-1], None)
            if found is None:
                stack.pop()
            elif isinstance(found, str):
                pieces.append(found)
                self._length += len(found)
                if self._length > _MAX_TOTAL:
                    self.warnings.append(f"it has more than {_MAX_TOTAL:,} characters: the rest was left out")
                    break
            elif len(stack) <= _MAX_DEPTH and self._times.total() < _MAX_INPUTS:
                stack.append(self._pieces(*found))
        return "".join(pieces)

    def _pieces(self, name: str, macro: str) -> Iterator[str | tuple[str, str]]:
        """The text of a file, and in its places the names of those that it inputs."""
        self._times[name] += 1
        text = _decoded(self._archive, name)
        if macro.startswith("subfile") and (body := _BODY.search(text)) is not None:
            text = body[1]
        elif macro:
            text = text.replace(r"\endinput", "% ")
        at = 0
        for found in _INPUT.finditer(text):
            if found["comment"] is not None:
                continue
            target = self._find(found, name)
            yield text[at : found.start()]
            at = found.end()
            if target is not None and self._times[target] < _MAX_TIMES:
                yield target, found["macro"] or ""
        yield text[at:]

    def _find(self, found: re.Match[str], name: str) -> str | None:
        """The file in the archive that is meant."""
        written = (
            found["braced"] or found["bare"] or posixpath.join(found["folder"] or "", found["file"] or "")
        )
        if "#" in written or "\\" in written:
            return None  # of a definition: its argument is not known
        if written.endswith(_PICTURES):
            return None
        for folder in dict.fromkeys((self._folder, posixpath.dirname(name), "")):
            path = posixpath.normpath(posixpath.join(folder, written.strip()))
            if path.startswith(("..", "/")):
                continue
            for candidate in (path, *(path + suffix for suffix in _SUFFIXES)):
                if candidate in self._archive and posixpath.splitext(candidate)[1] not in (
                    ".pdf",
                    ".png",
                    ".eps",
                ):
                    return candidate
        self.missing[written] = None
        return None


def _references(archive: Archive, main: str, text: str) -> Iterator[Reference]:
    """Of the .bbl that BibTeX wrote, else of the .bib files that the source names."""
    names = {name.casefold(): name for name in archive.names}
    compiled = names.get(f"{posixpath.splitext(main)[0]}.bbl".casefold()) or next(
        (name for folded, name in names.items() if folded.endswith(".bbl")), None
    )
    if compiled is not None and (listed := bibliography(_decoded(archive, compiled))):
        yield from listed
        return
    count = 0
    for written in (part.strip() for found in _BIBLIOGRAPHY.findall(text) for part in found.split(",")):
        path = posixpath.normpath(posixpath.join(posixpath.dirname(main), written))
        for candidate in (path, f"{path}.bib"):
            if (
                candidate.endswith(".bib")
                and (data := archive.read(candidate, _MAX_SOURCE_BYTES)) is not None
            ):
                for entry in BibTex(File(candidate, data=data), Columns()).records():
                    if isinstance(entry, Document) and entry.published is not None and count < MAX_REFERENCES:
                        count += 1
                        yield entry.published
