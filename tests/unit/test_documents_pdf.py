"""PDF files as journals, TeX and Word print them: what is the title, where the abstract ends."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.support.pdf_writer import Text, pdf
from xuankan.documents import Document, File, Problem, read

BOLD = "Helvetica-Bold"
ITALIC = "Helvetica-Oblique"
NAME = "How snails shape the algae of rocky pools"
ABSTRACT = (
    "Grazing snails keep rocky pools free of algae, but how fast they do so is unknown. We",
    "counted snails in forty pools over two summers and measured the algal cover weekly with",
    "a drone. Cover fell by half within nine days after snails arrived and rose again when they",
    "left. Warm pools lost more algae than cool ones. A simple model with one rate constant",
    "explains most of the changes, and it predicts that hotter summers will favour the snails.",
)
TITLE = [Text(NAME, 740, 17)]
AUTHORS = [
    Text("Ada Example, Ben Sample and Cleo Muster", 690, 12),
    Text("Institute of Shores, Nowhere", 670, 9),
]
HEADING = [Text("Abstract", 636, 11, font=BOLD)]
KEYWORDS = [Text("Keywords: snails; pools; algae", 530)]
REST = [
    Text("1 Introduction", 500, 12, font=BOLD),
    Text("Rocky shores are places where land and sea meet. Many small pools form between the", 484),
    Text("rocks at low tide, and animals that live there must bear heat, salt and waves.", 472),
]


def lines(texts: Sequence[str], top: float = 620, size: float = 10) -> list[Text]:
    return [Text(text, top - 1.2 * size * place, size) for place, text in enumerate(texts)]


def only(*pages: Sequence[Text], title: str = "") -> Document:
    (found,) = read(File("paper.pdf", data=pdf(*pages, title=title)))
    assert isinstance(found, Document), found
    return found


def page(
    title: Sequence[Text] = TITLE, heading: Sequence[Text] = HEADING, abstract: Sequence[str] = ABSTRACT
) -> list[Text]:
    return [*title, *AUTHORS, *heading, *lines(abstract), *KEYWORDS, *REST]


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        (TITLE, NAME),
        ([Text("How snails shape", 756, 17), Text("the algae of rocky pools", 736, 17)], NAME),
        ([Text("Snails", 740, 17)], "Snails"),
        (
            [
                *(Text("How snails shape", 756, 17), Text("the algae of rocky pools", 736, 17)),
                *(Text("Journal of Shores", 752, 7, left=420), Text("2022, Vol. 37", 744, 7, left=420)),
            ],
            NAME,
        ),
        ([Text("Snails in pools", 740, 17)], "Snails in pools"),
        (
            [Text("Snails rule", 756, 17), Text("How grazing changed the algae of rocky pools", 735, 13)],
            "Snails rule",
        ),
        ([Text("Energy", 800, 24), Text("journal homepage: www.example.org/energy", 780, 8), *TITLE], NAME),
        ([Text("Journal of Shores", 800, 20), Text("12 (2020) 1-10", 785, 8), *TITLE], NAME),
        ([Text("ORIGINAL ARTICLE", 790, 18), *TITLE], NAME),
        ([Text("doi: 10.1000/xyz", 800, 9), Text("Received: 3 March 2020", 788, 9), *TITLE], NAME),
        ([Text("© The Authors 2020", 800, 9), Text("Available online 3 March 2020", 788, 9), *TITLE], NAME),
        (
            [Text("How snails shape", 756, 16), Text("Littorina littorea", 736, 18, font=ITALIC)],
            "How snails shape Littorina littorea",
        ),
        (
            [Text("How ", 740, 17), Text("snails", 740, 17, 112, ITALIC), Text(" shape pools", 740, 17, 168)],
            "How snails shape pools",
        ),
        ([Text(f"{NAME}*", 740, 17)], NAME),
        ([Text(f"{NAME} †", 740, 17)], NAME),
        ([*TITLE, Text("1", 746, 9, 405)], NAME),
        ([Text("Schr¨odinger's snails and caf´e pools", 740, 17)], "Schrödinger's snails and café pools"),
    ],
)
def test_which_lines_are_the_title(title: list[Text], expected: str) -> None:
    found = only(page(title))
    assert (found.title, found.abstract) == (expected, " ".join(ABSTRACT))


@pytest.mark.parametrize(
    "named",
    [
        "Microsoft Word - draft.doc",
        "Annual report of the institute",
        "Institute of Shores",
        "Rocky shores are",
        "",
    ],
)
def test_properties_that_contradict_the_print_do_not_count(named: str) -> None:
    assert only(page(), title=named).title == NAME


def test_a_title_that_is_drawn_last_is_found() -> None:
    whole = page()
    found = only([*whole[1:], whole[0]])
    assert (found.title, found.abstract) == (NAME, " ".join(ABSTRACT))


def test_the_properties_decide_where_all_letters_are_of_one_size() -> None:
    whole = [Text("Some journal of ours", 800), Text(NAME, 780), Text("Abstract", 760), *lines(ABSTRACT, 740)]
    assert only(whole, title=NAME).title == NAME


@pytest.mark.parametrize(
    ("heading", "first"),
    [
        (HEADING, ABSTRACT[0]),
        ([Text("A B S T R A C T", 636, 9)], ABSTRACT[0]),
        ([], f"Abstract. {ABSTRACT[0]}"),
        ([], f"Abstract—{ABSTRACT[0]}"),
        ([], f"Abstract {ABSTRACT[0]}"),
        ([], f"Summary: {ABSTRACT[0]}"),
    ],
)
def test_how_an_abstract_begins(heading: list[Text], first: str) -> None:
    found = only(page(heading=heading, abstract=[first, *ABSTRACT[1:]]))
    assert (found.abstract, found.keywords) == (" ".join(ABSTRACT), ("snails", "pools", "algae"))
    assert found.warnings == ()


def test_a_heading_in_bold_within_its_line() -> None:
    abstract = [Text("Abstract", 620, font=BOLD), Text(ABSTRACT[0], 620, left=118), *lines(ABSTRACT[1:], 608)]
    words = [Text("Keywords", 530, font=BOLD), Text("snails · pools · algae", 530, left=122)]
    found = only([*TITLE, *AUTHORS, *abstract, *words, *REST])
    assert (found.abstract, found.keywords) == (" ".join(ABSTRACT), ("snails", "pools", "algae"))


@pytest.mark.parametrize("size", [8, 10])
@pytest.mark.parametrize(
    "note",
    [
        "Corresponding author: ada@example.org",
        "* Correspondence: ada@example.org",
        "ada@example.org",
        "© 2020 The Authors. Published by Nowhere Press.",
        "Received 3 March 2020; accepted 5 May 2020",
        "Available online 3 March 2020",
        "This article is distributed under the terms of CC BY.",
        "This work was supported by the Shore Foundation.",
        "Preprint submitted to Journal of Shores",
        "Journal of Shores 2020, 5, 17",
        "PACS numbers: 1.2.3",
        "MSC 2010: 35A01",
    ],
)
def test_lines_behind_an_abstract_are_none_of_it(note: str, size: float) -> None:
    whole = [*TITLE, *AUTHORS, *HEADING, *lines(ABSTRACT), Text(note, 552, size), *REST]
    assert only(whole).abstract == " ".join(ABSTRACT)


def test_words_that_line_ends_split_are_put_together() -> None:
    abstract = ["Snails keep pools free of al-", "gae by self-", "made state-of-the-", "art grazing."]
    assert only(page(abstract=abstract)).abstract == (
        "Snails keep pools free of algae by self-made state-of-the-art grazing."
    )


def test_without_a_heading_the_first_long_paragraph_is_taken_and_that_is_said() -> None:
    found = only([*TITLE, *AUTHORS, *lines(ABSTRACT), *REST])
    assert found.abstract == " ".join(ABSTRACT)
    assert [said[:26] for said in found.warnings] == ["there is no heading “Abstr"]


def test_the_body_in_other_letters_is_no_abstract() -> None:
    body = lines(["Rocky shores are places where land and sea meet. Many pools form there."] * 3, 560, 11)
    assert only([*TITLE, *AUTHORS, *HEADING, *lines(ABSTRACT, size=8), *body]).abstract == " ".join(ABSTRACT)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"%PDF-1.4 broken", "it is damaged"),
        (pdf([]), "a scan"),
        (pdf(page())[:-200], ""),
    ],
)
def test_a_file_that_cannot_be_read_says_why(data: bytes, says: str) -> None:
    (found,) = read(File("a.pdf", data=data))
    if says:
        assert isinstance(found, Problem)
        assert says in found.problem


def test_properties_that_lack_a_space_are_no_better_than_the_print() -> None:
    printed = [Text("How snails shape", 756, 17), Text("the algae of rocky pools", 736, 17)]
    assert only(page(printed), title="How snails shapethe algae of rocky pools").title == NAME
