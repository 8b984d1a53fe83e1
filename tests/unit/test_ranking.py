from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.engine import ScriptedEngine
from tests.support.world import WEIGHT, catalogue, request, served_model
from xuankan_worker.execution.ranking import rank

SERVING = served_model(ScriptedEngine())
FINITE = st.floats(-(2.0**90), 2.0**90, width=32)


@given(st.data(), st.integers(1, 40), st.integers(1, 60))
def test_a_ranking_is_sorted_complete_and_sums_to_one(data: st.DataObject, count: int, top_k: int) -> None:
    candidates = data.draw(st.permutations(range(40)))[:count]
    raw = np.array(data.draw(st.lists(FINITE, min_size=count, max_size=count)), dtype=np.float32)
    first = np.array(data.draw(st.lists(FINITE, min_size=count, max_size=count)), dtype=np.float32)
    asked = request(candidates=candidates, first_stage=first, top_k=top_k)
    ranking = rank(asked, raw, SERVING)
    assert [place.rank for place in ranking] == list(range(1, min(count, top_k) + 1))
    keys = [(-place.logit, catalogue().index(place.journal)) for place in ranking]
    assert keys == sorted(keys)
    scores = [place.score for place in ranking]
    assert all(0 <= score <= 1 for score in scores)
    if top_k >= count:
        assert sum(scores) == pytest.approx(1)
    for place in ranking:
        position = candidates.index(catalogue().index(place.journal))
        assert place.cross_encoder == raw[position]
        assert place.first_stage == first[position]
        assert place.logit == pytest.approx(float(raw[position]) + WEIGHT * float(first[position]))


@given(st.permutations(range(12)))
def test_equal_logits_are_ordered_by_catalogue_whatever_the_order_of_the_candidates(order: list[int]) -> None:
    asked = request(candidates=order, first_stage=np.zeros(12, dtype=np.float32), top_k=12)
    ranking = rank(asked, np.ones(12, dtype=np.float32), SERVING)
    assert [place.journal for place in ranking] == [f"journal-{number}" for number in range(12)]


def test_citations_stand_beside_the_journals_and_change_no_score() -> None:
    first = np.arange(3, dtype=np.float32)
    asked = request(candidates=[3, 1, 2], first_stage=first, top_k=3)
    plain = rank(asked, np.zeros(3, dtype=np.float32), SERVING)
    cited = dataclasses.replace(asked, cited=np.array([0, 7, 1], dtype=np.uint32))
    told = rank(cited, np.zeros(3, dtype=np.float32), SERVING)
    assert [(p.journal, p.score) for p in told] == [(p.journal, p.score) for p in plain]
    assert [(p.journal, p.metadata["cited"]) for p in told] == [
        ("journal-2", 1),
        ("journal-1", 7),
        ("journal-3", 0),
    ]
    assert all("cited" not in place.metadata for place in plain)


def test_a_place_carries_what_the_catalogue_knows() -> None:
    asked = request(candidates=[3], top_k=1)
    (place,) = rank(asked, np.zeros(1, dtype=np.float32), SERVING)
    assert place.metadata == catalogue()[3].metadata()
    assert place.score == 1.0
