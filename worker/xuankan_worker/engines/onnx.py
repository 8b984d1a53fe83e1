"""The CPU engine: ONNX Runtime, one context for each core.

Measured on two cores with the default model: one thread for each context beats two threads for one, as
contexts never wait for each other. They share one session, and so one copy of the weights. The graph itself
runs each row at its own length (see `releases.graph`): no token is padding.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xuankan.errors import EngineError
from xuankan_worker.engines.base import EngineInfo, TokenBatch
from xuankan_worker.engines.checks import check_batch
from xuankan_worker.engines.runtime import VERSION, Session, open_session
from xuankan_worker.releases.manifest import MODEL, Manifest

_BUCKET_STEP = 16
"""Buckets only group rows of like length here, so that a batch's cost is known: nothing is padded to them."""


class OnnxEngine:
    """A release on ONNX Runtime's CPU kernels.

    Raises:
        ReleaseError: the release cannot be read or is damaged.
        EngineError: ONNX Runtime does not load the model.
    """

    def __init__(self, release: Path, max_batch: int) -> None:
        manifest = Manifest.load(release)
        manifest.verify(release)
        if MODEL not in manifest.files:
            raise EngineError(f"release {manifest.name} in {release} has no {MODEL} for engine onnx")
        path = release / MODEL
        session = open_session(path)
        inputs = sorted(value.name for value in session.get_inputs())
        if inputs != ["first_lengths", "input_ids", "lengths"]:
            raise EngineError(f"{path} has inputs {', '.join(inputs)}: it was not made by `xuankan model`")
        shape = manifest.architecture
        cores = len(os.sched_getaffinity(0))
        self._session: Session | None = session
        self._info = EngineInfo(
            name="onnx",
            device=f"{processor()}, {cores} {'core' if cores == 1 else 'cores'}",
            buckets=(*range(_BUCKET_STEP, shape.max_length, _BUCKET_STEP), shape.max_length),
            max_batch=max_batch,
            contexts=cores,
            vocabulary_size=shape.vocabulary_size,
            fingerprint=f"{manifest.fingerprint}-onnx-{VERSION}",
        )

    @property
    def info(self) -> EngineInfo:
        """Constant after loading."""
        return self._info

    def open_context(self, index: int) -> OnnxContext:
        """Open execution context `index`, warmed.

        Raises:
            EngineError: the engine is closed, has no context of that index, or the model does not run.
        """
        if self._session is None:
            raise EngineError("the engine is closed")
        if not 0 <= index < self._info.contexts:
            raise EngineError(f"there is no context {index}: the engine has {self._info.contexts}")
        return OnnxContext(self._session, self._info)

    def close(self) -> None:
        """Free the model; every context is closed before. Idempotent."""
        self._session = None


class OnnxContext:
    """Runs batches on the calling thread; made by `OnnxEngine.open_context`."""

    def __init__(self, session: Session, info: EngineInfo) -> None:
        self._session: Session | None = session
        self._info = info
        # The first run of the longest row allocates for all that follow.
        longest = info.buckets[-1]
        self._run(
            TokenBatch(np.zeros((1, longest), np.int32), np.array([longest], np.int32), np.ones(1, np.int32))
        )

    def score(self, batch: TokenBatch) -> NDArray[np.float32]:
        """Score a batch; see `engines.base.Context`.

        Raises:
            EngineError: the batch does not fit the engine, or running it failed.
        """
        check_batch(batch, self._info)
        scores = self._run(batch)
        if not np.isfinite(scores).all():
            raise EngineError(f"row {np.argmin(np.isfinite(scores))}: the model gave no finite score")
        return scores

    def close(self) -> None:
        """Free what the context holds; idempotent."""
        self._session = None

    def _run(self, batch: TokenBatch) -> NDArray[np.float32]:
        if self._session is None:
            raise EngineError("the context is closed")
        feed = {
            "input_ids": batch.input_ids,
            "lengths": batch.lengths,
            "first_lengths": batch.first_lengths,
        }
        try:
            return self._session.run(["scores"], feed)[0]
        except Exception as error:  # ONNX Runtime's own kinds are subclasses of Exception only
            raise EngineError(f"ONNX Runtime failed: {error}") from error


def processor() -> str:
    """The processor's name; Python knows it on no Linux but RISC-V's."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()
