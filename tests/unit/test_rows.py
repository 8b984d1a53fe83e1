from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.engine import ScriptedEngine
from tests.support.world import catalogue, served_model
from xuankan.errors import ReleaseError
from xuankan.protocol.template import Template
from xuankan_worker.engines.base import EngineInfo
from xuankan_worker.execution.rows import Segment

SERVING = served_model(ScriptedEngine())
TEMPLATE = Template.default()
MANUSCRIPTS = st.lists(st.integers(1000, 2000), min_size=1, max_size=TEMPLATE.max_manuscript_tokens)


@given(
    st.lists(
        st.tuples(MANUSCRIPTS, st.lists(st.integers(0, 39), min_size=1, max_size=8)), min_size=1, max_size=4
    ),
    st.integers(0, 40),
)
def test_a_batch_is_cls_manuscript_sep_profile_sep_and_padding(
    parts: list[tuple[list[int], list[int]]], spare: int
) -> None:
    rows = [
        [
            *(TEMPLATE.cls_id, *manuscript, TEMPLATE.sep_id),
            *(*TEMPLATE.encode_profile(catalogue()[journal].profile).ids.tolist(), TEMPLATE.sep_id),
        ]
        for manuscript, journals in parts
        for journal in journals
    ]
    bucket = max(len(row) for row in rows) + spare
    segments = [Segment(np.array(tokens, dtype=np.int32), np.array(journals)) for tokens, journals in parts]
    batch = SERVING.profiles.assemble(bucket, segments)
    assert batch.input_ids.tolist() == [row + [TEMPLATE.pad_id] * (bucket - len(row)) for row in rows]
    assert batch.lengths.tolist() == [len(row) for row in rows]
    assert batch.first_lengths.tolist() == [len(m) + 2 for m, journals in parts for _ in journals]
    assert batch.input_ids.dtype == batch.lengths.dtype == batch.first_lengths.dtype == np.int32


def test_row_lengths_are_those_of_the_rows() -> None:
    journals = np.array([0, 7, 12])
    batch = SERVING.profiles.assemble(352, [Segment(np.arange(20, dtype=np.int32), journals)])
    assert SERVING.profiles.row_lengths(20, journals).tolist() == batch.lengths.tolist()


class OtherEngine(ScriptedEngine):
    other: EngineInfo

    @property
    def info(self) -> EngineInfo:
        return self.other


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"buckets": (64, 128)}, "runs at most 128"), ({"vocabulary_size": 97}, "knows only 97")],
)
def test_an_engine_that_does_not_fit_the_release_is_refused(changes: dict[str, Any], message: str) -> None:
    engine = OtherEngine()
    engine.other = replace(ScriptedEngine().info, **changes)
    with pytest.raises(ReleaseError, match=message):
        served_model(engine)
