"""OpenDocument, JATS, Markdown, plain text and zipped LaTeX projects, as authors and archives have them."""

# ruff: noqa: E501  # files stand here as they are, a line each

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.support.word_writer import zipped
from xuankan.documents import Document, File, Problem, read
from xuankan.errors import Unreadable


def only(name: str, data: str | bytes) -> Document:
    (found,) = read(File(name, data=data.encode() if isinstance(data, str) else data))
    assert isinstance(found, Document), found
    return found


EXPECTED = Document("Tidal pools", "Snails graze.", ("snails", "pools"))

NAMES = (
    'xmlns:office="urn:o" xmlns:text="urn:t" xmlns:style="urn:s" xmlns:fo="urn:f" xmlns:table="urn:b" '
    'xmlns:draw="urn:d"'
)


def odt(body: str, styles: str = "") -> bytes:
    content = (
        f"<office:document-content {NAMES}><office:automatic-styles>{styles}</office:automatic-styles>"
        f"<office:body><office:text>{body}</office:text></office:body></office:document-content>"
    )
    return zipped({"mimetype": "application/vnd.oasis.opendocument.text", "content.xml": content})


def p(text: str, style: str = "Standard") -> str:
    return f'<text:p text:style-name="{style}">{text}</text:p>'


def h(text: str) -> str:
    return f'<text:h text:outline-level="1">{text}</text:h>'


WORDS = p("Keywords: snails; pools")


@pytest.mark.parametrize(
    ("body", "styles"),
    [
        (
            p("Tidal pools", "Title")
            + p("Ada")
            + h("Abstract")
            + p("Snails graze.")
            + WORDS
            + h("Introduction"),
            "",
        ),
        (
            "<text:tracked-changes><text:deletion><text:p>Old title</text:p></text:deletion></text:tracked-changes>"
            + p("Tidal pools", "P1")
            + p("Abstract")
            + p("Snails <text:change-start/>graze<text:change-end/>.")
            + WORDS,
            '<style:style style:name="P1" style:parent-style-name="Title"/>',
        ),
        (
            p("A template") + p("Tidal pools", "P1") + p("Abstract: Snails<text:s/>graze.") + WORDS,
            '<style:style style:name="P1"><style:text-properties fo:font-size="18pt"/></style:style>',
        ),
        (
            p("Tidal pools", "Title")
            + p(
                f"<draw:frame><draw:text-box>{p('Abstract') + p('Snails graze.')}</draw:text-box></draw:frame>"
            )
            + WORDS,
            "",
        ),
        (
            p("Tidal pools", "Title")
            + p("Abstract")
            + p("Snails graze.<text:note><text:p>x</text:p></text:note>")
            + WORDS
            + p("Shores."),
            "",
        ),
    ],
)
def test_opendocument(body: str, styles: str) -> None:
    assert only("paper.odt", odt(body, styles)) == EXPECTED


def jats(front: str, back: str = "") -> str:
    return (
        '<?xml version="1.0"?><!DOCTYPE article SYSTEM "JATS.dtd"><article xmlns:mml="m">'
        f"<front><article-meta>{front}</article-meta></front><back>{back}</back></article>"
    )


def titled(title: str) -> str:
    return f"<title-group><article-title>{title}</article-title></title-group>"


def test_jats() -> None:
    front = (
        titled('Tidal <italic>pools</italic><xref ref-type="fn">*</xref>')
        + "<abstract><title>Abstract</title><p>Snails graze [<xref ref-type='bibr'>1</xref>,"
        "<xref ref-type='bibr'>2</xref>].</p></abstract><abstract abstract-type='graphical'><p>No</p></abstract>"
        "<kwd-group kwd-group-type='author'><kwd>snails</kwd><kwd>pools</kwd></kwd-group>"
        "<kwd-group kwd-group-type='abbreviations'><kwd>SN</kwd></kwd-group>"
    )
    back = (
        "<ref-list><ref><element-citation><source>J Snails</source><year>2001</year><issn>1234-5678</issn>"
        "<pub-id pub-id-type='doi'>10.1000/x</pub-id></element-citation></ref>"
        "<ref><mixed-citation>A. B. <source>J Pools</source> 2002</mixed-citation></ref></ref-list>"
    )
    found = only("paper.xml", jats(front, back))
    assert (found.title, found.abstract, found.keywords) == (
        "Tidal pools",
        "Snails graze.",
        ("snails", "pools"),
    )
    assert [(one.journal, one.doi, one.issns, one.year) for one in found.references] == [
        ("J Snails", "10.1000/x", ("1234-5678",), "2001"),
        ("J Pools", "", (), ""),
    ]


def test_jats_in_two_languages_gives_the_english_one() -> None:
    found = only(
        "paper.xml",
        jats(
            "<title-group><article-title>Pozas de marea</article-title><trans-title-group xml:lang='en'>"
            "<trans-title>Tidal pools</trans-title></trans-title-group></title-group>"
            "<abstract><p>Los caracoles pastan en las pozas.</p></abstract>"
            "<trans-abstract xml:lang='en'><p>Snails graze in the pools.</p></trans-abstract>"
            "<kwd-group xml:lang='es'><kwd>pozas</kwd></kwd-group><kwd-group xml:lang='en'><kwd>pools</kwd></kwd-group>"
        ),
    )
    assert found == Document("Tidal pools", "Snails graze in the pools.", ("pools",))


def test_formulas_of_jats_are_taken_once() -> None:
    tex = r"<tex-math>\documentclass{a}\begin{document}$$\alpha^2$$\end{document}</tex-math>"
    mathml = "<mml:math><mml:msup><mml:mi>α</mml:mi><mml:mn>2</mml:mn></mml:msup></mml:math>"
    formula = "<inline-formula><alternatives>{}</alternatives></inline-formula>"
    title = f"{formula.format(tex + mathml)} and {formula.format(tex)} in CO<sub>2</sub>"
    assert only("paper.nxml", jats(titled(title))).title == "α^2 and α^2 in CO2"


def test_jats_that_ends_early_gives_what_is_there() -> None:
    found = only("a.nxml", f"<article><article-meta>{titled('Tidal &nbsp; pools')}<abstract><p>Snails graze.")
    assert (found.title, found.abstract) == ("Tidal pools", "Snails graze.")


@pytest.mark.parametrize(
    "text",
    [
        "---\ntitle: Tidal pools\nabstract: |\n  Snails\n  graze.\nkeywords: [snails, pools]\n---\n# Introduction\n",
        "---\ntitle: 'Tidal pools'\ntags:\n  - snails\n  - pools\nauthors:\n  - name: A\n---\n\n# Summary\n\n*Snails* graze [@a; @b].\n\n# Need\n",
        "---\ntitle: [broken\nabstract: Snails graze.\ntitle: Tidal pools\nkeywords: snails, pools\n---\nText",
        "+++\ntitle = 'Tidal pools'\ntags = ['snails', 'pools']\n+++\n## Abstract\nSnails graze.\n\n## Introduction\nx",
        "# Tidal pools\n\nAda\n\n**Abstract**\n\nSnails graze.\n\n**Keywords:** snails, pools\n\n## 1 Introduction\nText",
        "Tidal pools\n===========\n\nAbstract\n--------\n\nSnails\ngraze.\n\n*Keywords*: snails; pools\n\nIntroduction\n----\nx",
        "# Tidal pools\n\nSnails graze.\n\nKeywords: snails, pools\n",
    ],
)
def test_markdown(text: str) -> None:
    assert only("paper.md", text) == EXPECTED


@pytest.mark.parametrize(
    "text",
    [
        "Tidal pools\n\nSnails graze.\n\nKeywords: snails; pools\n",
        "Title: Tidal pools\nAuthors: A, B\nAbstract: Snails graze.\nKeywords: snails; pools\n",
        "Tidal pools\r\n\r\nAda Example\r\n\r\nABSTRACT\r\nSnails\r\ngraze.\r\n\r\nKey words: snails, pools\r\n\r\n1. INTRODUCTION\r\nx",
        "Tidal\npools\n\nAbstract\nSnails graze.\n\nKeywords\nsnails\npools\n",
    ],
)
def test_plain_text(text: str) -> None:
    assert only("paper.txt", text) == EXPECTED


def test_a_pasted_list_of_references_is_no_abstract() -> None:
    found = only(
        "a.txt", "Tidal pools\n\nSnails graze.\n\nReferences\n[1] A. J. Snails\n2001.\n[2] B. J. Pools.\n"
    )
    assert found.abstract == "Snails graze."
    assert [one.text for one in found.references] == ["A. J. Snails 2001.", "B. J. Pools."]


MAIN = (
    "\\documentclass{article}\n\\input{macros}\n\\title{\\name: counting}\n\\begin{document}\n"
    "\\input{sec/abstract.tex}\n% \\input{old}\n\\include{sec/intro}\n\\bibliography{refs}\n\\end{document}"
)
MACROS = "\\newcommand{\\name}{SnailNet}"
ABSTRACT = "\\begin{abstract}\\name{} counts.\\end{abstract}"
BIB = "@article{a, title={X}, journal={J Snails}, doi={10.1000/x}, year=2001}"
BBL = r"\begin{thebibliography}{1}\bibitem{a} A. \emph{J Snails}, 10.1000/x, 2001.\end{thebibliography}"


@pytest.mark.parametrize(
    "files",
    [
        {
            "main.tex": MAIN,
            "macros.tex": MACROS,
            "sec/abstract.tex": ABSTRACT,
            "sec/intro.tex": "x",
            "refs.bib": BIB,
        },
        {
            "p/ms.tex": MAIN,
            "p/macros.tex": MACROS,
            "p/sec/abstract.tex": ABSTRACT,
            "p/sec/intro.tex": "x",
            "p/ms.bbl": BBL,
            "p/old.tex": r"\title{Old}",
            "__MACOSX/p/._ms.tex": "junk",
        },
        {
            "response.tex": MAIN.replace("counting", "reply"),
            "main.tex": MAIN,
            "macros.tex": MACROS,
            "sec/abstract.tex": ABSTRACT,
            "sec/intro.tex": r"\input{main}",
            "main.bbl": BBL,
        },
    ],
)
def test_a_project_is_put_together(files: Mapping[str, str]) -> None:
    found = only("project.zip", zipped(files))
    assert (found.title, found.abstract) == ("SnailNet: counting", "SnailNet counts.")
    (reference,) = found.references
    assert (reference.journal, reference.doi, reference.year) == ("J Snails", "10.1000/x", "2001")


def test_a_project_reads_nothing_outside_of_it() -> None:
    main = MAIN.replace("macros", "../../../../etc/passwd").replace("sec/abstract.tex", "/etc/hostname")
    found = only("project.zip", zipped({"a/main.tex": main.replace("\\name", "Pools")}))
    assert found.title == "Pools: counting"
    assert found.warnings[0] == (
        "not in the archive, so left out: ../../../../etc/passwd, /etc/hostname, sec/intro"
    )


def test_files_that_input_each_other_come_to_an_end() -> None:
    loop = {f"{name}.tex": r"\input{a}\input{b}\input{c} text " * 20 for name in "abc"}
    found = only("project.zip", zipped({"main.tex": MAIN.replace("macros", "a"), **loop}))
    assert "counting" in found.title


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (zipped({"notes.txt": "x"}), "without a LaTeX source"),
        (zipped({"a.tex": "only text"}), "neither \\title nor an abstract"),
        (zipped({"a.tex": "x"})[:-30], "damaged zip file"),
    ],
)
def test_an_archive_that_holds_no_paper_says_so(data: bytes, says: str) -> None:
    with pytest.raises(Unreadable) as refused:
        _refuse(data)
    assert says in str(refused.value)


def _refuse(data: bytes) -> None:
    for found in read(File("a.zip", data=data)):
        if isinstance(found, Problem):
            raise Unreadable("a.zip", found.problem)
