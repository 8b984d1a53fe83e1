"""The protocol's test vectors: `python -m tests.support.vectors` writes docs/vectors/vectors.json."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from xuankan.protocol.heartbeat import GpuLoad, WorkerStatus
from xuankan.protocol.ranked import EvidencePaper, RankedJournal
from xuankan.protocol.wire import Failure, Request, Result, Timings

PATH = Path(__file__).parents[2] / "docs" / "vectors" / "vectors.json"

_REQUESTS = {
    "every field": Request(
        id="7d4b1c9e-1f2a-4c57-9a55-0b8f3b1f2c11",
        lane="interactive",
        fingerprint="0123456789abcdef",
        catalogue="fedcba9876543210",
        tokens=np.array([7976, 11265, 30521], dtype=np.int32),
        candidates=np.array([0, 258, 618], dtype=np.uint32),
        first_stage=np.array([-0.5, -1.25, -7.0], dtype=np.float32),
        top_k=3,
        enqueued_ms=1_790_000_000_000,
        deadline_ms=1_790_000_020_000,
        reply="c0ffee",
        traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        warnings=("no abstract: the ranking rests on the title alone",),
        cited=np.array([7, 0, 1], dtype=np.uint32),
    ),
    "only what must be there": Request(
        id="a",
        lane="bulk",
        fingerprint="0123456789abcdef",
        catalogue="fedcba9876543210",
        tokens=np.array([1], dtype=np.int32),
        candidates=np.array([5], dtype=np.uint32),
        first_stage=np.array([0.0], dtype=np.float32),
        top_k=1,
        enqueued_ms=0,
    ),
}
_RESULTS = {
    "a ranking": Result(
        id="7d4b1c9e-1f2a-4c57-9a55-0b8f3b1f2c11",
        status="ok",
        release="89abcdef01234567",
        catalogue="fedcba9876543210",
        worker="host-1",
        completed_ms=1_790_000_001_234.5,
        ranking=(
            RankedJournal(
                *(1, "annals-of-physics", 0.75, -0.25, 3.0, -0.5),
                {"title": "Annals of Physics", "apc_usd": None},
                encoder=-0.5,
                nearness=0.625,
                evidence=(
                    EvidencePaper("Waves in plasmas", 2016, "https://doi.org/10.1000/1", 0.75),
                    EvidencePaper("Électrons froids", 2012, None, 0.5),
                ),
            ),
            # Imported after the encoder was trained, and out of play before the cross-encoder.
            RankedJournal(
                *(2, "物理学报", 0.25, -1.5, None, -1.25),
                {"title": "物理学报", "apc_usd": 1200.0},
                nearness=0.25,
            ),
        ),
        scored=3,
        rows=2,
        fit=0.875,
        timings=Timings(1.5, 0.25, 812.0, 0.125),
        warnings=("no abstract: the ranking rests on the title alone",),
        traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ),
    "a refusal": Result(
        id="a",
        status="invalid",
        release="89abcdef01234567",
        catalogue="fedcba9876543210",
        worker="host-1",
        completed_ms=1_790_000_000_001.0,
        failure=Failure("unknown_journal", "journal 700 is not in the catalogue", "candidates"),
    ),
}


_WORKER = WorkerStatus(
    name="host-1:0",
    state="running",
    host="host-1",
    pid=4711,
    incarnation="c0ffee",
    up_s=12.5,
    died_young=1,
    version="0.2.0",
    release="89abcdef01234567",
    template="0123456789abcdef",
    catalogue="fedcba9876543210",
    engine="tensorrt",
    device="NVIDIA H100 80GB HBM3",
    contexts=2,
    max_batch=16,
    started_ms=1_790_000_000_000.5,
    in_flight=12,
    waiting_rows=340,
    requests_done=1000,
    rows_done=100_000,
    rows_per_s=5800.25,
    capacity_rows_per_s=5925.5,
    batches_done=6400,
    tokens_done=25_000_000,
    padding_tokens=1_000_000,
    busy_contexts=2,
    gpu=GpuLoad(0, "NVIDIA H100 80GB HBM3", 0.99, 12_000_000_000, 85_000_000_000, 698.5, 61.0, 1.755e9),
)
_HEARTBEATS = {
    "every field": _WORKER.encode().decode(),
    "on the CPU": dataclasses.replace(_WORKER, engine="onnx", device="a processor", gpu=None)
    .encode()
    .decode(),
    "a newer version": json.dumps(
        {"name": "host-1:0", "state": "paused", "mood": "good", "gpu": {"fans": 8}}
    ),
    "numbers that make no sense": '{"rows_per_s": NaN, "rows_done": -1, "pid": true, "contexts": "two"}',
    "not an object": "[1, 2]",
    "not JSON": "alive",
}
"""Texts; the last ones show what a reader makes of what it does not understand."""


def _broken() -> dict[str, tuple[bytes, str]]:
    """Bytes that are no request, and the field that a decoder must name."""
    good: dict[str, Any] = msgpack.unpackb(_REQUESTS["every field"].encode())

    def changed(**changes: object) -> bytes:
        return msgpack.packb(good | changes)

    return {
        "nothing": (b"", "message"),
        "not msgpack": (b"\xc1", "message"),
        "cut short": (_REQUESTS["every field"].encode()[:-1], "message"),
        "more after the end": (_REQUESTS["every field"].encode() + b"\x00", "message"),
        "an array": (msgpack.packb([1]), "message"),
        "a future version": (changed(v=2), "v"),
        "no id": (msgpack.packb({key: good[key] for key in good if key != "id"}), "id"),
        "an id with a space": (changed(id="a b"), "id"),
        "a lane that is none": (changed(lane="express"), "lane"),
        "tokens as an array": (changed(tokens=[1, 2]), "tokens"),
        "tokens of three bytes": (changed(tokens=b"\x01\x02\x03"), "tokens"),
        "no tokens": (changed(tokens=b""), "tokens"),
        "a candidate twice": (changed(candidates=b"\x01\x00\x00\x00" * 3), "candidates"),
        "too few first-stage scores": (changed(first_stage=b"\x00" * 8), "first_stage"),
        "a first-stage score that is no number": (
            changed(first_stage=b"\x00\x00\xc0\x7f" * 3),
            "first_stage",
        ),
        "top_k of 0": (changed(top_k=0), "top_k"),
        "a deadline before 1970": (changed(deadline_ms=-1), "deadline_ms"),
    }


def build() -> dict[str, Any]:
    """The content of vectors.json."""
    return {
        "requests": [
            {
                "name": name,
                "hex": request.encode().hex(),
                "content": {
                    field.name: _plain(getattr(request, field.name)) for field in dataclasses.fields(request)
                },
            }
            for name, request in _REQUESTS.items()
        ],
        "results": [
            {"name": name, "hex": result.encode().hex(), "content": dataclasses.asdict(result)}
            for name, result in _RESULTS.items()
        ],
        "heartbeats": [
            {
                "name": name,
                "worker": "host-1:0",
                "text": text,
                "content": dataclasses.asdict(WorkerStatus.decode(text.encode(), "host-1:0")),
            }
            for name, text in _HEARTBEATS.items()
        ],
        "not_requests": [
            {"name": name, "hex": data.hex(), "field": field} for name, (data, field) in _broken().items()
        ],
    }


def _plain(value: object) -> object:
    return value.tolist() if isinstance(value, np.ndarray) else value


if __name__ == "__main__":
    PATH.write_text(json.dumps(build(), indent=1, ensure_ascii=False) + "\n")
