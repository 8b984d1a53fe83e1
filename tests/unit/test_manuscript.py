from __future__ import annotations

import contextlib
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xuankan.errors import ManuscriptError
from xuankan.manuscript import MAX_CHARACTERS, Manuscript, readability

_ENGLISH = "We study the flow of a fluid past a cylinder and show that it is stable for small numbers. " * 3


@pytest.mark.parametrize(
    ("title", "abstract", "keywords", "field"),
    [
        ("", "", (), "title"),
        (" \n\t", "...", (), "title"),
        ("12 + 34 = 46", "", (), "title"),
        (b"Title", "", (), "title"),
        ("Title", b"\xff\xfe", (), "abstract"),
        (None, "", (), "title"),
        ("Title", 5, (), "abstract"),
        ("Title", "half \ud83d a face", (), "abstract"),
        ("Title", "\x7fELF\x02\x01\x01\x00\x00", (), "abstract"),
        ("Title", "a\x00b" + _ENGLISH, (), "abstract"),
        ("Title", _ENGLISH, "flow; cylinder", "keywords"),
        ("Title", _ENGLISH, ("flow", b"cylinder"), "keywords[1]"),
        ("Title", _ENGLISH, 7, "keywords"),
        ("Title", "x" * MAX_CHARACTERS, (), "abstract"),
        ("Title", _ENGLISH, ("flow",) * MAX_CHARACTERS, None),
    ],
)
def test_what_is_no_manuscript_is_refused_and_its_field_named(
    title: Any, abstract: Any, keywords: Any, field: str | None
) -> None:
    with pytest.raises(ManuscriptError) as caught:
        Manuscript(title, abstract, keywords)
    if field is not None:
        assert caught.value.field == field


def test_ten_megabytes_are_refused_in_milliseconds() -> None:
    abstract = "flow " * 2_000_000
    started_s = time.process_time()
    with pytest.raises(ManuscriptError, match="10,000,004 characters"):
        Manuscript("Flow", abstract)
    assert time.process_time() - started_s < 0.05


@pytest.mark.parametrize(
    "abstract",
    [
        r"We show that $\alpha \leq \frac{1}{2}$ \cite{knuth} holds \emph{almost} everywhere for the model.",
        "<p>We show that <sub>2</sub> &amp; more is true for the model.</p>",
        "A page\x0cbreak and a line\r\nend, a quotation mark \x93of Windows\x94 in the text of the paper.",
        "Émile and Gödel: naïve façades – “quoted” – are 10 µm ± 3 °C, α-helices of the β-sheet 😀.",
    ],
)
def test_remnants_of_other_formats_do_no_harm(abstract: str) -> None:
    assert readability(Manuscript("On remnants of the formats", abstract)) == ()


@pytest.mark.parametrize(
    "text",
    [
        "本文提出了一种基于深度学习的医学图像分割方法并在三个数据集上进行了验证",
        "Мы предлагаем новый метод сегментации медицинских изображений",
        "نقترح طريقة جديدة لتجزئة الصور الطبية",
    ],
)
def test_a_script_that_the_model_cannot_read_is_refused_with_the_way_out(text: str) -> None:
    with pytest.raises(ManuscriptError, match="in English"):
        readability(Manuscript(text, text))


def test_a_bilingual_abstract_is_ranked_with_a_warning() -> None:
    bilingual = "本文提出了一种基于深度学习的医学图像分割方法。" * 6 + _ENGLISH
    assert any("not Latin" in warning for warning in readability(Manuscript("Flow", bilingual)))
    mostly_english = "摘要。" + _ENGLISH
    assert readability(Manuscript("Flow", mostly_english)) == ()


@pytest.mark.parametrize(
    "text",
    [
        "Nous proposons une méthode d'apprentissage pour la segmentation d'images médicales en trois temps. ",
        "Wir stellen ein Verfahren zur Segmentierung medizinischer Bilder vor, das auf Netzen beruht. ",
        "Proponemos un método nuevo para la segmentación de imágenes médicas con redes profundas. ",
    ],
)
def test_another_language_in_latin_letters_is_warned_of(text: str) -> None:
    assert any("English" in warning for warning in readability(Manuscript(text, text * 4)))


def test_what_is_missing_is_warned_of() -> None:
    assert any("no abstract" in warning for warning in readability(Manuscript("Flow past a cylinder")))
    assert any("no title" in warning for warning in readability(Manuscript("", _ENGLISH)))
    assert readability(Manuscript("Flow past a cylinder", _ENGLISH, ("flow",))) == ()


def test_json_objects_are_read_as_portals_send_them() -> None:
    row = {"title": "Flow", "abstract": None, "keywords": ["a", "b"], "id": 7}
    assert Manuscript.from_mapping(row) == Manuscript("Flow", "", ("a", "b"))
    with pytest.raises(ManuscriptError, match="Title, text"):
        Manuscript.from_mapping({"text": "...", "Title": "Flow"})
    with pytest.raises(ManuscriptError, match="int"):
        Manuscript.from_mapping({"title": 5})


def test_plain_text_begins_with_the_title() -> None:
    assert Manuscript.from_text("\n  Flow past\nWe study\nthe flow.\n") == Manuscript(
        "Flow past", "We study\nthe flow."
    )


@given(st.text(), st.text(), st.lists(st.text()))
def test_any_text_is_a_manuscript_or_a_clear_error(title: str, abstract: str, keywords: list[str]) -> None:
    with contextlib.suppress(ManuscriptError):
        readability(Manuscript(title, abstract, tuple(keywords)))
