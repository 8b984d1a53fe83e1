"""Wire format, version 1: requests and results as msgpack maps.

docs/protocol.md describes it for other languages.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, Literal, cast, get_args

import msgpack
import numpy as np
from numpy.typing import NDArray

from xuankan.errors import InputError, ProtocolError, UnsupportedVersion
from xuankan.protocol.fields import MAX_ITEMS, Fields, shown, unpack
from xuankan.protocol.keys import LANES, Lane
from xuankan.protocol.ranked import RankedJournal

VERSION: Final = 1
MAX_REQUEST_BYTES: Final = 256 * 1024
"""A request of 512 tokens and 10,000 candidates takes 83 KB; larger entries are refused unread."""
MAX_RESULT_BYTES: Final = 4 * 1024 * 1024
MAX_TOKENS: Final = 4096
MAX_CANDIDATES: Final = MAX_ITEMS
MAX_TIME_MS: Final = 2**53
MAX_TEXT: Final = 2_000
MAX_WARNINGS: Final = 32

Status = Literal["ok", "invalid", "expired", "cancelled", "failed"]
STATUSES: Final[tuple[Status, ...]] = get_args(Status)

_INT32, _UINT32, _FLOAT32 = np.dtype(np.int32), np.dtype(np.uint32), np.dtype(np.float32)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_REQUEST_ID_RULE = "1 to 128 letters, digits, '.', '_', ':' or '-'"


def check_request_id(request_id: str) -> str:
    """Return `request_id` if it can name a request.

    Raises:
        InputError: it is not 1 to 128 letters, digits, `.`, `_`, `:` or `-`.
    """
    if not _REQUEST_ID.fullmatch(request_id):
        raise InputError("request id", f"{request_id!r} is not {_REQUEST_ID_RULE}")
    return request_id


def is_address(text: str) -> bool:
    """Whether `text` can be a reply address: the same rule as for request ids."""
    return _REQUEST_ID.fullmatch(text) is not None


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """One manuscript and the journals to score for it.

    Attributes:
        id: chosen by the producer; the same id twice gives one ranking.
        lane: `interactive` or `bulk`.
        fingerprint: of the tokenizer and template that made `tokens`.
        catalogue: version of the catalogue that `candidates` index.
        tokens: int32 [T], the manuscript without special tokens.
        candidates: uint32 [N], distinct journal indices into the catalogue.
        first_stage: float32 [N], the first stage's score of each candidate (a log-probability).
        top_k: how many journals to return.
        deadline_ms: Unix time after which the ranking is of no use.
        reply: address of the producer that waits, see `Keys.reply`; None if nobody waits.
        traceparent: W3C trace context.
        enqueued_ms: Unix time on the producer's clock.
        warnings: what the producer noticed about the manuscript; repeated in the result.
        cited: uint32 [N], how many of the manuscript's references are to each candidate; None if nothing is
            known of its references.
    """

    id: str
    lane: Lane
    fingerprint: str
    catalogue: str
    tokens: NDArray[np.int32] = field(repr=False)  # the manuscript; reprs reach logs and reports of crashes
    candidates: NDArray[np.uint32]
    first_stage: NDArray[np.float32]
    top_k: int
    enqueued_ms: int
    deadline_ms: int | None = None
    reply: str | None = None
    traceparent: str | None = None
    warnings: tuple[str, ...] = ()
    cited: NDArray[np.uint32] | None = None

    def encode(self) -> bytes:
        """Encode as one msgpack map."""
        return _pack(
            {
                "v": VERSION,
                "id": self.id,
                "lane": self.lane,
                "fingerprint": self.fingerprint,
                "catalogue": self.catalogue,
                "tokens": self.tokens.astype("<i4", copy=False).tobytes(),
                "candidates": self.candidates.astype("<u4", copy=False).tobytes(),
                "first_stage": self.first_stage.astype("<f4", copy=False).tobytes(),
                "top_k": self.top_k,
                "enqueued_ms": self.enqueued_ms,
                "deadline_ms": self.deadline_ms,
                "reply": self.reply,
                "traceparent": self.traceparent,
                "warnings": list(self.warnings),
                "cited": None if self.cited is None else self.cited.astype("<u4", copy=False).tobytes(),
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> Request:
        """Decode and check everything that can be checked without a catalogue or a model.

        Raises:
            UnsupportedVersion: a request of another protocol version.
            ProtocolError: anything else that is not a request; its `field` says where.
        """
        fields = _versioned(data, MAX_REQUEST_BYTES)
        tokens = fields.array("tokens", _INT32, MAX_TOKENS)
        if not len(tokens):
            raise ProtocolError("tokens", "empty; a manuscript has at least one token")
        candidates = fields.array("candidates", _UINT32, MAX_CANDIDATES)
        if not len(candidates):
            raise ProtocolError("candidates", "empty; name at least one journal")
        ordered = np.sort(
            candidates
        )  # `np.unique` takes three times as long, and its first call half a second
        if (ordered[1:] == ordered[:-1]).any():
            raise ProtocolError("candidates", "the same journal is named twice")
        first_stage = fields.array("first_stage", _FLOAT32, MAX_CANDIDATES)
        if len(first_stage) != len(candidates) or not np.isfinite(first_stage).all():
            raise ProtocolError("first_stage", f"must be {len(candidates)} finite numbers, one per candidate")
        cited = fields.optional_array("cited", _UINT32, MAX_CANDIDATES)
        if cited is not None and len(cited) != len(candidates):
            raise ProtocolError("cited", f"must be {len(candidates)} numbers, one per candidate")
        return cls(
            id=_request_id(fields),
            lane=cast(Lane, _one_of(fields, "lane", LANES)),
            fingerprint=fields.text("fingerprint", 128),
            catalogue=fields.text("catalogue", 128),
            tokens=tokens,
            candidates=candidates,
            first_stage=first_stage,
            top_k=fields.integer("top_k", 1, MAX_CANDIDATES),
            enqueued_ms=fields.integer("enqueued_ms", 0, MAX_TIME_MS),
            deadline_ms=fields.optional_integer("deadline_ms", 0, MAX_TIME_MS),
            reply=_reply(fields),
            traceparent=fields.optional_text("traceparent", 128),
            warnings=fields.texts("warnings", MAX_WARNINGS, MAX_TEXT),
            cited=cited,
        )


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a request ended without a ranking: a stable `code`, a sentence, and the offending field if any."""

    code: str
    message: str
    field: str | None = None


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the worker's time went, in milliseconds; the parts follow each other.

    Attributes:
        queue_ms: from the server's receipt of the request to the worker's reading it.
        batch_ms: from there to the start of its first batch.
        engine_ms: from there to the end of its last batch.
        rank_ms: from there to the encoded ranking. The commit comes after it: `RankingTimings` adds it.
    """

    queue_ms: float = 0.0
    batch_ms: float = 0.0
    engine_ms: float = 0.0
    rank_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Result:
    """How a request ended. Exactly one is ever visible for a request.

    Attributes:
        id: the request's.
        status: `ok`, or why there is no ranking.
        ranking: best first; empty unless `ok`.
        failure: set unless `ok`.
        release: fingerprint of the release that scored it, or of the worker's release that refused it.
        catalogue: version of the catalogue that the metadata comes from.
        scored: candidates that were ranked.
        rows: rows of the cross-encoder that were run for that.
        fit: how probable it is that the catalogue covers the manuscript's field at all; below 0.5 few of its
            journals fit, whatever their order. None if the release has no opinion.
        deliveries: how often the request was handed to a worker, 1 if nothing went wrong.
        worker: name of the worker.
        completed_ms: Unix time, on the server's clock, at which the ranking was ready to commit.
        timings: where the time went.
        warnings: what the producer and the worker noticed.
        traceparent: the request's.
    """

    id: str
    status: Status
    release: str
    catalogue: str
    worker: str
    completed_ms: float
    ranking: tuple[RankedJournal, ...] = ()
    failure: Failure | None = None
    scored: int = 0
    rows: int = 0
    fit: float | None = None
    deliveries: int = 1
    timings: Timings = field(default_factory=Timings)
    warnings: tuple[str, ...] = ()
    traceparent: str | None = None

    def encode(self) -> bytes:
        """Encode as one msgpack map."""
        failure = self.failure
        return _pack(
            {
                "v": VERSION,
                "id": self.id,
                "status": self.status,
                "release": self.release,
                "catalogue": self.catalogue,
                "worker": self.worker,
                "completed_ms": self.completed_ms,
                "ranking": [place.plain() for place in self.ranking],
                "failure": failure
                and {"code": failure.code, "message": failure.message, "field": failure.field},
                "scored": self.scored,
                "rows": self.rows,
                "fit": self.fit,
                "deliveries": self.deliveries,
                "timings": {
                    "queue_ms": self.timings.queue_ms,
                    "batch_ms": self.timings.batch_ms,
                    "engine_ms": self.timings.engine_ms,
                    "rank_ms": self.timings.rank_ms,
                },
                "warnings": list(self.warnings),
                "traceparent": self.traceparent,
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> Result:
        """Decode a result.

        Raises:
            UnsupportedVersion: a result of another protocol version.
            ProtocolError: anything else that is not a result.
        """
        fields = _versioned(data, MAX_RESULT_BYTES)
        failure = fields.optional_mapping("failure")
        timings = Fields(fields.mapping("timings"), "timings.")
        return cls(
            id=_request_id(fields),
            status=cast(Status, _one_of(fields, "status", STATUSES)),
            release=fields.text("release", 128),
            catalogue=fields.text("catalogue", 128),
            worker=fields.text("worker", 256),
            completed_ms=fields.number("completed_ms"),
            ranking=tuple(
                RankedJournal.read(item, f"ranking[{i}]")
                for i, item in enumerate(fields.items("ranking", MAX_CANDIDATES))
            ),
            failure=None if failure is None else _failure(Fields(failure, "failure.")),
            scored=fields.integer("scored", 0, MAX_CANDIDATES),
            rows=fields.integer("rows", 0, MAX_CANDIDATES),
            fit=fields.optional_number("fit", 0.0, 1.0),
            deliveries=fields.integer("deliveries", 0, 2**31),
            timings=Timings(
                queue_ms=timings.number("queue_ms"),
                batch_ms=timings.number("batch_ms"),
                engine_ms=timings.number("engine_ms"),
                rank_ms=timings.number("rank_ms"),
            ),
            warnings=fields.texts("warnings", 2 * MAX_WARNINGS, MAX_TEXT),
            traceparent=fields.optional_text("traceparent", 128),
        )


def _failure(fields: Fields) -> Failure:
    return Failure(
        code=fields.text("code", 64),
        message=fields.text("message", MAX_TEXT),
        field=fields.optional_text("field", 128),
    )


def _versioned(data: bytes, max_bytes: int) -> Fields:
    fields = Fields(unpack(data, max_bytes))
    version = fields.integer("v", 0, 2**31)
    if version != VERSION:
        raise UnsupportedVersion("v", f"protocol version {version}; this build speaks version {VERSION}")
    return fields


def _request_id(fields: Fields) -> str:
    request_id = fields.text("id", 128)
    if not _REQUEST_ID.fullmatch(request_id):
        raise ProtocolError("id", f"{shown(request_id)} is not {_REQUEST_ID_RULE}")
    return request_id


def _reply(fields: Fields) -> str | None:
    address = fields.optional_text("reply", 128)
    if address is not None and not is_address(address):
        raise ProtocolError("reply", f"{shown(address)} is not {_REQUEST_ID_RULE}")
    return address


def _one_of(fields: Fields, name: str, values: tuple[str, ...]) -> str:
    value = fields.text(name, 64)
    if value not in values:
        raise ProtocolError(name, f"must be one of {', '.join(values)}, not {shown(value)}")
    return value


def _pack(message: dict[str, object]) -> bytes:
    return msgpack.packb(message, use_bin_type=True)
