"""Engines: what runs a release's model on one kind of hardware."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Literal

from xuankan.errors import EngineUnavailable, InputError
from xuankan_worker.engines.base import Context, Engine, EngineInfo, TokenBatch

__all__ = ["KINDS", "Context", "Engine", "EngineInfo", "EngineKind", "TokenBatch", "open_engine"]

EngineKind = Literal["auto", "tensorrt", "onnx"]
KINDS: tuple[EngineKind, ...] = ("auto", "tensorrt", "onnx")


def open_engine(kind: EngineKind, release: Path, max_batch: int = 16) -> Engine:
    """Load the model of a release directory.

    Args:
        kind: `auto` takes the best engine that can run here.
        release: a directory with a manifest.
        max_batch: rows of a batch at most.

    Raises:
        ReleaseError: the release cannot be read or is damaged.
        EngineUnavailable: the engine cannot run here.
        EngineError: the model cannot be loaded.
        InputError: `kind` or `max_batch` is out of range.
    """
    if max_batch < 1:
        raise InputError("max_batch", f"{max_batch}; at least 1 is wanted")
    if kind == "tensorrt":
        raise EngineUnavailable(
            "this build of Xuankan has no TensorRT engine: use --engine onnx, or --engine auto"
        )
    if kind not in KINDS:
        raise InputError("engine", f"{kind!r}; known are {', '.join(KINDS)}")
    if importlib.util.find_spec("onnxruntime") is None:
        raise EngineUnavailable("onnxruntime is not installed: pip install 'xuankan[cpu]'")
    from xuankan_worker.engines.onnx import OnnxEngine  # onnxruntime is an extra

    return OnnxEngine(release, max_batch)
