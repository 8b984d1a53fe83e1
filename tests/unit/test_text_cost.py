"""What a text of a stranger costs grows no faster than the text."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from xuankan.catalogue.terms import term_counts
from xuankan.documents import File, open_file
from xuankan.errors import Unreadable
from xuankan.manuscript import Manuscript, readability
from xuankan.unicode import normalized

SEEDS = (
    *(
        "\u0301",
        "\u0316\u0301",
        "é",
        "ﬁ",
        "\u0344",
        "\\a",
        "\\alpha ",
        "$",
        "{",
        "<",
        "&",
        "\n",
        "\r",
        " ",
        "a",
        "1",
        "-",
    ),
    *("PMID- 1\n", "%0 a\n", "@a{", "TY  - JOUR\n", "\\begin{a}", "A. B., ", "http://", "<b>", "(1) "),
)


def grows(cost: Callable[[str], object], seed: str, characters: int) -> float:
    """How many times as much twice the text costs, of the least of several measurements each."""

    def least_s(count: int) -> float:
        text, spent_s = seed * (count // len(seed)), float("inf")
        for _ in range(3):
            before_s = time.process_time()
            cost(text)
            spent_s = min(spent_s, time.process_time() - before_s)
        return spent_s

    return least_s(2 * characters) / max(least_s(characters), 0.02)  # what takes less is cheap


def read(ending: str, around: str) -> Callable[[str], object]:
    def cost(text: str) -> None:
        try:
            opened = open_file(File(f"paper{ending}", data=around.replace("…", text).encode()))
            for _ in opened.records():
                pass
        except Unreadable:
            pass

    return cost


def ranked(text: str) -> None:
    manuscript = Manuscript("Graphs of waves", text)
    readability(manuscript)
    term_counts(manuscript.title, manuscript.abstract)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_manuscript(seed: str) -> None:
    if "\0" not in seed:
        assert grows(ranked, seed, 40_000) <= 2.5


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("ending", "around"),
    [
        (".txt", "A title here\n\n…"),
        (".tex", "\\documentclass{a}…\\begin{document}\\title{T a b}x\\end{document}"),
        (".bib", "@article{a, title={…}, abstract={a b c}}"),
        (".ris", "TY  - JOUR\nTI  - …\nAB  - x y\nER  - \n"),
        (".csv", 'title,abstract\n"…",b\n'),
    ],
)
def test_a_file(ending: str, around: str, seed: str) -> None:
    assert grows(read(ending, around), seed, 20_000) <= 2.5


def test_marks_beyond_the_thirtieth_are_dropped() -> None:
    assert normalized("NFC", "e\u0301") == "é"
    heap = normalized("NFKD", "e" + "\u0301" * 50_000 + "f")
    assert heap == "e" + "\u0301" * 30 + "f"
