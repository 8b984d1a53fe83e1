"""The wire format: what is encoded comes back; nothing that is decoded does worse than one clear error."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.support import vectors
from xuankan.errors import ProtocolError, UnsupportedVersion
from xuankan.protocol.keys import LANES
from xuankan.protocol.ranked import EvidencePaper, RankedJournal
from xuankan.protocol.wire import MAX_REQUEST_BYTES, STATUSES, Failure, Request, Result, Timings

_ids = st.from_regex(r"[A-Za-z0-9._:-]{1,128}", fullmatch=True)
_text = st.text(max_size=40)
_finite = st.floats(allow_nan=False, allow_infinity=False)
_finite32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
_times = st.integers(0, 2**53)
_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | _finite | _text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def _requests(draw: st.DrawFn) -> Request:
    candidates = draw(hnp.arrays(np.uint32, st.integers(1, 20), unique=True))
    return Request(
        id=draw(_ids),
        lane=draw(st.sampled_from(LANES)),
        fingerprint=draw(_text),
        catalogue=draw(_text),
        tokens=draw(hnp.arrays(np.int32, st.integers(1, 50))),
        candidates=candidates,
        first_stage=draw(
            hnp.arrays(
                np.float32,
                len(candidates),
                elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
            )
        ),
        top_k=draw(st.integers(1, 10_000)),
        enqueued_ms=draw(_times),
        deadline_ms=draw(st.none() | _times),
        reply=draw(st.none() | _ids),
        traceparent=draw(st.none() | _text),
        warnings=tuple(draw(st.lists(_text, max_size=4))),
        cited=draw(st.none() | hnp.arrays(np.uint32, len(candidates))),
    )


_ranked = st.builds(
    RankedJournal,
    rank=st.integers(1, 10_000),
    journal=_text,
    score=_finite,
    logit=_finite,
    cross_encoder=st.none() | _finite,
    first_stage=_finite,
    metadata=st.dictionaries(_text, _json, max_size=4),
    encoder=st.none() | _finite,
    nearness=st.none() | _finite,
    evidence=st.lists(
        st.builds(
            EvidencePaper,
            title=_text,
            year=st.integers(0, 9999),
            link=st.none() | st.sampled_from(["https://doi.org/10.1/x", "http://example.org/?a=b#c"]),
            nearness=_finite,
        ),
        max_size=8,
    ).map(tuple),
)
_results = st.builds(
    Result,
    id=_ids,
    status=st.sampled_from(STATUSES),
    release=_text,
    catalogue=_text,
    worker=_text,
    completed_ms=_finite,
    ranking=st.lists(_ranked, max_size=3).map(tuple),
    failure=st.none() | st.builds(Failure, code=_text, message=_text, field=st.none() | _text),
    scored=st.integers(0, 10_000),
    rows=st.integers(0, 10_000),
    fit=st.none() | st.floats(0, 1),
    deliveries=st.integers(0, 100),
    timings=st.builds(Timings, _finite, _finite, _finite, _finite),
    warnings=st.lists(_text, max_size=4).map(tuple),
    traceparent=st.none() | _text,
)


def _content(request: Request) -> dict[str, Any]:
    values = {field.name: getattr(request, field.name) for field in dataclasses.fields(request)}
    return {
        name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in values.items()
    }


@given(_requests())
def test_a_request_comes_back_as_it_was(request: Request) -> None:
    assert _content(Request.decode(request.encode())) == _content(request)


@given(_results)
def test_a_result_comes_back_as_it_was(result: Result) -> None:
    assert Result.decode(result.encode()) == result


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"link": "javascript:alert(1)"}, "link"),
        ({"link": "https://x.org/ onclick=y"}, "link"),
        ({"link": "https://x.org/" + "a" * 300}, "link"),
        ({"title": None}, "title"),
        ({"title": "a" * 301}, "title"),
        ({"year": "2016"}, "year"),
        ({"nearness": float("nan")}, "nearness"),
    ],
)
def test_malformed_evidence_is_refused_by_field(changes: dict[str, object], field: str) -> None:
    message: dict[str, Any] = msgpack.unpackb(bytes.fromhex(vectors.build()["results"][0]["hex"]))
    message["ranking"][0]["evidence"][1].update(changes)
    with pytest.raises(ProtocolError) as caught:
        Result.decode(msgpack.packb(message))
    assert caught.value.field == f"ranking[0].evidence[1].{field}"


def test_too_many_papers_and_an_impossible_fit_are_refused() -> None:
    message: dict[str, Any] = msgpack.unpackb(bytes.fromhex(vectors.build()["results"][0]["hex"]))
    with pytest.raises(ProtocolError, match=r"fit: must be a number from 0 to 1, not float 1\.5"):
        Result.decode(msgpack.packb(message | {"fit": 1.5}))
    message["ranking"][0]["evidence"] *= 5
    with pytest.raises(ProtocolError, match="a list of at most 8 items"):
        Result.decode(msgpack.packb(message))


def _refusal(kind: type[Request] | type[Result], data: bytes) -> ProtocolError | None:
    """The error, None if the message was fine. Any other exception ends the test."""
    try:
        kind.decode(data)
    except ProtocolError as error:
        return error
    return None


def _decode_or_refuse(data: bytes) -> None:
    for error in (_refusal(Request, data), _refusal(Result, data)):
        assert error is None or (error.field and error.field in str(error))


@given(st.binary(max_size=400))
def test_arbitrary_bytes_give_at_worst_one_clear_error(data: bytes) -> None:
    _decode_or_refuse(data)


@given(_json | st.dictionaries(_text, _json | st.binary(max_size=20), max_size=6))
def test_arbitrary_messages_give_at_worst_one_clear_error(message: object) -> None:
    _decode_or_refuse(msgpack.packb(message))


@given(_requests(), st.data())
def test_a_damaged_request_gives_at_worst_one_clear_error(request: Request, data: st.DataObject) -> None:
    damaged = bytearray(request.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    _decode_or_refuse(bytes(damaged))


@given(_requests(), st.sampled_from([field.name for field in dataclasses.fields(Request)]), _json)
def test_a_request_with_one_field_replaced_gives_at_worst_an_error_that_names_it(
    request: Request, field: str, value: object
) -> None:
    message: dict[str, Any] = msgpack.unpackb(request.encode())
    message[field] = value
    error = _refusal(Request, msgpack.packb(message))
    # Candidates and what is said of each must agree in number, so either may be named.
    assert (
        error is None
        or error.field == field
        or (field == "candidates" and error.field in ("first_stage", "cited"))
    )


@pytest.mark.parametrize(
    "data",
    [
        b"\x81" * 5000,  # maps as keys of maps
        b"\x91" * 200_000,  # arrays in arrays
        b"\xdd\xff\xff\xff\xff",  # an array that claims four billion items
        b"\xc7\x0c\xff" + b"\xff" * 12,  # a timestamp out of range
    ],
)
def test_hostile_msgpack_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="message"):
        Request.decode(data)


def test_a_request_that_is_too_large_is_refused_unread() -> None:
    with pytest.raises(ProtocolError, match="bytes, but at most 262144 are read"):
        Request.decode(b"\x00" * (MAX_REQUEST_BYTES + 1))


def test_unknown_fields_are_ignored() -> None:
    known = vectors.build()["requests"][0]
    message: dict[str, Any] = msgpack.unpackb(bytes.fromhex(known["hex"]))
    later = Request.decode(msgpack.packb(message | {"colour": "blue"}))
    assert later.encode().hex() == known["hex"]


def test_another_version_is_told_apart_from_garbage() -> None:
    with pytest.raises(UnsupportedVersion, match="protocol version 2; this build speaks version 1"):
        Request.decode(msgpack.packb({"v": 2}))


def test_the_vectors_in_the_documentation_are_current() -> None:
    written = json.loads(vectors.PATH.read_text())
    assert written == json.loads(json.dumps(vectors.build())), "run: python -m tests.support.vectors"


@pytest.mark.parametrize("vector", vectors.build()["not_requests"], ids=lambda one: one["name"])
def test_what_is_no_request_is_refused_by_field(vector: dict[str, str]) -> None:
    with pytest.raises(ProtocolError) as caught:
        Request.decode(bytes.fromhex(vector["hex"]))
    assert caught.value.field == vector["field"]
