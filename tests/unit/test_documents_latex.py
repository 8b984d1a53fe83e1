"""LaTeX sources as classes and authors write them: title, abstract, keywords, references."""

from __future__ import annotations

import pytest

from xuankan.documents import Document, File, Problem, read

TITLE = r"\title{Tidal pools}"
FRENCH = r"\begin{abstract}Les escargots broutent dans les flaques et sont lents.\end{abstract}"
SNAILS = r"\begin{abstract}Snails graze.\end{abstract}"


def source(preamble: str, body: str) -> str:
    return (
        f"\\documentclass{{article}}\n{preamble}\n\\begin{{document}}\n\\maketitle\n{body}\n"
        "\\section{Introduction}\nShores are wet.\n\\end{document}\n"
    )


def paper(preamble: str, body: str) -> Document:
    (found,) = read(File("main.tex", data=source(preamble, body).encode()))
    assert isinstance(found, Document), found
    return found


@pytest.mark.parametrize(
    ("preamble", "body"),
    [
        (TITLE, SNAILS),
        (r"\title[Short]{Tidal\\[2mm] pools\thanks{Paid.}\footnote{x}}", SNAILS),
        (r"\title{\vspace{-1cm}\Large\bf Tidal pools}", SNAILS),
        (r"% \title{Old}" + "\n" + TITLE, r"% \begin{abstract}Old.\end{abstract}" + "\n" + SNAILS),
        (r"\iffalse\title{Old}\fi" + TITLE, r"\iffalse\begin{abstract}Old.\end{abstract}\fi" + SNAILS),
        (TITLE, r"\begin{comment}\begin{abstract}Old.\end{abstract}\end{comment}" + SNAILS),
        (r"\excludecomment{old}" + TITLE, r"\begin{old}\begin{abstract}Old.\end{abstract}\end{old}" + SNAILS),
        (r"\newif\ifx\ifx\title{Old}\else" + TITLE + r"\fi", SNAILS),
        (r"\Title{Tidal pools}\TitleCitation{Old}\abstract{Snails graze.}", ""),
        (r"\TITLE{Tidal pools}\ABSTRACT{Snails graze.}", ""),
        ("", r"\twocolumn[\icmltitle{Tidal pools}\vskip 0.3in]" + SNAILS),
        (TITLE, r"\section*{Abstract} Snails graze."),
        (TITLE, "\\chapter*{Abstract}\\addcontentsline{toc}{chapter}{Abstract}\nSnails graze.\n"),
        (TITLE, "\\begin{center}\\bf Abstract\\end{center}\nSnails graze.\n"),
        (TITLE, "\\noindent\\textbf{Abstract.} Snails graze.\n\n"),
        (TITLE, r"\begin{abstract*}Snails graze.\end{abstract*}"),
        (TITLE, r"\begin{abstract}\noindent\textbf{Abstract:} Snails graze.\end{abstract}"),
        (TITLE, r"\begin{abstract}Snails graze."),
        (
            r"\def\babs{\begin{abstract}}\def\eabs{\end{abstract}}" + TITLE,
            r"\babs Snails graze.\eabs",
        ),
        (
            r"\newenvironment{lead}{\begin{abstract}}{\end{abstract}}" + TITLE,
            r"\begin{lead}Snails graze.\end{lead}",
        ),
        (r"\renewenvironment{abstract}{\textbf{Abstract}}{}" + TITLE, SNAILS),
        ("\\newcommand{\\x}{\\textbf{never closed}\n\n" + TITLE, SNAILS),
        ("\\def\\x{ never closed\n" + TITLE, SNAILS),
        (r"\newcommand{\pool}{pool}\title{Tidal \pool{}s}", SNAILS),
        (r"\title{Tidal \pools}" + r"\newcommand{\pools}{pools}", SNAILS),
        (
            "\n".join(rf"\newenvironment{{e{n}}}{{\begin{{center}}}}{{\end{{center}}}}" for n in range(40))
            + TITLE,
            SNAILS,
        ),
        (
            "\\topmatter\n\\title Tidal pools\\endtitle\n\\abstract Snails graze.\\endabstract\n",
            "",
        ),
        (
            r"\title{潮池}\englishtitle{Tidal pools}",
            r"\begin{abstract}螺类。\end{abstract}\begin{enabstract}Snails graze.\end{enabstract}",
        ),
        (
            r"\ctitle{潮池}\etitle{Tidal pools}",
            r"\begin{cabstract}螺类。\end{cabstract}\begin{eabstract}Snails graze.\end{eabstract}",
        ),
    ],
)
def test_title_and_abstract_whatever_they_are_called(preamble: str, body: str) -> None:
    found = paper(preamble, body)
    assert (found.title, found.abstract) == ("Tidal pools", "Snails graze.")
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("body", "abstract"),
    [
        (
            r"\abstract{Pools warm.}{We ask.}{We look.}{They graze.}{}",
            "Pools warm. We ask. We look. They graze.",
        ),
        (
            "\\abstract\n% context\n{}\n% aims\n{We ask.}\n{We look.}\n{They graze.}\n{So.}",
            "We ask. We look. They graze. So.",
        ),
        (
            r"\begin{abstract}\textbf{Aims.} We ask.\par \textit{Results.} We see.\end{abstract}",
            "Aims. We ask. Results. We see.",
        ),
        (r"\abstract[Summary]{Snails graze.}", "Snails graze."),
        (
            FRENCH + r"\begin{abstract}The snails graze in the pools and are slow.\end{abstract}",
            "The snails graze in the pools and are slow.",
        ),
        (
            r"\begin{abstract}The snails graze in pools.\end{abstract}\begin{resume}Les nasses.\end{resume}",
            "The snails graze in pools.",
        ),
        (r"\begin{abstract}\begin{itemize}\item One. \item Two.\end{itemize}\end{abstract}", "One. Two."),
        (
            r"\begin{abstract}Masses of $10^{5}\,M_\odot$, $\sim$5\arcsec\ at $z=2$.\end{abstract}",
            "Masses of 10^5 M⊙, ~5″ at z=2.",
        ),
    ],
)
def test_abstracts_in_parts_and_in_two_languages(body: str, abstract: str) -> None:
    assert paper(TITLE, body).abstract == abstract


@pytest.mark.parametrize(
    ("written", "keywords"),
    [
        (r"\keywords{snails -- warm pools}", ("snails", "warm pools")),
        (r"\keywords{snails, pools}", ("snails", "pools")),
        (r"\keyword{snails; pools}", ("snails", "pools")),
        (r"\begin{keyword}snails \sep pools \MSC[2010] 35A \sep 45\end{keyword}", ("snails", "pools")),
        (
            r"\begin{keyword}[class=MSC]\kwd{6}\end{keyword}\begin{keyword}\kwd{snails}\kwd{pools}\end{keyword}",
            ("snails", "pools"),
        ),
        (r"\begin{IEEEkeywords}Snails, pools.\end{IEEEkeywords}", ("Snails", "pools")),
        (r"\keywords{\uat{Snails}{573} --- \uat{Pools}{1}}", ("Snails", "Pools")),
        (r"\ckeywords{螺；池}\ekeywords{snails; pools}", ("snails", "pools")),
        ("\n\\textbf{Keywords:} snails; pools\n\n", ("snails", "pools")),
        (r"\section*{Keywords} snails, pools", ("snails", "pools")),
    ],
)
def test_keywords_as_classes_want_them(written: str, keywords: tuple[str, ...]) -> None:
    assert paper(TITLE, SNAILS + written).keywords == keywords


def test_names_of_macros_that_nobody_defines_are_kept_and_said() -> None:
    found = paper(TITLE, r"\begin{abstract}NASA's \kepler, and \tess.\end{abstract}")
    assert found.abstract == "NASA's kepler, and tess."
    assert found.warnings == (
        "not defined in the file, so kept by name: \\kepler, \\tess; please check the text",
    )


def test_the_references_of_a_bibliography() -> None:
    listed = (
        r"\begin{thebibliography}{9}\bibitem{a} A. B. \emph{J. Snails} 3 (2001). "
        r"\bibitem[X(2000)]{b} C, {\em Pools}, doi:10.1000/xyz, 2000.\end{thebibliography}"
    )
    found = paper(TITLE, SNAILS + listed).references
    assert [(one.journal, one.doi, one.year) for one in found] == [
        ("J. Snails", "", "2001"),
        ("Pools", "10.1000/xyz", "2000"),
    ]


@pytest.mark.parametrize(
    "text", [r"\section{Only} A part.", r"\begin{equation}x", "\\documentclass{article}"]
)
def test_a_source_without_both_says_so(text: str) -> None:
    (found,) = read(File("part.tex", data=text.encode()))
    assert isinstance(found, Problem)
    assert "neither \\title nor an abstract" in found.problem
