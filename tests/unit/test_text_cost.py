"""What a text of a stranger costs grows no faster than the text."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import pytest

from xuankan.catalogue.terms import term_counts
from xuankan.documents import File, open_file
from xuankan.errors import ManuscriptError, Unreadable
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


def grows(cost: Callable[[str], object], seed: str, characters: int) -> bool:
    """Whether twice the text costs more than two and a half times as much.

    Other programs disturb the measurement, in one direction or the other: so the least of several counts, and
    one round in which it does not grow.
    """

    def least_s(count: int) -> float:
        text, spent_s = seed * (count // len(seed)), float("inf")
        for _ in range(2):
            before_s = time.process_time()
            cost(text)
            spent_s = min(spent_s, time.process_time() - before_s)
        return spent_s

    # What takes less than 10 ms is cheap.
    return all(least_s(2 * characters) > 2.5 * max(least_s(characters), 0.01) for _ in range(4))


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
    with contextlib.suppress(ManuscriptError):  # not Latin
        readability(manuscript)
    term_counts(manuscript.title, manuscript.abstract)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_manuscript(seed: str) -> None:
    assert not grows(ranked, seed, 40_000)


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
    assert not grows(read(ending, around), seed, 10_000)


def test_marks_beyond_the_thirtieth_are_dropped() -> None:
    assert normalized("NFC", "e\u0301") == "é"
    heap = normalized("NFKD", "e" + "\u0301" * 50_000 + "f")
    assert heap == "e" + "\u0301" * 30 + "f"
