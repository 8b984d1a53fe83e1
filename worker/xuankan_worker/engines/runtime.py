"""The seam to ONNX Runtime, which has no type stubs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

from numpy.typing import NDArray

from xuankan.errors import EngineError

# Builds of ONNX Runtime from PyPI report usage to their maker, and leave a file `.ses` in the temporary
# directory. A worker handles unpublished manuscripts and talks to its queue only. Read when it is imported.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime  # pyright: ignore[reportMissingTypeStubs]

_ort = cast(Any, onnxruntime)
VERSION = str(_ort.__version__)
_FATAL = 4


class _Value(Protocol):
    @property
    def name(self) -> str: ...


class Session(Protocol):
    """A loaded model; thread-safe, and `run` releases the GIL."""

    def get_inputs(self) -> Sequence[_Value]: ...

    def run(self, outputs: Sequence[str], feed: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]: ...


def open_session(model: Path | bytes, threads: int = 1, *, as_written: bool = False) -> Session:
    """Load an ONNX model for the CPU.

    Args:
        model: a file, or its content.
        threads: that work on each run.
        as_written: compute Q/DQ as the standard says, in float. Otherwise they may become integer kernels,
            which on CPUs without VNNI saturate, and know no stacked weights; and a ReLU before FP8 gets lost.

    Raises:
        EngineError: ONNX Runtime does not load it.
    """
    options = _ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    if as_written:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    disabled = ["ReluQuantRewrite"] if as_written else None  # takes FP8's zero for its least value
    options.log_severity_level = _FATAL  # errors are raised; the worker has its own log
    try:
        return _ort.InferenceSession(
            model, options, providers=["CPUExecutionProvider"], disabled_optimizers=disabled
        )
    except Exception as error:  # ONNX Runtime's own kinds are subclasses of Exception only
        what = model if isinstance(model, Path) else "a model"
        raise EngineError(f"ONNX Runtime {VERSION} does not load {what}: {error}") from error
