"""Weights in 8 bits, one scale a row: how they travel, and what a delta is added to. NumPy only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]
_SCALE = ".scale"


def rounded(arrays: Arrays) -> Arrays:
    """Matrices as int8 [N, K] and a scale, float32 [N, 1], beside each; everything else as it is, float32."""
    result: Arrays = {}
    for name, value in arrays.items():
        value = value.astype(np.float32)
        if value.ndim != 2:
            result[name] = value
            continue
        scale = np.maximum(np.abs(value).max(axis=1, keepdims=True), 1e-8) / np.float32(127)
        result[name] = np.rint(value / scale).astype(np.int8)
        result[name + _SCALE] = scale.astype(np.float32)
    return result


def restored(arrays: Arrays) -> Arrays:
    """What `rounded` was given, as far as 8 bits tell: float32."""
    return {
        name: value * arrays[name + _SCALE] if name + _SCALE in arrays else value
        for name, value in arrays.items()
        if not name.endswith(_SCALE)
    }
