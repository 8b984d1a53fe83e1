"""What training changed of public weights, in a fifth of their bytes in 8 bits. NumPy only.

Of a layer's matrix the change is kept in two parts: its `RANK` largest singular directions, in 8 bits with a
scale each, and of what these leave the signs, with a scale a row (Liu et al. 2024, "BitDelta"). Either alone
loses more at the same size. What is small is kept whole: other matrices in 8 bits, vectors in half
precision.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xuankan.errors import ReleaseError
from xuankan_worker.releases.rounding import Arrays, restored, rounded

RANK = 48
_LAYERS = "encoder.layer."


def compress(change: Arrays, rank: int = RANK) -> Arrays:
    """Compress changes of weights by name; `expand` is the way back."""
    result: Arrays = {}
    for name, value in change.items():
        value = value.astype(np.float32)
        if value.ndim != 2:
            result[name] = value.astype(np.float16)
        elif _LAYERS not in name:
            result |= rounded({name: value})
        else:
            low = rounded(_factors(name, value, min(rank, *value.shape)))
            rest = value - _product(restored(low), name)
            scale = np.abs(rest).mean(axis=1, keepdims=True).astype(np.float32)
            result |= {**low, f"{name}.signs": np.packbits(rest >= 0, axis=1), f"{name}.signs.scale": scale}
    return result


def expand(arrays: Arrays) -> Arrays:
    """The changes, float32, as far as `compress` kept them.

    Raises:
        ReleaseError: a part of a change is missing.
    """
    result: Arrays = {}
    whole = restored(arrays)
    for name, value in whole.items():
        if name.endswith((".left", ".right")):
            continue
        if not name.endswith(".signs"):
            result[name] = value.astype(np.float32)
            continue
        # `restored` scaled the packed bits; they are read where they lie.
        matrix = name.removesuffix(".signs")
        try:
            low, scale = _product(whole, matrix), arrays[f"{name}.scale"]
        except KeyError as error:
            raise ReleaseError(f"the delta lacks {error}") from error
        bits = np.unpackbits(arrays[name], axis=1, count=low.shape[1]).astype(bool)
        result[matrix] = low + np.where(bits, scale, -scale)
    return result


def _factors(name: str, matrix: NDArray[np.float32], rank: int) -> Arrays:
    """The largest singular directions, [rank, N] and [rank, K], of like lengths."""
    left = matrix.shape[0] <= matrix.shape[1]
    square = (matrix @ matrix.T if left else matrix.T @ matrix).astype(np.float64)
    directions = np.linalg.eigh(square)[1][:, ::-1][:, :rank].astype(np.float32).T
    other = directions @ (matrix if left else matrix.T)
    length = np.linalg.norm(other, axis=1, keepdims=True)
    balance = np.sqrt(np.maximum(length, np.float32(1e-12)))
    first, second = directions * balance, other / balance
    return {f"{name}.left": first if left else second, f"{name}.right": second if left else first}


def _product(arrays: Arrays, name: str) -> NDArray[np.float32]:
    return (arrays[f"{name}.left"].T @ arrays[f"{name}.right"]).astype(np.float32)
