"""The manuscripts of a benchmark as an encoder's batches, longest first."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from xuankan_worker.bench.gpu.child import ChildTask
from xuankan_worker.bench.gpu.pairs import Pairs
from xuankan_worker.engines import EncoderInfo, TokenBatch
from xuankan_worker.execution.evidence_rows import manuscript_rows


class EncoderBatch(NamedTuple):
    """A batch, its bucket, and the tokens that are run for it."""

    tokens: TokenBatch
    bucket: int
    padded_tokens: int


def encoder_batches(job: ChildTask, info: EncoderInfo) -> list[EncoderBatch]:
    """Cut a job's manuscripts, longest first, into full batches."""
    template = job.template()
    manuscripts = sorted(Pairs.load(Path(job.pairs)).tokens, key=len, reverse=True)
    batches: list[EncoderBatch] = []
    start = 0
    while start < len(manuscripts):
        bucket = next(bucket for bucket in info.buckets if bucket >= len(manuscripts[start]) + 2)
        shapes = [rows for tokens, rows in info.shapes if tokens == bucket]
        part = manuscripts[start : start + min(info.max_batch, max(shapes, default=info.max_batch))]
        rows = manuscript_rows(bucket, part, template)
        padded = int(np.sum(rows.lengths))
        if shapes:
            padded = bucket * min(count for count in shapes if count >= len(part))
        batches.append(EncoderBatch(rows, bucket, padded))
        start += len(part)
    return batches
