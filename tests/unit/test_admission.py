from __future__ import annotations

from typing import Any

import msgpack
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.support.engine import ScriptedEngine
from tests.support.world import admission, request
from xuankan_worker.in_flight import Entry, EntryKey, EntryOutcome, InFlight

ADMISSION = admission()
GOOD = msgpack.unpackb(request().encode())
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.binary() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


def admit(body: bytes, request_id: str | None, deliveries: int = 1) -> InFlight | EntryOutcome:
    return ADMISSION.admit(
        Entry(EntryKey("bulk", "1700000000000-0"), request_id, body, deliveries), 1.7e12, 5.0
    )


def assert_settled(found: InFlight | EntryOutcome, request_id: str | None) -> None:
    """The entry can be scored, or ends in one result, or names nobody and goes to the dead stream."""
    if isinstance(found, InFlight):
        assert found.remaining == len(found.lengths) == len(found.scores) > 0
        assert found.lengths.max() <= ScriptedEngine().info.buckets[-1]
        return
    if found.result is None:
        assert request_id is None
        assert found.burial is not None
    else:
        assert found.result.status != "ok"
        assert found.result.failure is not None
        assert type(found.result).decode(found.result.encode()) == found.result


@given(st.binary(max_size=300), st.sampled_from([None, "some-id"]))
def test_any_bytes_end_in_one_way(body: bytes, request_id: str | None) -> None:
    assert_settled(admit(body, request_id), request_id)


@given(st.dictionaries(st.sampled_from(sorted(GOOD)), VALUES, min_size=1, max_size=3), st.integers(1, 9))
def test_a_good_request_with_any_fields_replaced_ends_in_one_way(
    fields: dict[str, Any], deliveries: int
) -> None:
    body = msgpack.packb(GOOD | fields)
    assert body is not None
    assert_settled(admit(body, GOOD["id"], deliveries), GOOD["id"])


@given(
    st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=300),
    st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=60, unique=True),
)
def test_any_tokens_and_candidates_end_in_one_way(tokens: list[int], candidates: list[int]) -> None:
    asked = request(tokens=tokens, candidates=candidates)
    assert_settled(admit(asked.encode(), asked.id), asked.id)


def test_a_clock_behind_the_servers_gives_no_negative_waiting_time() -> None:
    asked = request()
    job = ADMISSION.admit(Entry(EntryKey("bulk", "1700000000000-0"), None, asked.encode(), 1), 1.6e12, 5.0)
    assert isinstance(job, InFlight)
    assert job.queue_ms == 0
    assert np.isnan(job.scores).all()
