"""What every engine demands of a batch."""

from __future__ import annotations

import numpy as np

from xuankan.errors import EngineError
from xuankan_worker.engines.base import EncoderInfo, EngineInfo, TokenBatch


def check_batch(batch: TokenBatch, info: EngineInfo, limits: EngineInfo | EncoderInfo | None = None) -> None:
    """Refuse a batch that the engine cannot score, or its encoder read.

    Args:
        batch: the batch.
        info: of the engine.
        limits: of what shall run it, if not of the cross-encoder.

    Raises:
        EngineError: what does not fit, and where; or there is no cross-encoder to run it.
    """
    limits = limits or info
    if not limits.buckets:
        raise EngineError(f"engine {info.name} has no cross-encoder: its release has only an encoder")
    ids = batch.input_ids
    if ids.ndim != 2 or not ids.size:
        raise EngineError(f"input_ids has shape {ids.shape}, not [rows, tokens]")
    rows, tokens = ids.shape
    if rows > limits.max_batch:
        raise EngineError(f"{rows} rows in a batch; engine {info.name} runs at most {limits.max_batch}")
    for name in ("input_ids", "lengths", "first_lengths"):
        if (found := getattr(batch, name).dtype) != np.int32:
            raise EngineError(f"{name} is {found}, not int32")
    for name in ("lengths", "first_lengths"):
        if (shape := getattr(batch, name).shape) != (rows,):
            raise EngineError(f"{name} has shape {shape}, not ({rows},) as input_ids has rows")
    longest = min(tokens, limits.buckets[-1])
    for name, low, high in (("lengths", 1, longest), ("first_lengths", 0, longest)):
        values = getattr(batch, name)
        if (bad := np.flatnonzero((values < low) | (values > high))).size:
            raise EngineError(f"row {bad[0]}: {name} is {values[bad[0]]}, not {low} to {high}")
    # One pass over all tokens, in every batch: as unsigned, what is below 0 is above the vocabulary too.
    if ids.view(np.uint32).max() >= info.vocabulary_size:
        row, column = np.argwhere((ids < 0) | (ids >= info.vocabulary_size))[0]
        raise EngineError(
            f"row {row}, position {column}: token {ids[row, column]} is not in the vocabulary of "
            f"{info.vocabulary_size}"
        )
