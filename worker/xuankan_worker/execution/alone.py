"""A request from its tokens to its ranking on one slot, without queue and scheduler: to measure releases."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xuankan.errors import ReleaseError
from xuankan.protocol.ranked import RankedJournal
from xuankan.protocol.wire import Request
from xuankan_worker.engines import Encoded, EncoderInfo, EngineInfo, Slot, TokenBatch
from xuankan_worker.execution.evidence_rows import EvidenceSegment, manuscript_rows
from xuankan_worker.execution.ranking import rank
from xuankan_worker.execution.rows import Segment
from xuankan_worker.execution.served_model import ServedModel
from xuankan_worker.execution.steps import check_encoded
from xuankan_worker.in_flight import Considered


class Ranked(NamedTuple):
    """A ranking.

    Attributes:
        journals: best first.
        rows: of the cross-encoder that were run for it.
        fit: as in `xuankan.protocol.wire.Result`.
    """

    journals: tuple[RankedJournal, ...]
    rows: int
    fit: float | None


def rank_alone(served: ServedModel, slot: Slot, request: Request) -> Ranked:
    """Rank a request as a worker would.

    Raises:
        ReleaseError: a row is longer than the engine runs.
        EngineError: the engine fails.
    """
    tokens, candidates, step = request.tokens, request.candidates, served.encoder_step
    considered: Considered | None = None
    if step is None:
        lengths = served.profiles.row_lengths(len(tokens), candidates)

        def assemble(bucket: int, part: NDArray[np.intp]) -> TokenBatch:
            return served.profiles.assemble(bucket, [Segment(tokens, candidates[part])])
    else:
        found = considered = step.consider([request], encode_alone(served, slot, tokens))[0]
        lengths = found.lengths

        def assemble(bucket: int, part: NDArray[np.intp]) -> TokenBatch:
            rows = found.rows[part]
            segment = EvidenceSegment(tokens, candidates[rows], found.evidence[rows])
            assert step.rows is not None
            return step.rows.assemble(bucket, [segment])

    scores = _score(served.engine.info, slot, lengths, assemble)
    journals = rank(request, scores, served, considered)
    return Ranked(journals, len(scores), None if considered is None else considered.fit)


def encode_alone(served: ServedModel, slot: Slot, tokens: NDArray[np.int32]) -> Encoded:
    """What the encoder says of one manuscript, given in tokens.

    Raises:
        ReleaseError: it is longer than the encoder reads.
        EngineError: the engine fails.
    """
    encoder = served.engine.info.encoder
    assert encoder is not None
    assert served.encoder_step is not None
    bucket = _bucket(encoder, len(tokens) + 2)
    encoded = slot.encode(manuscript_rows(bucket, [tokens], served.template))
    check_encoded(encoded, served.encoder_step)
    return encoded


def _score(
    info: EngineInfo,
    slot: Slot,
    lengths: NDArray[np.int32],
    assemble: Callable[[int, NDArray[np.intp]], TokenBatch],
) -> NDArray[np.float32]:
    """Scores of rows, float32 [R], in batches of like length."""
    scores = np.empty(len(lengths), np.float32)
    longest_first, start = np.argsort(-lengths, kind="stable"), 0
    while start < len(longest_first):
        bucket = _bucket(info, int(lengths[longest_first[start]]))
        part = longest_first[start : start + info.max_rows(bucket)]
        scores[part] = slot.score(assemble(bucket, part))
        start += len(part)
    return scores


def _bucket(info: EngineInfo | EncoderInfo, tokens: int) -> int:
    if tokens > info.buckets[-1]:
        raise ReleaseError(f"a row has {tokens} tokens; the engine runs at most {info.buckets[-1]}")
    return next(bucket for bucket in info.buckets if bucket >= tokens)
