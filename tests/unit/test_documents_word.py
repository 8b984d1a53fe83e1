"""Word files as Word writes them: revised, with fields, boxes, equations and templates."""

from __future__ import annotations

import pytest

from tests.support.word_writer import paragraph as p
from tests.support.word_writer import run, word, zipped
from xuankan.documents import Document, File, Problem, read

TITLE = p("Tidal pools and their snails", "Title")
AUTHOR = p("Ada Example")
ABSTRACT = p("Abstract", "Heading1")
SNAILS = p("Snails graze in warm pools.")
KEYWORDS = p("Keywords: snails; pools")
REST = p("Introduction", "Heading1") + p("Shores are wet.")


DELETED = "<w:del><w:r><w:delText>run </w:delText></w:r></w:del>"


def marked(kind: str, text: str) -> str:
    return f"<w:{kind}>{run(text)}</w:{kind}>"


def box(inner: str) -> str:
    return f"<w:r><w:pict><v:textbox><w:txbxContent>{inner}</w:txbxContent></v:textbox></w:pict></w:r>"


def twice(inner: str) -> str:
    """As Word writes a box: once for new programs, once more for old ones."""
    new = f"<w:drawing><wps:txbx><w:txbxContent>{inner}</w:txbxContent></wps:txbx></w:drawing>"
    return (
        f'<w:r><mc:AlternateContent><mc:Choice Requires="wps">{new}</mc:Choice>'
        f"<mc:Fallback>{box(inner)}</mc:Fallback></mc:AlternateContent></w:r>"
    )


def table(rows: list[list[str]]) -> str:
    cells = ("".join(f"<w:tc>{cell}</w:tc>" for cell in row) for row in rows)
    return f"<w:tbl>{''.join(f'<w:tr>{row}</w:tr>' for row in cells)}</w:tbl>"


def control(inner: str) -> str:
    return f'<w:sdt><w:sdtPr><w:alias w:val="x"/></w:sdtPr><w:sdtContent>{inner}</w:sdtContent></w:sdt>'


def only(data: bytes) -> Document:
    (found,) = read(File("paper.docx", data=data))
    assert isinstance(found, Document), found
    return found


@pytest.mark.parametrize(
    "abstract",
    [
        SNAILS,
        p(run("Snails ") + marked("ins", "graze ") + DELETED + run("in warm pools.")),
        p(marked("moveFrom", "cold ") + run("Snails graze ") + marked("moveTo", "in warm pools.")),
        p(marked("ins", "Snails graze in warm pools.")) + p(DELETED),
        "<w:p><w:pPr><w:rPr><w:del/></w:rPr></w:pPr>" + run("Snails graze ") + "</w:p>" + p("in warm pools."),
        p(
            run("Snails ")
            + f"<w:smartTag>{marked('smartTag', 'graze in')}</w:smartTag>"
            + run(" warm pools.")
        ),
        p(control(run("Snails graze ")) + run("in warm pools.")),
        control(SNAILS),
        p(box(SNAILS)),
        p(twice(SNAILS)),
        p('<w:hyperlink r:id="rId999">' + run("Snails") + "</w:hyperlink>" + run(" graze in warm pools.")),
        p(run("Snails graze in warm pools.") + "<w:r><w:footnoteReference w:id='2'/></w:r>"),
        p(run("secret ", "<w:vanish/>") + run("Snails graze in warm pools.")),
        p("<w:r><w:instrText>ADDIN EN.CITE</w:instrText></w:r>" + run("Snails graze in warm pools.")),
    ],
)
def test_what_word_puts_around_text_costs_none_of_it(abstract: str) -> None:
    found = only(word(TITLE, AUTHOR, ABSTRACT, abstract, KEYWORDS, REST))
    assert found == Document(
        "Tidal pools and their snails", "Snails graze in warm pools.", ("snails", "pools")
    )


@pytest.mark.parametrize(
    "head",
    [
        [p("Abstract: Snails graze in warm pools.")],
        [p(run("Abstract") + "<w:r><w:br/></w:r>" + run("Snails graze in warm pools."))],
        [p("Snails graze in warm pools.", "Abstract")],
        [p("Abstract", "AbstractTitle"), p("Snails graze", "Abstract"), p("in warm pools.", "Abstract")],
        [p(box(p("Abstract") + SNAILS))],
        [table([[p("Info"), p("Abstract") + SNAILS], [p("x")]])],
        [p("Resumen", "Heading1"), p("Los caracoles pastan en las pozas."), ABSTRACT, SNAILS],
        [KEYWORDS, ABSTRACT, SNAILS],
    ],
)
def test_where_an_abstract_stands(head: list[str]) -> None:
    found = only(word(TITLE, AUTHOR, *head, KEYWORDS, REST))
    assert (found.abstract, found.keywords) == ("Snails graze in warm pools.", ("snails", "pools"))


@pytest.mark.parametrize(
    "words",
    [
        [p("Keywords: snails, pools"), p("Tidal pools and their snails"), p("Shores are wet.")],
        [p("Keywords", "Heading1"), p("snails, pools"), p("Shores are wet. Many animals live there.")],
        [p("Keywords:"), p("snails"), p("pools"), p("The shores are wet places. Many animals live there.")],
        [p("Keywords: snails;"), p("pools"), p("Shores are wet. Many animals live there.")],
        [p(run("Key words:") + "<w:r><w:br/></w:r>" + run("snails; pools.")), p("Shores are wet.")],
    ],
)
def test_where_keywords_end(words: list[str]) -> None:
    found = only(word(TITLE, AUTHOR, ABSTRACT, SNAILS, *words))
    assert (found.abstract, found.keywords) == ("Snails graze in warm pools.", ("snails", "pools"))


@pytest.mark.parametrize(
    "title",
    [
        p("Tidal pools and their snails", "Titel"),
        p("Tidal pools", "Title") + p("and their snails", "Title"),
        p(control(run("Tidal pools and their snails")), "Title"),
        p(box(TITLE)),
        p("Article") + p("Tidal pools and their snails*", "Own"),
        p("Research Article") + p("Running head: POOLS") + p("Tidal pools and their snails"),
        p("Title: Tidal pools and their snails"),
        p("Title") + p("Tidal pools and their snails"),
        p("Manuscript ID: 7") + p(run("Tidal pools and their snails", '<w:sz w:val="32"/>')),
    ],
)
def test_which_paragraph_is_the_title(title: str) -> None:
    assert only(word(title, AUTHOR, ABSTRACT, SNAILS)).title == "Tidal pools and their snails"


def test_equations_symbols_and_structure_are_text() -> None:
    power = "<m:sSup><m:e><m:r><m:t>10</m:t></m:r></m:e><m:sup><m:r><m:t>-3</m:t></m:r></m:sup></m:sSup>"
    ratio = "<m:f><m:num><m:r><m:t>a</m:t></m:r></m:num><m:den><m:r><m:t>b</m:t></m:r></m:den></m:f>"
    found = only(
        word(
            TITLE,
            ABSTRACT,
            p("Background"),
            p(run("We find ") + f"<m:oMath>{power}</m:oMath>" + run(" of ") + f"<m:oMath>{ratio}</m:oMath>."),
            p("Conclusions"),
            p(
                '<w:r><w:sym w:font="Symbol" w:char="F061"/></w:r>'
                + run("-snails in CO")
                + run("2", "<w:x/>")
            ),
        )
    )
    assert found.abstract == "Background: We find 10^-3 of a/b Conclusions: α-snails in CO2"


def test_the_references_are_counted() -> None:
    listed = p("References", "Heading1") + p("1. A. J. Snails 3 (2001).") + p("2. B. J. Pools 4 (2002).")
    found = only(word(TITLE, ABSTRACT, SNAILS, REST, listed))
    assert [one.text for one in found.references] == ["A. J. Snails 3 (2001).", "B. J. Pools 4 (2002)."]


def test_parts_that_are_missing_or_damaged_cost_only_themselves() -> None:
    parts = {
        "word/styles.xml": "<no",
        "docProps/core.xml": "",
        "word/_rels/document.xml.rels": '<Relationships><Relationship Target="NULL"/></Relationships>',
    }
    found = only(word(TITLE, ABSTRACT, SNAILS, KEYWORDS, parts=parts))
    assert found.abstract == "Snails graze in warm pools."


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (word(), "there is no text in it"),
        (zipped({"word/document.xml": ""}), "damaged"),
        (zipped({"[Content_Types].xml": "", "_rels/.rels": ""}), "no Word document"),
    ],
)
def test_a_file_without_text_says_so(data: bytes, says: str) -> None:
    (found,) = read(File("a.docx", data=data))
    assert isinstance(found, Problem)
    assert says in found.problem
