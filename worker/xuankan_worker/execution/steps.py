"""What a release does for a batch: makes its rows, and reads what its encoder said of them. Pure."""

from __future__ import annotations

import numpy as np

from xuankan.errors import EngineError
from xuankan_worker.engines.base import Encoded, TokenBatch
from xuankan_worker.execution.encoder_step import EncoderStep
from xuankan_worker.execution.evidence_rows import EvidenceSegment, manuscript_rows
from xuankan_worker.execution.rows import Segment
from xuankan_worker.execution.served_model import ServedModel
from xuankan_worker.in_flight import Considered, InFlight
from xuankan_worker.scheduling.batcher import Batch, Slice


def assemble(served: ServedModel, batch: Batch[InFlight]) -> TokenBatch:
    """The rows of a batch, in tokens."""
    requests = [part.request.request for part in batch.slices]
    if batch.kind == "encoder":
        return manuscript_rows(batch.bucket, [request.tokens for request in requests], served.template)
    if served.encoder_step is not None:
        assert served.encoder_step.rows is not None
        return served.encoder_step.rows.assemble(batch.bucket, [_evidence(part) for part in batch.slices])
    return served.profiles.assemble(
        batch.bucket,
        [
            Segment(part.request.request.tokens, part.request.request.candidates.take(part.rows))
            for part in batch.slices
        ],
    )


def consider(served: ServedModel, batch: Batch[InFlight], encoded: Encoded) -> list[Considered]:
    """What an encoder's batch found for each of its requests.

    Raises:
        EngineError: the engine gave arrays of other shapes, or papers or numbers that cannot be.
    """
    step, info = served.encoder_step, served.engine.info.encoder
    assert step is not None
    assert info is not None
    rows = batch.rows
    shapes = (encoded.logits.shape, encoded.neighbours.shape, encoded.nearness.shape)
    wanted = ((rows, info.journals), (rows, info.neighbours), (rows, info.neighbours))
    if shapes != wanted:
        raise EngineError(f"the encoder gave arrays of shapes {shapes} for {rows} rows, not {wanted}")
    check_encoded(encoded, step)
    return step.consider([part.request.request for part in batch.slices], encoded)


def check_encoded(encoded: Encoded, step: EncoderStep) -> None:
    """Refuse numbers that cannot be.

    Raises:
        EngineError: a paper is not in the corpus, or a number is not finite.
    """
    papers = encoded.neighbours
    if papers.min(initial=0) < 0 or papers.max(initial=0) >= len(step.corpus):
        raise EngineError(f"the encoder named papers {papers.min()} to {papers.max()} of {len(step.corpus)}")
    for values in (encoded.logits, encoded.nearness):
        if not (finite := np.isfinite(values).all(axis=1)).all():
            raise EngineError(f"row {np.argmin(finite)}: the encoder gave a number that is not finite")


def _evidence(part: Slice[InFlight]) -> EvidenceSegment:
    """The cross-encoder rows of a slice."""
    job = part.request
    assert job.considered is not None
    candidates = job.considered.rows.take(part.rows)
    request = job.request
    return EvidenceSegment(
        request.tokens, request.candidates.take(candidates), job.considered.evidence.take(candidates, axis=0)
    )
