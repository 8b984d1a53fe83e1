"""The heartbeat: what a worker says is what everybody reads, and whoever has one is counted."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import vectors
from xuankan.protocol.heartbeat import GpuLoad, WorkerStatus

_json = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
_names = st.sampled_from([field.name for field in (*fields(WorkerStatus), *fields(GpuLoad))])
_numbers = st.integers(0, 2**53)
_amounts = st.floats(0, 2.0**53)


@given(
    st.builds(
        WorkerStatus,
        name=st.text(min_size=1, max_size=20),
        pid=_numbers,
        waiting_rows=_numbers,
        rows_per_s=_amounts,
        gpu=st.none()
        | st.builds(
            GpuLoad, _numbers, st.text(max_size=9), st.none() | _amounts, _numbers, _numbers, *[_amounts] * 3
        ),
    )
)
def test_a_heartbeat_comes_back_as_it_was(status: WorkerStatus) -> None:
    assert WorkerStatus.decode(status.encode(), "another name") == status


@given(st.dictionaries(_names, _json | st.dictionaries(_names, _json)) | _json | st.binary(max_size=20))
def test_any_content_is_a_live_worker_with_sensible_numbers(content: object) -> None:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    status = WorkerStatus.decode(data, "worker-1")
    assert status.name
    for field in fields(WorkerStatus):
        value: Any = getattr(status, field.name)
        if field.name != "gpu":
            assert type(value) is type(field.default)
            assert isinstance(value, str) or (value >= 0 and math.isfinite(value))
    assert WorkerStatus.decode(status.encode()) == status


def test_older_and_newer_versions_are_read() -> None:
    one = WorkerStatus("worker-1", batches_done=7, gpu=GpuLoad(0, "a GPU", 0.5, 1, 2, None, None, None))
    newer = json.loads(one.encode())
    newer |= {"mood": "good", "gpu": newer["gpu"] | {"fans": 8}}
    assert WorkerStatus.decode(json.dumps(newer).encode()) == one
    older = {name: value for name, value in newer.items() if name not in ("gpu", "batches_done")}
    assert WorkerStatus.decode(json.dumps(older).encode()) == WorkerStatus("worker-1")


@pytest.mark.parametrize("vector", vectors.build()["heartbeats"], ids=lambda one: one["name"])
def test_the_vectors_are_read_as_they_say(vector: dict[str, Any]) -> None:
    content: dict[str, Any] = dict(vector["content"])
    if content["gpu"] is not None:
        content["gpu"] = GpuLoad(**content["gpu"])
    assert WorkerStatus.decode(vector["text"].encode(), vector["worker"]) == WorkerStatus(**content)
