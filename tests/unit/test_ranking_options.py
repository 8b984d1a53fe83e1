"""Options of a ranking: checked once, combined with keywords, named in one way."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from typing import Any, get_type_hints

import pytest

from xuankan import Filters, RankingOptions
from xuankan.client.options import RankingKeywords, combined
from xuankan.errors import InputError


def test_every_option_is_a_keyword_of_the_same_type() -> None:
    assert get_type_hints(RankingKeywords) == get_type_hints(RankingOptions)
    assert set(RankingKeywords.__annotations__) == {field.name for field in fields(RankingOptions)}


def test_keywords_count_more_than_options_and_the_method_names_the_lane() -> None:
    patient = RankingOptions(top_k=5, deadline_s=60)
    assert combined(None, {}, "bulk") == RankingOptions(lane="bulk")
    assert combined(patient, {}, "interactive") == RankingOptions(top_k=5, deadline_s=60, lane="interactive")
    found = combined(patient, {"deadline_s": None, "lane": "bulk"}, "interactive")
    assert found == RankingOptions(top_k=5, lane="bulk")
    assert patient == RankingOptions(top_k=5, deadline_s=60)


def test_options_can_be_kept_and_shared() -> None:
    ids = ["a", "b"]
    options = RankingOptions(candidates=ids)
    ids.append("c")
    assert options.candidates == ("a", "b")
    assert hash(options) == hash(RankingOptions(candidates=("a", "b")))
    with pytest.raises(FrozenInstanceError):
        options.top_k = 3  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"top_k": 0}, "top_k: must be 1 to .* journals, not 0"),
        ({"top_k": 10**9}, "top_k: must be 1 to"),
        ({"top_k": "5"}, "top_k: must be a whole number, not '5'"),
        ({"top_k": True}, "top_k: must be a whole number, not True"),
        ({"candidates": 0}, "candidates: must be 1 to .* journals, not 0"),
        ({"candidates": 2.5}, "candidates: must be a whole number, not 2.5"),
        (
            {"candidates": "journal-1"},
            "candidates: must be a number or a list of journal ids, not 'journal-1'",
        ),
        ({"candidates": None}, "candidates: must be a number or a list"),
        ({"candidates": []}, "candidates: must be 1 to .* journals, not 0"),
        ({"candidates": ["a", 7]}, "candidates: must be ids of journals, not 7"),
        ({"filters": {"open_access": True}}, "filters: must be xuankan.Filters"),
        ({"lane": "slow"}, "lane: must be one of interactive, bulk, not 'slow'"),
        ({"deadline_s": 0}, "deadline_s: must be greater than 0 seconds, not 0"),
        ({"deadline_s": float("nan")}, "deadline_s: must be greater than 0 seconds, not nan"),
        ({"deadline_s": "20"}, "deadline_s: must be a number of seconds, not '20'"),
        ({"on_full": "drop"}, "on_full: must be one of wait, raise, not 'drop'"),
    ],
)
def test_what_cannot_be_used_is_named(given: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told) as error:
        RankingOptions(**given)
    assert error.value.field in given
    with pytest.raises(InputError, match=told):
        combined(RankingOptions(filters=Filters(open_access=True)), given, "bulk")  # pyright: ignore[reportArgumentType]


def test_a_keyword_that_is_none_is_refused() -> None:
    for options in (None, RankingOptions()):
        with pytest.raises(TypeError, match="topk"):
            combined(options, {"topk": 3}, "bulk")  # pyright: ignore[reportArgumentType]
