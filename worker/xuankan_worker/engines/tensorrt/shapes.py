"""Which shapes an engine is built for: pure, no library, no GPU.

A shape is a padded length (bucket) and a number of rows. TensorRT picks its fastest kernels for shapes that
it knows exactly, so every shape becomes an optimization profile of its own with min = opt = max, and a batch
is padded up to one of them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xuankan.errors import InputError

MAX_BATCH = 16
MAX_TOKENS = 8192
"""Rows, and padded tokens, of one batch at most, unless told otherwise; the worker's own limits."""
ALIGNMENT = 8
"""Matrix kernels want lengths that are multiples of this; the longest bucket is rounded up to one."""
_SHORT, _SHORT_STEP, _STEP = 192, 64, 16
"""Default buckets: few up to `_SHORT` tokens, where few pairs are, then one every `_STEP`: rows of some 360
tokens are padded by 2 %. Each costs seconds to compile, once for each kind of GPU."""
_ROW_STEP = 8
"""Rows, if the tokens allow fewer than `max_batch`, come in multiples of it."""
_MOST = 128
"""Shapes of one plan: each costs seconds to build and to warm, and device memory."""
_PART = re.compile(r"(\d{1,6})(?:x(\d{1,6}))?")


class Shape(NamedTuple):
    """A batch as the engine runs it: `bucket` padded tokens a row, `rows` rows."""

    bucket: int
    rows: int

    @property
    def tokens(self) -> int:
        """Padded tokens of the batch."""
        return self.bucket * self.rows


def default_shapes(
    max_length: int, max_batch: int = MAX_BATCH, max_tokens: int = MAX_TOKENS
) -> tuple[Shape, ...]:
    """Shapes for every bucket, ascending; the last bucket holds rows of `max_length` tokens.

    A bucket whose batches may be twice `MAX_BATCH` or larger gets a shape of `MAX_BATCH` rows too: the large
    one is faster while much waits, the small one wastes less on what one manuscript leaves over.

    Args:
        max_length: tokens of the longest row.
        max_batch: rows of a batch at most.
        max_tokens: padded tokens of a batch at most; a single row is always allowed.
    """
    longest = _aligned(max_length)
    short = range(_SHORT_STEP, min(_SHORT, longest - 1) + 1, _SHORT_STEP)
    buckets = [*short, *range(_SHORT + _STEP, longest, _STEP), longest]
    return tuple(shape for bucket in buckets for shape in _shapes(bucket, max_batch, max_tokens))


def parse_shapes(
    text: str, max_length: int, max_batch: int = MAX_BATCH, max_tokens: int = MAX_TOKENS
) -> tuple[Shape, ...]:
    """Read shapes from `128,256,384` or `256x4,256x16,512x11`, buckets with or without their rows.

    Args:
        text: what was written; a bucket without rows gets the default's shapes.
        max_length: tokens of the longest row, which the longest bucket must hold.
        max_batch: rows of a batch at most.
        max_tokens: padded tokens of a batch at most.

    Raises:
        InputError: the text cannot be read, or a shape is outside the limits; the message says which and why.
    """
    longest = _aligned(max_length)
    shapes: set[Shape] = set()
    for part in text.split(","):
        if not (match := _PART.fullmatch(part.strip())):
            raise _refusal(
                f"{part.strip()!r} is not a bucket: write tokens, or tokens x rows, such as 256 or 256x16"
            )
        bucket = int(match[1])
        if not 1 <= bucket <= longest:
            raise _refusal(f"{bucket} tokens; rows of this release have 1 to {max_length}")
        if not match[2]:
            shapes.update(_shapes(bucket, max_batch, max_tokens))
            continue
        rows = int(match[2])
        if not 1 <= rows <= max_batch:
            raise _refusal(f"{part.strip()}: {rows} rows; a batch has 1 to {max_batch} (--max-batch)")
        if rows > 1 and rows * bucket > max_tokens:
            raise _refusal(
                f"{part.strip()}: {rows * bucket} tokens; a batch has at most {max_tokens}, "
                f"that is {max(1, max_tokens // bucket)} rows of {bucket}"
            )
        shapes.add(Shape(bucket, rows))
    if (last := max(shapes).bucket) < max_length:
        raise _refusal(f"the longest is {last}, but rows have up to {max_length} tokens: add {longest}")
    if len(shapes) > _MOST:
        raise _refusal(f"{len(shapes)} shapes; a plan holds at most {_MOST}")
    return tuple(sorted(shapes))


def choose_buckets(
    counts: Sequence[int] | NDArray[np.integer], buckets: int, step: int = ALIGNMENT
) -> tuple[tuple[int, ...], float]:
    """The buckets that pad the least, by dynamic programming over the multiples of `step`.

    Args:
        counts: [L + 1], how many rows have 0, 1, … L tokens; L is the longest row that can come.
        buckets: how many to choose, at least 1; fewer are returned if more would not pad less.
        step: buckets are multiples of it.

    Returns:
        Ascending buckets, the last at least L, and the share of padded tokens that are padding, 0 to 1.
    """
    rows = np.asarray(counts, dtype=np.float64)
    edges = np.arange(0, _aligned(len(rows) - 1, step) + 1, step)
    at = np.minimum(edges + 1, len(rows))  # rows of at most edge tokens are counts[:at]
    below = np.concatenate([[0.0], np.cumsum(rows)])[at]
    tokens = float(rows @ np.arange(len(rows)))
    # padded[i, j]: tokens of the rows in (edges[i], edges[j]] when padded to edges[j]; row 0 joins the first.
    below[0] = 0.0
    padded = np.where(
        np.tri(len(edges), dtype=bool), np.inf, (below[None, :] - below[:, None]) * edges[None, :]
    )
    best, came_from = padded[0], [np.zeros(len(edges), np.intp)]
    totals = [best[-1]]
    for _ in range(1, min(buckets, len(edges) - 1)):
        through = best[:, None] + padded
        came_from.append(through.argmin(axis=0))
        best = through.min(axis=0)
        totals.append(best[-1])
    count = int(np.argmin(totals))
    chosen, edge = list[int](), len(edges) - 1
    for step_back in range(count, -1, -1):
        chosen.append(int(edges[edge]))
        edge = int(came_from[step_back][edge])
    total = float(totals[count])
    return tuple(reversed(chosen)), (1 - tokens / total if total else 0.0)


def _shapes(bucket: int, max_batch: int, max_tokens: int) -> tuple[Shape, ...]:
    """A bucket's shapes if nobody said otherwise."""
    rows = max(1, min(max_batch, max_tokens // bucket))
    if _ROW_STEP < rows < max_batch:
        rows -= rows % _ROW_STEP
    large = (Shape(bucket, rows),)
    return (Shape(bucket, MAX_BATCH), *large) if rows >= 2 * MAX_BATCH else large


def _aligned(tokens: int, step: int = ALIGNMENT) -> int:
    return max(1, -(-tokens // step)) * step


def _refusal(message: str) -> InputError:
    return InputError("buckets", message)
