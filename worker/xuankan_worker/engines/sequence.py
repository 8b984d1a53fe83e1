"""A batch as graphs for GPUs take it: sequence-major, and with the place of every token.

A place is a row of the graph's table of position and segment embeddings: 2 · position + segment. The host
computes it, as on a GPU the few operations would cost more than all the additions they save.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xuankan_worker.engines.base import TokenBatch

SEQUENCE_INPUTS = ("tokens", "places", "lengths")
"""Inputs of a graph for GPUs: int32 [S, B], int32 [S, B] and int32 [B]."""


def write_sequence(
    batch: TokenBatch, tokens: NDArray[np.int32], places: NDArray[np.int32], lengths: NDArray[np.int32]
) -> None:
    """Write a batch into given arrays, padded to their size.

    Args:
        batch: B rows, the longest of at most S tokens.
        tokens: int32 [S, R], R >= B; token `s` of row `r` goes to [s, r], and 0 where there is none.
        places: int32 [S, R], 2 · s + segment.
        lengths: int32 [R]; rows that the batch does not have are one token long.
    """
    rows, width = batch.input_ids.shape
    width = min(width, len(tokens))
    tokens[:width, :rows] = batch.input_ids[:, :width].T
    tokens[width:, :rows] = 0
    tokens[:, rows:] = 0
    lengths[:rows] = batch.lengths
    lengths[rows:] = 1
    positions = np.arange(len(tokens), dtype=np.int32)[:, None]
    np.greater_equal(positions, batch.first_lengths, out=places[:, :rows], casting="unsafe")
    places[:, rows:] = 0
    places += 2 * positions


def sequence_feed(batch: TokenBatch) -> dict[str, NDArray[np.int32]]:
    """The inputs of a graph for GPUs at the batch's own size, by name."""
    rows, tokens = batch.input_ids.shape
    both = np.empty((2, tokens, rows), np.int32)
    lengths = np.empty(rows, np.int32)
    write_sequence(batch, both[0], both[1], lengths)
    return dict(zip(SEQUENCE_INPUTS, (both[0], both[1], lengths), strict=True))
