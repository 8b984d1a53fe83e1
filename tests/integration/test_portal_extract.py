"""Files as authors drop them on the page: what is read of them, and what is said of those that cannot be."""

from __future__ import annotations

import asyncio
import io
import json
import zipfile
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

import docx
import pytest

from xuankan.catalogue import Catalogue
from xuankan.errors import InputError
from xuankan.portal import extract as extraction
from xuankan.portal.extract import MAX_FILE_BYTES, Extracted, Extraction, extract_references

FILES = Path(__file__).parents[1] / "data" / "documents"


@cache
def papers() -> list[dict[str, str]]:
    lines = (files("xuankan") / "data" / "manuscripts.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


async def extract(data: bytes, name: str) -> Extraction:
    return await extraction.extract(data, name, Catalogue.default())


async def only(data: bytes, name: str) -> Extracted:
    found = await extract(data, name)
    assert found.left_out == 0
    (manuscript,) = found.manuscripts
    return manuscript


def squeezed(text: str) -> str:
    """Letters alone: spaces around hyphens and formulas differ."""
    return "".join(letter for letter in text.casefold() if letter.isalnum())


@pytest.mark.parametrize(
    ("name", "paper", "keywords"),
    [
        ("ieee.pdf", 1, ("cold load", "smart meters", "restoration")),
        ("elstwo.pdf", 5, ("capsule", "galaxy", "morphology")),
        ("revtex.pdf", 2, ()),
    ],
)
async def test_a_pdf_gives_title_abstract_and_keywords(
    name: str, paper: int, keywords: tuple[str, ...]
) -> None:
    found = await extract((FILES / name).read_bytes(), "My Paper FINAL (2).PDF")
    (manuscript,) = found.manuscripts
    assert found.format == "pdf"
    assert manuscript.title == papers()[paper]["title"]
    assert squeezed(manuscript.abstract) == squeezed(papers()[paper]["abstract"])
    assert manuscript.keywords == keywords
    # Physicists' class prints no heading; the author is told that this was a guess.
    assert [warning[:33] for warning in found.warnings] == (
        ["there is no heading “Abstract”: t"] if name == "revtex.pdf" else []
    )


def word(*paragraphs: tuple[str, str | None], title: str = "") -> bytes:
    document: Any = docx.Document()
    document.core_properties.title = title
    for text, style in paragraphs:
        document.add_paragraph(text, style=style)
    file = io.BytesIO()
    document.save(file)
    return file.getvalue()


async def test_a_word_file_by_its_styles() -> None:
    paper = papers()[3]
    data = word(
        ("Article", None),
        (paper["title"], "Title"),
        ("Ann Author, Bo Writer", None),
        ("Abstract", "Heading 1"),
        (paper["abstract"], None),
        ("Keywords: galaxies; capsule networks", None),
        ("1. Introduction", "Heading 1"),
        ("Galaxies are large.", None),
    )
    expected = Extracted(paper["title"], paper["abstract"], ("galaxies", "capsule networks"))
    assert await only(data, "paper.docx") == expected


async def test_a_word_file_without_styles() -> None:
    paper = papers()[0]
    data = word(
        (paper["title"], None),
        ("Ann Author", None),
        (f"Abstract: {paper['abstract']}", None),
        title="Word 2016 template",
    )
    assert await only(data, "paper.docx") == Extracted(paper["title"], paper["abstract"])


async def test_a_word_file_with_the_abstract_in_a_table() -> None:
    paper = papers()[0]
    document: Any = docx.Document()
    document.add_paragraph(paper["title"], style="Title")
    cells = document.add_table(rows=1, cols=2).rows[0].cells
    cells[0].text = "Article info"
    cells[1].text = "Abstract"
    cells[1].add_paragraph(paper["abstract"])
    file = io.BytesIO()
    document.save(file)
    assert await only(file.getvalue(), "paper.docx") == Extracted(paper["title"], paper["abstract"])


async def test_a_latex_source() -> None:
    source = r"""
    \documentclass{elsarticle}
    % \title{An older title}
    \begin{document}
    \begin{frontmatter}
    \title[Short]{Schr\"odinger's \emph{cat} in $\alpha$-space\thanks{For Erwin.}\\ and beyond\label{t}}
    \author{Ann Author}
    \begin{abstract}
      We show 50\% of it, % not all
      and ``more''~\cite{x}.
    \end{abstract}
    \begin{keyword} cats \sep boxes \end{keyword}
    \end{frontmatter}
    \input{/etc/passwd}
    \end{document}
    """
    found = await only(source.encode(), "main.tex")
    assert found.title == "Schrödinger's cat in α-space and beyond"
    assert found.abstract.startswith("We show 50% of it, and “more”")
    assert found.keywords == ("cats", "boxes")


async def test_an_abstract_that_is_a_macro() -> None:
    found = await only(rb"\title{On reefs}\abstract{Reefs recover.}\keywords{reef, fish}", "a.tex")
    assert found == Extracted("On reefs", "Reefs recover.", ("reef", "fish"))


BIBLIOGRAPHY = r"""
@string{j = "Journal of Reefs"}
@article{one, title = {The {DNA} of {G{\"o}del}'s reefs}, abstract = "Reefs \& fish.", keywords = {reef, fish}, journal = j}
@book{two, title = "Grazing"}
@article{two, title = {Another of the same key}}
@article{three, author = {Nobody}}
"""  # noqa: E501


async def test_a_bibliography_gives_all_its_entries() -> None:
    found = await extract(BIBLIOGRAPHY.encode(), "refs.bib")
    assert found == Extraction(
        "bibtex",
        (
            Extracted("The DNA of Gödel's reefs", "Reefs & fish.", ("reef", "fish")),
            Extracted("Grazing", ""),
            Extracted("Another of the same key", ""),
        ),
        left_out=1,
        warnings=(
            "1 record cannot be used and was left out: there is neither a title nor an abstract in it",
        ),
    )


async def test_ris_records() -> None:
    text = (
        "\ufeffTY  - JOUR\nTI  - On reefs\nAB  - Reefs recover.\nKW  - reef\nKW  - fish\nER  - \n\n"
        "TY  - JOUR\nT1  - On fish\nN2  - Fish graze.\nER  - \n"
    )
    found = await extract(text.encode(), "export.RIS")
    assert found.manuscripts == (
        Extracted("On reefs", "Reefs recover.", ("reef", "fish")),
        Extracted("On fish", "Fish graze."),
    )


async def test_of_a_large_bibliography_the_first_hundred() -> None:
    entries = "".join(f"@article{{k{number}, title = {{Paper {number}}}}}\n" for number in range(130))
    found = await extract(entries.encode(), "all.bib")
    assert (len(found.manuscripts), found.left_out) == (100, 30)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("On reefs\n\nReefs recover.\nThey do.", Extracted("On reefs", "Reefs recover. They do.")),
        (
            "# On reefs\n\n## Abstract\nReefs recover.\n\nKeywords: reef; fish\n\n## Introduction\nText.",
            Extracted("On reefs", "Reefs recover.", ("reef", "fish")),
        ),
    ],
)
async def test_plain_text(text: str, expected: Extracted) -> None:
    assert await only(text.encode(), "paper.md") == expected
    assert await only(text.encode("utf-16"), "paper.txt") == expected


async def test_what_is_missing_or_doubtful_is_said() -> None:
    found = await extract("Café reefs".encode("cp1252"), "a.txt")
    assert found.manuscripts[0].title == "Café reefs"
    assert found.warnings == (
        "the file is not in UTF-8: it was read as windows-1252, please check accents",
        "no abstract was found: please paste it",
    )


def bomb() -> bytes:
    """A little file that unpacks to more than is read of one."""
    file = io.BytesIO()
    name = "word/document.xml"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open(name, "w") as part:
        for _ in range(65):
            part.write(bytes(2**20))
    return file.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


def hungry_word() -> bytes:
    """Within the limit of what is unpacked, beyond that of memory."""
    whole = zipfile.ZipFile(io.BytesIO(word(("x", None))))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in whole.namelist():
            content = whole.read(name)
            if name == "word/document.xml":
                content = content.replace(b"<w:p>", b'<a b="" c=""/>' * 4_500_000 + b"<w:p>", 1)
            archive.writestr(name, content)
    return file.getvalue()


def laughing_word() -> bytes:
    """Entities that grow by a factor of ten each."""
    doctype = b"<!DOCTYPE w:document [<!ENTITY a0 'ha'>"
    doctype += b"".join(b"<!ENTITY a%d '%s'>" % (n, b"&a%d;" % (n - 1) * 10) for n in range(1, 12)) + b"]>"
    whole = zipfile.ZipFile(io.BytesIO(word(("laugh", None))))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in whole.namelist():
            content = whole.read(name)
            if name == "word/document.xml":
                head, rest = content.split(b"?>", 1)
                content = head + b"?>" + doctype + rest.replace(b"laugh", b"&a11;")
            archive.writestr(name, content)
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "name", "says"),
    [
        (b"", "a.pdf", "it is empty"),
        (b"hello", "a.exe", "a file called .exe; .bib, "),
        (b"hello", "a.pdf", "called .pdf but is none"),
        (b"%PDF-1.4 broken", "a.pdf", "it is damaged"),
        (b"PK\x03\x04broken", "a.docx", "a damaged zip file"),
        (zipped({"notes.txt": b"x"}), "a.zip", "without a LaTeX source"),
        (b"\xd0\xcf\x11\xe0old", "a.doc", "save it as .docx"),
        (rb"{\rtf1 hello}", "a.doc", "an RTF file"),
        (rb"\section{Introduction} No head.", "part.tex", r"neither \title nor an abstract"),
        (b"no entries here", "a.bib", "no record in it"),
        (b"@article{a, author = {Nobody}}", "a.bib", "neither a title nor an abstract"),
        (b"no records here", "a.ris", "no record in it"),
        (bytes(MAX_FILE_BYTES + 1), "a.pdf", "more than 20 MiB"),
    ],
)
async def test_a_file_that_cannot_be_read_says_why(data: bytes, name: str, says: str) -> None:
    with pytest.raises(InputError, match=r"^file: ") as refused:
        await extract(data, name)
    assert says in str(refused.value)


async def test_a_locked_pdf_and_one_of_pictures_say_so() -> None:
    with pytest.raises(InputError, match="wants a password"):
        await extract((FILES / "locked.pdf").read_bytes(), "locked.pdf")
    import pypdfium2  # pyright: ignore[reportMissingTypeStubs]  # it has none

    document = cast(Any, pypdfium2).PdfDocument.new()
    document.new_page(200, 200)
    file = io.BytesIO()
    document.save(file)
    with pytest.raises(InputError, match="a scan"):
        await extract(file.getvalue(), "scan.pdf")


async def test_files_made_to_do_harm_end_in_their_own_process() -> None:
    with pytest.raises(InputError, match="more than 64 MiB"):
        await extract(bomb(), "bomb.docx")
    with pytest.raises(InputError, match=r"too large inside|takes more than"):
        await extract(hungry_word(), "hungry.docx")
    with pytest.raises(InputError, match=r"damaged|no text in it"):
        await extract(laughing_word(), "laughing.docx")


async def test_one_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extraction, "MAX_WAIT_S", 0.01)
    with pytest.raises(InputError, match=r"more than 0\.01 s"):
        await extract((FILES / "ieee.pdf").read_bytes(), "a.pdf")


async def test_many_at_once_are_read_one_after_the_other() -> None:
    found = await asyncio.gather(*(only(b"On reefs\nReefs recover.", f"{n}.txt") for n in range(6)))
    assert found == [Extracted("On reefs", "Reefs recover.")] * 6


async def test_the_journals_that_a_manuscript_cites_are_counted() -> None:
    source = rb"""\documentclass{article}\title{On reefs}\begin{document}\begin{abstract}Reefs.\end{abstract}
    \begin{thebibliography}{9}
    \bibitem{a} A. Author, Phys. Rev. Lett. 1, 2 (2001).
    \bibitem{b} B. Author, Phys. Rev. Lett. 3, 4 (2003).
    \bibitem{c} C. Author, Journal of Nowhere 5, 6 (2005).
    \end{thebibliography}\end{document}"""
    found = await only(source, "main.tex")
    assert (found.references, found.cited) == (3, {"physical-review-letters": 2})


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("refs.bib", b"@article{a, title={X}, journal={Phys. Rev. Lett.}}\n@misc{b, title={Y}, year=2001}"),
        (
            "refs.ris",
            b"TY  - JOUR\nTI  - X\nJO  - Phys Rev Lett\nER  -\nTY  - GEN\nTI  - Y\nPY  - 2001\nER  -\n",
        ),
        ("main.bbl", rb"\bibitem{a} A. A, Phys. Rev. Lett. 1, 2 (2001).\bibitem{b} B. B, Nowhere 3."),
        ("refs.txt", b"[1] A. Author, Phys. Rev. Lett. 1, 2 (2001)\n[2] B. Author, Nowhere 3\n"),
    ],
)
async def test_a_reference_list_beside_a_manuscript(name: str, data: bytes) -> None:
    found = await extract_references(data, name, Catalogue.default())
    assert (found.references, found.cited) == (2, {"physical-review-letters": 1})


async def test_a_file_without_references_says_so() -> None:
    with pytest.raises(InputError, match="no references were found in it"):
        await extract_references(b"no entries here", "refs.bib", Catalogue.default())
