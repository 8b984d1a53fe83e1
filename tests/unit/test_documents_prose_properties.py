"""No byte string makes a reader of prose crash, go on for ever, or answer without a reason."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.pdf_writer import Text, pdf
from tests.support.word_writer import paragraph, word, zipped
from xuankan.documents import Document, File, Problem
from xuankan.documents.jats import read_jats
from xuankan.documents.kinds import KINDS, kind_of
from xuankan.documents.latex import read_latex
from xuankan.documents.markdown import read_markdown
from xuankan.documents.markup import tidy
from xuankan.documents.odt import read_odt
from xuankan.documents.pdf import read_pdf
from xuankan.documents.reading import read
from xuankan.documents.text import read_text
from xuankan.documents.word import read_docx
from xuankan.documents.zipped import read_zip
from xuankan.errors import Unreadable

READERS: Final[Mapping[str, Callable[[File], Document]]] = {
    ".tex": read_latex,
    ".zip": read_zip,
    ".docx": read_docx,
    ".odt": read_odt,
    ".pdf": read_pdf,
    ".xml": read_jats,
    ".md": read_markdown,
    ".txt": read_text,
}
CASES = Path(__file__).parents[1] / "data" / "documents" / "cases"
ODT = zipped(
    {
        "mimetype": "application/vnd.oasis.opendocument.text",
        "content.xml": "<d xmlns:o='o'><o:body><o:p>Title</o:p><o:p>Abstract</o:p><o:p>x</o:p></o:body></d>",
    }
)
WHOLE: Final[Mapping[str, bytes]] = {
    ".tex": (CASES / "tex-own-macro.tex").read_bytes(),
    ".zip": zipped({"a.tex": r"\documentclass{a}\title{A}\input{b}", "b.tex": r"\input{a}\abstract{B}"}),
    ".docx": word(paragraph("Title", "Title"), paragraph("Abstract"), paragraph("Text.")),
    ".odt": ODT,
    ".pdf": pdf([Text("A title of some words", 700, 17), Text("Abstract", 650), Text("Text.", 638)]),
    ".xml": b"<article><article-meta><title-group><article-title>A</article-title></title-group>"
    b"<abstract><p>B <sub>c</sub></p></abstract></article-meta></article>",
    ".md": b"---\ntitle: A\nabstract: B\n---\n# C\n\n**Abstract** d\n",
    ".txt": b"A title\n\nAbstract\nText.\n\nKeywords: a; b\n",
}
WORDS = st.sampled_from(
    [
        *(
            b"\\title{",
            b"\\begin{abstract}",
            b"\\end{abstract}",
            b"\\def\\a{",
            b"\\a",
            b"}",
            b"$",
            b"\\[",
            b"%",
        ),
        *(b"---\n", b"title: ", b"# ", b"Abstract", b"\n\n", b"Keywords:", b"<p>", b"</p>", b"&x;", b"<!--"),
        *(
            b"w:p",
            b"w:t",
            b"PK\x03\x04",
            b"%PDF-",
            b"obj",
            b"stream",
            b"\xff\xfe",
            b"\x00",
            b"\xc3",
            b"- ",
            b"`",
        ),
        *(
            b"[@a]",
            b"***",
            b"> ",
            b"1. ",
            b"References\n[1] a",
            b"|-|-|",
            b"&#0;",
            b"\\input{",
            b"\\iffalse",
            b"\\fi",
        ),
    ]
)
BYTES = st.lists(WORDS | st.binary(max_size=20), max_size=60).map(b"".join)


def answered(suffix: str, data: bytes) -> None:
    """What is read is text that can be written, or there is a reason why nothing is."""
    try:
        found = tidy(READERS[suffix](File(f"file{suffix}", data=data)))
    except Unreadable as refused:
        reason = str(refused).removeprefix(f"{refused.field}: ")
    else:
        reason = f"read: {(found.title + found.abstract).encode()!r}"
    assert reason.strip()


def test_every_kind_of_prose_is_tried() -> None:
    found = {kind_of(File(f"file{suffix}", data=data)).name for suffix, data in WHOLE.items()}
    assert found == {kind.name for kind in KINDS.values() if not kind.is_list}
    assert READERS.keys() == WHOLE.keys()


@pytest.mark.parametrize("suffix", READERS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=BYTES)
def test_bytes_of_no_kind(suffix: str, data: bytes) -> None:
    answered(suffix, data)


@pytest.mark.parametrize("suffix", READERS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(draw=st.data())
def test_a_whole_file_with_a_piece_changed(suffix: str, draw: st.DataObject) -> None:
    whole = WHOLE[suffix]
    start = draw.draw(st.integers(0, len(whole)))
    end = draw.draw(st.integers(start, min(len(whole), start + 30)))
    answered(suffix, whole[:start] + draw.draw(BYTES) + whole[end:])


@settings(max_examples=100, deadline=None)
@given(data=BYTES, suffix=st.sampled_from([*READERS, "", ".dat"]))
def test_the_one_way_to_a_file_answers_always(data: bytes, suffix: str) -> None:
    try:
        reasons = [
            record.problem if isinstance(record, Problem) else "read"
            for record in read(File(f"file{suffix}", data=data))
        ]
    except Unreadable as refused:
        reasons = [str(refused).removeprefix(f"{refused.field}: ")]
    assert all(reason.strip() for reason in reasons)


@settings(max_examples=60, deadline=None)
@given(
    title=st.lists(st.from_regex(r"[A-Z][a-z]{3,9}", fullmatch=True), min_size=2, max_size=8).map(" ".join),
    abstract=st.lists(st.from_regex(r"[A-Z][a-z]{3,9}", fullmatch=True), min_size=5, max_size=30).map(
        " ".join
    ),
)
def test_one_paper_is_the_same_whatever_it_is_written_in(title: str, abstract: str) -> None:
    body = f"<article-title>{title}</article-title></title-group><abstract><p>{abstract}</p></abstract>"
    written = {
        ".tex": rf"\title{{{title}}}\begin{{abstract}}{abstract}.\end{{abstract}}".encode(),
        ".md": f"# {title}\n\n## Abstract\n\n{abstract}.\n".encode(),
        ".txt": f"Title: {title}\n\nAbstract: {abstract}.\n".encode(),
        ".docx": word(paragraph(title, "Title"), paragraph("Abstract"), paragraph(f"{abstract}.")),
        ".xml": f"<article><article-meta><title-group>{body}</article-meta></article>".replace(
            "</p>", ".</p>"
        ).encode(),
    }
    written[".zip"] = zipped({"paper/main.tex": rb"\documentclass{article}" + written[".tex"]})
    written[".odt"] = zipped(
        {
            "mimetype": "application/vnd.oasis.opendocument.text",
            "content.xml": "<d xmlns:o='o'><o:body>"
            + "".join(f"<o:p>{text}</o:p>" for text in (title, "Abstract", f"{abstract}."))
            + "</o:body></d>",
        }
    )
    lines = textwrap.wrap(f"{abstract}.", 80)
    printed = [Text(line, 638 - 12 * place) for place, line in enumerate(lines)]
    written[".pdf"] = pdf([Text(title, 700, 17), Text("Abstract", 650), *printed])
    found = {tuple(one) for one in (_texts(suffix, data) for suffix, data in written.items())}
    assert found == {(title, f"{abstract}.")}


def _texts(suffix: str, data: bytes) -> tuple[str, str]:
    document = tidy(READERS[suffix](File(f"file{suffix}", data=data)))
    return document.title, document.abstract
