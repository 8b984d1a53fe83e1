"""The catalogue: the shipped artefact, its file format, looking journals up."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xuankan.catalogue import Catalogue, Journal, quoted_titles
from xuankan.catalogue.issn import check_digit, is_valid_issn, normalise_issn
from xuankan.catalogue.languages import CODES, language_code
from xuankan.catalogue.model import fold, slug
from xuankan.catalogue.subjects import categories, main_subjects
from xuankan.catalogue.terms import term_counts
from xuankan.errors import CatalogueError, UnknownJournal
from xuankan.protocol.template import Template

KNEE = Journal(id="knee", title="The Knee", issns=("0968-0160",), profile="The Knee. knees.")
ELBOW = Journal(id="elbow", title="The Elbow", profile="The Elbow. elbows.")


def test_the_shipped_catalogue_holds_what_it_should() -> None:
    catalogue = Catalogue.default()
    assert len(catalogue) == 632
    assert len({journal.title for journal in catalogue}) == 632
    prl = catalogue[catalogue.index("physical-review-letters")]
    assert prl.issns == ("0031-9007", "1079-7114")
    assert prl.publisher == "American Physical Society"
    assert prl.metadata()["issns"] == ["0031-9007", "1079-7114"]
    assert "profile" not in prl.metadata()


def test_the_shipped_catalogue_says_what_it_does_not_know() -> None:
    catalogue = Catalogue.default()
    letters = catalogue[catalogue.index("physical-review-letters")]
    assert letters.apc_usd is None
    assert letters.languages == ()
    free = catalogue[catalogue.index("journal-of-high-energy-physics")]
    assert (free.open_access, free.apc_usd) == ("diamond", 0.0)


def test_the_shipped_catalogue_carries_nothing_of_scimago() -> None:
    assert all(journal.sjr is None and journal.quartile is None for journal in Catalogue.default())
    sources = {source for journal in Catalogue.default() for source in journal.sources}
    assert sources == {"title list", "journalsdb", "DOAJ", "papers"}


def test_every_shipped_profile_is_read_to_its_end_by_the_shipped_model() -> None:
    template = Template.default()
    for journal in Catalogue.default():
        assert journal.profile.startswith(journal.title)
        assert template.encode_profile(journal.profile).total <= template.max_profile_tokens
        assert all(example in journal.profile for example in journal.examples)
    assert len(quoted_titles(Catalogue.default())) > 1000


def test_a_catalogue_is_the_same_after_saving_and_loading(tmp_path: Path) -> None:
    shipped = Catalogue.default()
    shipped.save(tmp_path / "a.json.gz")
    shipped.save(tmp_path / "b.json.gz")
    loaded = Catalogue.load(tmp_path / "a.json.gz")
    assert loaded == shipped
    assert loaded.version == shipped.version
    assert (tmp_path / "a.json.gz").read_bytes() == (tmp_path / "b.json.gz").read_bytes()


def test_the_version_follows_the_content() -> None:
    assert Catalogue((KNEE, ELBOW)).version == Catalogue((replace(KNEE), ELBOW)).version
    assert Catalogue((KNEE, ELBOW)).version != Catalogue((ELBOW, KNEE)).version
    assert Catalogue((KNEE,)).version != Catalogue((replace(KNEE, apc_usd=0.0),)).version


def test_a_catalogue_that_was_changed_by_hand_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.json.gz"
    Catalogue((KNEE,)).save(path)
    document = json.loads(gzip.decompress(path.read_bytes()))
    document["journals"][0]["title"] = "The Other Knee"
    path.write_bytes(gzip.compress(json.dumps(document).encode()))
    with pytest.raises(CatalogueError, match="changed by hand or damaged"):
        Catalogue.load(path)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"title": "A"}, "journal 0: id is ''"),
        ({"id": "a", "title": 3}, "title is 3"),
        ({"id": "a", "title": "A", "apc_usd": "free"}, "apc_usd is 'free'"),
        ({"id": "a", "title": "A", "apc_usd": -1}, "apc_usd is -1"),
        ({"id": "a", "title": "A", "open_access": "green"}, "open_access is 'green', not one of diamond"),
        ({"id": "a", "title": "A", "issns": "0031-9007"}, "issns is '0031-9007', not a list"),
        ({"id": "a", "title": "A", "impact": 3}, "unknown field 'impact'"),
    ],
)
def test_a_bad_journal_in_a_file_is_named(tmp_path: Path, row: dict[str, object], message: str) -> None:
    path = tmp_path / "c.json.gz"
    document = {"format": "xuankan-catalogue/1", "version": "", "journals": [row]}
    path.write_bytes(gzip.compress(json.dumps(document).encode()))
    with pytest.raises(CatalogueError, match=message):
        Catalogue.load(path)


@given(st.binary(max_size=200))
def test_any_bytes_are_at_worst_a_clear_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "c.json.gz"
    for content in (data, gzip.compress(data)):
        path.write_bytes(content)
        with pytest.raises(CatalogueError):
            Catalogue.load(path)


def test_a_missing_file_and_an_empty_catalogue_are_clear_errors(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match=r"none\.json\.gz cannot be read"):
        Catalogue.load(tmp_path / "none.json.gz")
    with pytest.raises(CatalogueError, match="at least one journal"):
        Catalogue(())
    with pytest.raises(CatalogueError, match="the same id, 'knee'"):
        Catalogue((KNEE, KNEE))


def test_an_unknown_journal_is_told_with_close_ones() -> None:
    with pytest.raises(UnknownJournal, match="close: physical-review-letters"):
        Catalogue.default().index("phisical-review-leters")


def test_journals_are_found_by_id_issn_and_words() -> None:
    catalogue = Catalogue.default()
    assert catalogue.find("0031-9007")[0].id == "physical-review-letters"
    assert catalogue.find("Physical Review B")[0].id == "physical-review-b"
    assert {"physical-review-a", "physical-review-x"} <= {j.id for j in catalogue.find("review physical", 20)}
    assert catalogue.find("astrofysical jornal")[0].title == "Astrophysical Journal"
    assert catalogue.find("!?") == ()


@given(st.text("0123456789", min_size=7, max_size=7))
def test_exactly_one_check_digit_is_right(digits: str) -> None:
    right = [last for last in "0123456789X" if is_valid_issn(f"{digits[:4]}-{digits[4:]}{last}")]
    assert right == [check_digit(digits)]


@given(st.text("0123456789", min_size=7, max_size=7), st.integers(0, 6), st.integers(1, 9))
def test_a_wrong_digit_is_noticed(digits: str, place: int, change: int) -> None:
    wrong = digits[:place] + str((int(digits[place]) + change) % 10) + digits[place + 1 :]
    assert not is_valid_issn(f"{wrong[:4]}-{wrong[4:]}{check_digit(digits)}")


@given(st.text())
def test_text_that_is_no_issn_is_none_or_well_formed(text: str) -> None:
    issn = normalise_issn(text)
    assert issn is None or (len(issn) == 9 and issn[4] == "-" and normalise_issn(issn) == issn)


def test_real_issns_are_valid() -> None:
    assert all(
        is_valid_issn(issn) for issn in ("0031-9007", "1079-7114", "2045-2322", "2434561x", "0378-5955")
    )
    assert not is_valid_issn("0031-9008")
    assert not is_valid_issn("٠٠٣١-٩٠٠٧")


@given(st.text())
def test_slugs_are_plain_and_folding_twice_changes_nothing(text: str) -> None:
    assert fold(fold(text)) == fold(text)
    assert " " not in slug(text)


def test_titles_fold_to_what_a_reader_would_call_the_same() -> None:
    assert fold("Zeitschrift für Physik & Chemie") == fold("zeitschrift fur physik and chemie")
    assert slug("Physical Review B") == "physical-review-b"


def test_languages_are_understood_by_name_and_code() -> None:
    assert language_code("English") == language_code("EN") == "en"
    assert language_code("Spanish; Castilian") == "es"
    assert language_code("Klingon") is None
    assert len(set(CODES.values())) == len(CODES)


def test_subjects_are_the_common_ones_under_todays_names() -> None:
    assert categories("math.MP,math-ph, chao-dyn") == ("math-ph", "nlin.CD")
    assert categories(None) == ()
    papers = [("quant-ph",)] * 9 + [("math-ph", "quant-ph")] * 3 + [("hep-th",)]
    assert main_subjects(papers) == ("quantum physics", "mathematical physics")


@given(st.text(max_size=300), st.text(max_size=300))
def test_terms_of_any_text_are_plain_and_titles_count_more(title: str, abstract: str) -> None:
    counts = term_counts(title, abstract)
    assert all(term.isascii() and count >= 1 for term, count in counts.items())
    alone = term_counts(title, "")
    assert all(count % 3 == 0 and counts[term] >= count for term, count in alone.items())


def test_terms_skip_formulas_and_stop_words() -> None:
    counts = term_counts("", r"The \emph{state} of the art in $\mathbb{R}^n$")
    assert set(counts) == {"state", "art", "state art"}
