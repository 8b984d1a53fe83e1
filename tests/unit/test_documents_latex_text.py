"""Fragments of LaTeX as text: expanded or kept, never dropped, in time that grows with their length."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from xuankan.documents.latex_macros import Converter
from xuankan.documents.latex_text import latex_to_text
from xuankan.documents.latex_tokens import tokenize


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (r"Schr\"odinger, G{\"o}del, \v{S}\'{\i}\c{c}, Erd\H{o}s", "Schrödinger, Gödel, Šíç, Erdős"),
        (r"S\o ren \AA ngstr\"om, \L{}\'od\'z, stra\ss e", "Søren Ångström, Łódź, straße"),
        (r"\texttt{a} \mbox{b} \textup{c} \textmd{d} \textsf{e} {\em f} \uline{g}", "a b c d e f g"),
        (r"code on \href{https://example.org/a%20b#c}{our page}", "code on our page"),
        (r"see \url{https://example.org/a_b%20c}", "see https://example.org/a_b%20c"),
        (r"{\textalpha}-carotene, p {\textless} 0.05, 5\,\textmu{}m", "α-carotene, p < 0.05, 5 μm"),
        (r"``more'' -- a---b", "“more” – a—b"),
        (r"salt \& heat, 40\%, \$5, a\_b, \{x\}", "salt & heat, 40%, $5, a_b, {x}"),
        (r"\newcommand{\name}{SnailNet}\name: \name is \name{}.", "SnailNet: SnailNet is SnailNet."),
        (r"\newcommand{\x}[2][q]{(#1-#2)}\x{a} \x[b]{c}", "(q-a) (b-c)"),
        (r"\def\x#1{Snail#1}\x{Net}", "SnailNet"),
        (r"\NewDocumentCommand{\x}{O{y} m}{#2-#1}\x{a} \x[z]{b}", "a-y b-z"),
        (r"\let\eps\varepsilon $\eps>0$", "ε>0"),
        (r"\DeclareMathOperator{\rank}{rank}$\rank A$", "rank A"),
        (r"\newacronym{snr}{SNR}{signal to noise}\gls{snr}, \gls{snr}", "signal to noise (SNR), SNR"),
        (r"an open package for NASA's \kepler, and \tess", "an open package for NASA's kepler, and tess"),
        (r"\unknown{its argument} stays", "its argument stays"),
        (
            r"Graze~\cite{a}, as shown \citep[e.g.][]{b} (see Sec.~\ref{s}) [\cite{c}].",
            "Graze, as shown (see Sec.).",
        ),
        (r"Kept (e.g., \cite{a, b}; \citealt{c}) here", "Kept here"),
        (r"one\footnote{not this}\label{x} two\thanks{nor this}", "one two"),
        (r"\added{new} \deleted{old} \replaced{this}{that} \textcolor{red}{red}", "new this red"),
        (r"a\vspace{1em} b\\[2mm] c \hskip 2pt plus 1pt d \raisebox{1ex}{e}", "a b c d e"),
        (r"\begin{itemize}\item one \item[x] two\end{itemize}", "one two"),
        (r"A \begin{comment} } \end{foo \end{comment} B \verb|a_b|", "A B a_b"),
        (r"x \iffalse y \else z \fi \iftrue k \fi", "x z k"),
        (r"\newif\ifdraft \ifdraft a\else b\fi \drafttrue \ifdraft a\else b\fi", "b a"),
        (r"\MakeUppercase{h\'e} \ce{H2O}", "HÉ H2O"),
        (r"\char65 \symbol{66}", "A B"),
    ],
)
def test_macros_are_expanded_or_kept(source: str, text: str) -> None:
    assert latex_to_text(source) == text


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (r"CO$_2$, H$_{2}$O, $\mathrm{H_2O}$, $^{13}$C, 3$^{rd}$", "CO2, H2O, H2O, 13C, 3rd"),
        (r"$10^{-3}$, 10$^{5}$, $x_i \leq 3$, $n\geq5$", "10^-3, 10^5, x_i ≤ 3, n≥5"),
        (r"$\frac{a+b}{2}$, $\sqrt{x}$, $e^{-x/2}$", "(a+b)/2, √x, e^(-x/2)"),
        (r"$\sin\theta$, $\log n$, $\mathcal{O}(n\log n)$", "sin θ, log n, O(n log n)"),
        (r"$\hat{x}$, $\mathbb{R}^n$, $\left.f\right|$, 5$^\circ$C", "x̂, R^n, f|, 5°C"),
        (r"\( a \to b \) and \[ c^2 \]", "a → b and c^2"),
        (r"\begin{equation}E = mc^2\end{equation}", "E = mc^2"),
        (r"costs $3 a kilogram", "costs $3 a kilogram"),
    ],
)
def test_formulas_stay_readable(source: str, text: str) -> None:
    assert latex_to_text(source) == text


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (r"\SI{5}{\kilo\metre}", "5 km"),
        (r"\SI{20}{\celsius}, \SI{90}{\degree}, \SI{10}{\percent}", "20 °C, 90°, 10 %"),
        (r"\qtyrange{1}{5}{\hour}, \SIlist{1;2;3}{\kHz}", "1 to 5 h, 1, 2 and 3 kHz"),
        (r"\qty{3}{\metre\per\second\squared}", "3 m/s^2"),
        (r"\unit{\kilo\gram\per\cubic\metre}, \si{\newton\metre}", "kg/m^3, N m"),
        (r"\num{1.2(3)e-4}, \num{5 +- 1}, \ang{45;30;}", "1.2(3) × 10^-4, 5 ± 1, 45°30′"),
        (r"\SI{4}{km.s^{-1}}, \qtyproduct{2 x 3}{\m}", "4 km s^-1, 2 × 3 m"),
        (r"\DeclareSIUnit\px{px}\SI{4}{\mega\px}", "4 Mpx"),
    ],
)
def test_numbers_keep_their_units(source: str, text: str) -> None:
    assert latex_to_text(source) == text


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("R&D: 40% of #1, $3 and $5", "R&D: 40% of #1, $3 and $5"),
        (r"p $< 0.05$, $\alpha$, $n = 3$", "p < 0.05, α, n = 3"),
        (r"50\% \& 60%", "50% & 60%"),
    ],
)
def test_fields_that_programs_wrote_need_no_escapes(source: str, text: str) -> None:
    assert latex_to_text(source, lenient=True) == text


PIECES = [
    *(r"\textbf{", r"\frac{", r"\'", r"\begin{x}", r"{\end{x}", r"\newenvironment{a}{\begin{b}}{\end{b}}"),
    *(r"\def\a{", r"\\[", r"\href{", "$a_", "$", "{", "}", r"(\cite{a}", "a" + "\u0301" * 30, r"\iffalse "),
    *(r"\newcommand{\x}[1]{#1#1}\x{", r"\def\a{\a\a}\a", r"\uppercase{a", r"$\sqrt{", r"\verb|", "[", r"\x["),
    *(
        r"\begin{comment}",
        r"\SI{",
        r"\begin{tabular}{",
        "(see ",
        "word and $x_i$ more \\emph{text}\n\n",
        r"\gls{a}",
    ),
    *(r"\def\a{\b\b}\def\b{\a\a}\a{", r"\title{", r"\let\a\b\let\b\a \a", "%", "\n", r"\begin{abstract}"),
]


@pytest.mark.parametrize("piece", PIECES)
def test_twice_the_text_is_at_most_two_and_a_half_times_the_work(piece: str) -> None:
    def steps(times: int) -> int:
        converter = Converter()
        converter.run(tokenize(piece * times))
        return converter.steps

    # Below some size the work that macros may do whatever the length counts most.
    assert steps(4_000) <= 2.5 * steps(2_000) + 100


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=10), max_size=40).map("".join), st.booleans())
@example(r"\def\a{\a}\a text", False)
@example("\\", False)
@example("\\begin{", True)
@example("\ud800\\'\ud800", False)
def test_any_text_has_some_text(source: str, lenient: bool) -> None:
    text = latex_to_text(source, lenient=lenient)
    assert text == " ".join(text.split())


@given(st.text(alphabet=st.characters(codec="utf-8", categories=("L", "N")), max_size=200))
def test_text_without_markup_is_left_alone(text: str) -> None:
    assert latex_to_text(text) == " ".join(unicodedata.normalize("NFC", text).split())


def test_macros_that_never_end_leave_the_rest_of_the_text() -> None:
    assert latex_to_text(r"\def\a{\a}Snails \a graze").startswith("Snails")
    assert latex_to_text(r"\def\a{x\a}Snails \a graze").endswith("graze")
    assert latex_to_text(r"\def\a{\b\b}\def\b{\a\a}Snails \a graze").endswith("graze")
