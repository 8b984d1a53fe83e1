"""Engines: what runs a release's model on one kind of hardware."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import Literal

from xuankan.errors import EngineError, EngineUnavailable, InputError
from xuankan.logs import fields
from xuankan_worker.engines.base import Encoded, EncoderInfo, Engine, EngineInfo, Slot, TokenBatch

__all__ = [
    "KINDS",
    "Encoded",
    "EncoderInfo",
    "Engine",
    "EngineInfo",
    "EngineKind",
    "Slot",
    "TokenBatch",
    "open_engine",
]

EngineKind = Literal["auto", "tensorrt", "onnx"]
KINDS: tuple[EngineKind, ...] = ("auto", "tensorrt", "onnx")

_log = logging.getLogger(__name__)


def open_engine(kind: EngineKind, release: Path, max_batch: int = 16) -> Engine:
    """Load the model of a release directory.

    Args:
        kind: `auto` takes TensorRT where there is a GPU, the library and an engine of the release for both,
            else ONNX Runtime.
        release: a directory with a manifest.
        max_batch: rows of a batch at most.

    Raises:
        ReleaseError: the release cannot be read or is damaged.
        EngineUnavailable: the engine cannot run here; the message says what is missing and suggests a fix.
        EngineError: the model cannot be loaded.
        InputError: `kind` or `max_batch` is out of range.
    """
    if max_batch < 1:
        raise InputError("max_batch", f"must be at least 1, not {max_batch}")
    if kind == "tensorrt":
        return _open_tensorrt(release, max_batch)
    if kind == "onnx":
        return _open_onnx(release, max_batch)
    if kind != "auto":
        raise InputError("engine", f"{kind!r}; known are {', '.join(KINDS)}")
    from xuankan_worker.engines.tensorrt.library import find_gpu

    if find_gpu() is None:
        return _open_onnx(release, max_batch)
    try:
        return _open_tensorrt(release, max_batch)
    except EngineUnavailable as error:
        reason = str(error)
    _log.warning("the GPU is not used", extra=fields(reason=reason))
    try:
        return _open_onnx(release, max_batch)
    except EngineError as error:
        raise EngineUnavailable(
            f"no engine can run here. On the GPU: {reason}. On the CPU: {error}"
        ) from error


def _open_tensorrt(release: Path, max_batch: int) -> Engine:
    from xuankan_worker.engines.tensorrt.engine import open_tensorrt  # imports what only a GPU needs

    return open_tensorrt(release, max_batch)


def _open_onnx(release: Path, max_batch: int) -> Engine:
    if importlib.util.find_spec("onnxruntime") is None:
        raise EngineUnavailable("onnxruntime is not installed: pip install 'xuankan[cpu]'")
    from xuankan_worker.engines.onnx import OnnxEngine  # onnxruntime is an extra

    return OnnxEngine(release, max_batch)
