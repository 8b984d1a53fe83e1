"""Filters and the choice of candidates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xuankan.candidates import Filters, select
from xuankan.catalogue import OPEN_ACCESS, Catalogue, Journal
from xuankan.errors import FilterError, InputError, UnknownJournal

JOURNALS = st.builds(
    Journal,
    id=st.just(""),
    title=st.just("T"),
    publisher=st.sampled_from([None, "Springer New York", "Élsevier", "IOP"]),
    open_access=st.sampled_from([None, *OPEN_ACCESS]),
    apc_usd=st.none() | st.floats(0, 5000),
    languages=st.sampled_from([(), ("en",), ("en", "fr")]),
    subjects=st.sampled_from([(), ("optics", "plasma physics"), ("surgery",)]),
)


@st.composite
def catalogues(draw: st.DrawFn) -> Catalogue:
    drawn = draw(st.lists(JOURNALS, min_size=1, max_size=12))
    return Catalogue(
        tuple(
            Journal(
                f"j{i}",
                f"J{i}",
                j.publisher,
                open_access=j.open_access,
                apc_usd=j.apc_usd,
                languages=j.languages,
                subjects=j.subjects,
            )
            for i, j in enumerate(drawn)
        )
    )


FILTERS = st.builds(
    Filters,
    open_access=st.none() | st.booleans(),
    max_apc_usd=st.none() | st.floats(0, 5000),
    languages=st.sampled_from([(), ("en",), ("FR",), ("de", "fr")]),
    publishers=st.sampled_from([(), ("elsevier",), ("springer", "iop")]),
    subjects=st.sampled_from([(), ("physics",), ("surgery", "optics")]),
)


def scores(catalogue: Catalogue, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=len(catalogue)).astype(np.float32)


@given(catalogues(), st.integers(1, 20))
def test_the_best_are_picked_in_order(catalogue: Catalogue, n: int) -> None:
    given_scores = scores(catalogue)
    picked = select(given_scores, catalogue, n)
    assert picked.indices.dtype == np.uint32
    assert picked.scores.dtype == np.float32
    assert len(picked.indices) == min(n, len(catalogue))
    assert picked.scores.tolist() == sorted(given_scores.tolist(), reverse=True)[:n]
    assert picked.scores.tolist() == given_scores[picked.indices].tolist()
    assert picked.warnings == ()


@given(catalogues(), FILTERS)
def test_what_passes_meets_every_condition_for_certain(catalogue: Catalogue, filters: Filters) -> None:
    verdicts = [filters.admits(journal) for journal in catalogue]
    try:
        picked = select(scores(catalogue), catalogue, 100, filters)
    except FilterError as error:
        assert True not in verdicts
        assert f"for {verdicts.count(None)} the catalogue does not know" in str(error)  # noqa: PT017
        return
    assert sorted(picked.indices) == [i for i, verdict in enumerate(verdicts) if verdict is True]
    assert bool(picked.warnings) == (None in verdicts)
    for i in picked.indices:
        journal = catalogue[int(i)]
        if filters.max_apc_usd is not None and journal.apc_usd is not None:
            assert journal.apc_usd <= filters.max_apc_usd
        if filters.open_access is not None:
            assert (journal.open_access in ("gold", "diamond")) == filters.open_access
        if filters.languages:
            assert {language.lower() for language in filters.languages} & set(journal.languages)


@given(catalogues(), FILTERS, FILTERS)
def test_one_more_condition_never_lets_more_pass(catalogue: Catalogue, one: Filters, other: Filters) -> None:
    both = Filters(
        one.open_access if one.open_access is not None else other.open_access,
        one.max_apc_usd if one.max_apc_usd is not None else other.max_apc_usd,
        one.languages or other.languages,
        one.publishers or other.publishers,
        one.subjects or other.subjects,
    )
    for journal in catalogue:
        assert both.admits(journal) is not True or one.admits(journal) is True


@given(catalogues(), st.floats(0, 5000), st.floats(0, 5000))
def test_a_higher_ceiling_never_lets_fewer_pass(catalogue: Catalogue, a: float, b: float) -> None:
    low, high = Filters(max_apc_usd=min(a, b)), Filters(max_apc_usd=max(a, b))
    for journal in catalogue:
        assert low.admits(journal) is not True or high.admits(journal) is True


def test_an_unknown_price_passes_only_where_publishing_can_be_free() -> None:
    ceiling = Filters(max_apc_usd=1000)
    verdicts = {kind: ceiling.admits(Journal("a", "A", open_access=kind)) for kind in OPEN_ACCESS}
    assert verdicts == {"diamond": True, "gold": None, "hybrid": None, "subscription": True}


def test_unknown_facts_are_counted_for_the_user() -> None:
    catalogue = Catalogue.default()
    picked = select(scores(catalogue), catalogue, 20, Filters(open_access=True))
    assert all(catalogue[int(i)].open_access in ("gold", "diamond") for i in picked.indices)
    unknown = sum(journal.open_access is None for journal in catalogue)
    assert len(picked.warnings) == 1
    assert f"left out {unknown} of 632 journals because the catalogue does not know" in picked.warnings[0]


def test_named_journals_win_over_the_first_stage() -> None:
    catalogue = Catalogue.default()
    given_scores = scores(catalogue)
    worst = [catalogue[int(i)].id for i in np.argsort(given_scores)[:3]]
    picked = select(given_scores, catalogue, 1, named=[*worst, worst[0]])
    assert [catalogue[int(i)].id for i in picked.indices] == worst[::-1]


def test_named_journals_are_filtered_too() -> None:
    catalogue = Catalogue.default()
    named = ["scientific-reports", "physical-review-letters"]
    picked = select(scores(catalogue), catalogue, 9, Filters(open_access=True), named)
    assert [catalogue[int(i)].id for i in picked.indices] == ["scientific-reports"]
    with pytest.raises(FilterError, match="none of 1 journals passes \\(open_access\\)"):
        select(scores(catalogue), catalogue, 9, Filters(open_access=False), named[:1])


def test_what_cannot_be_picked_is_told() -> None:
    catalogue = Catalogue.default()
    with pytest.raises(UnknownJournal, match="close: physical-review-b"):
        select(scores(catalogue), catalogue, 5, named=["physical-review-bb"])
    with pytest.raises(FilterError, match="Loosen a filter, or import the missing metadata"):
        select(scores(catalogue), catalogue, 5, Filters(publishers=("No Such Press",)))
    with pytest.raises(InputError, match="candidates: must be at least 1, not 0"):
        select(scores(catalogue), catalogue, 0)
    with pytest.raises(InputError, match="candidates: the list of named journals is empty"):
        select(scores(catalogue), catalogue, 5, named=[])
    with pytest.raises(InputError, match="3 first-stage scores for a catalogue of 632"):
        select(np.zeros(3, np.float32), catalogue, 5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"open_access": "yes"}, "open_access: must be true, false or left out, not 'yes'"),
        ({"max_apc_usd": -1}, "max_apc_usd: must be 0 US dollars or more, not -1"),
        ({"max_apc_usd": float("nan")}, "max_apc_usd: must be 0 US dollars or more, not nan"),
        ({"max_apc_usd": "100"}, "max_apc_usd: must be a number of US dollars, not '100'"),
        ({"max_apc_usd": True}, "max_apc_usd: must be a number of US dollars, not True"),
        ({"languages": "en"}, "languages: must be a list of texts, not 'en'"),
        ({"languages": ["english"]}, "languages: must hold two-letter"),
        ({"publishers": [""]}, "publishers: must hold texts with a letter or digit, not ''"),
        ({"subjects": [3]}, "subjects: must hold texts with a letter or digit, not 3"),
        ({"subjects": 3}, "subjects: must be a list of texts, not 3"),
    ],
)
def test_filters_that_make_no_sense_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(FilterError, match=message):
        Filters(**values)


def test_no_filter_is_false() -> None:
    assert not Filters()
    assert Filters(open_access=False)
    assert Filters(subjects=("optics",))
