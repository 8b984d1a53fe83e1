"""The CPU engine: ONNX Runtime, one context for each core.

Measured on two cores with the default model: one thread for each context beats two threads for one, as
contexts never wait for each other. They share one session, and so one copy of the weights. The graph for CPUs
runs each row at its own length (see `releases.graph`): no token is padding. A release that has only a graph
for GPUs runs too, slower.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xuankan.errors import EngineError
from xuankan_worker.engines.base import EngineInfo, TokenBatch
from xuankan_worker.engines.checks import check_batch
from xuankan_worker.engines.host import cores, processor
from xuankan_worker.engines.runtime import VERSION, Session, open_session
from xuankan_worker.engines.sequence import SEQUENCE_INPUTS, sequence_feed
from xuankan_worker.manifest import GPU_MODEL, MODEL, Manifest

_BUCKET_STEP = 16
"""Buckets only group rows of like length here, so that a batch's cost is known: nothing is padded to them."""
_BATCH_INPUTS = ("input_ids", "lengths", "first_lengths")
Feed = Callable[[TokenBatch], Mapping[str, NDArray[np.int32]]]
"""A graph's inputs by name."""


class OnnxEngine:
    """A release on ONNX Runtime's CPU kernels.

    Raises:
        ReleaseError: the release cannot be read or is damaged.
        EngineError: ONNX Runtime does not load the model.
    """

    def __init__(self, release: Path, max_batch: int) -> None:
        manifest = Manifest.load(release)
        manifest.verify(release)
        model = next((name for name in (MODEL, GPU_MODEL) if name in manifest.files), None)
        if model is None:
            raise EngineError(
                f"release {manifest.name} in {release} has neither {MODEL} nor {GPU_MODEL} for engine onnx"
            )
        path = release / model
        session = open_session(path)
        inputs = sorted(value.name for value in session.get_inputs())
        self._feed = _batch_feed if model == MODEL else sequence_feed
        if inputs != sorted(_BATCH_INPUTS if model == MODEL else SEQUENCE_INPUTS):
            raise EngineError(f"{path} has inputs {', '.join(inputs)}: it was not made by `xuankan model`")
        shape = manifest.architecture
        usable = cores()
        self._session: Session | None = session
        self._info = EngineInfo(
            name="onnx",
            device=f"{processor()}, {usable} {'core' if usable == 1 else 'cores'}",
            buckets=(*range(_BUCKET_STEP, shape.max_length, _BUCKET_STEP), shape.max_length),
            max_batch=max_batch,
            contexts=usable,
            vocabulary_size=shape.vocabulary_size,
            fingerprint=f"{manifest.fingerprint}-onnx-{VERSION}",
        )

    @property
    def info(self) -> EngineInfo:
        """Constant after loading."""
        return self._info

    def open_slot(self, index: int) -> OnnxSlot:
        """Open slot `index`, warmed.

        Raises:
            EngineError: the engine is closed, has no slot of that index, or the model does not run.
        """
        if self._session is None:
            raise EngineError("the engine is closed")
        if not 0 <= index < self._info.slots:
            raise EngineError(f"there is no slot {index}: the engine has {self._info.slots}")
        return OnnxSlot(self._session, self._feed, self._info)

    def close(self) -> None:
        """Free the model; every slot is closed before. Idempotent."""
        self._session = None


class OnnxSlot:
    """Runs batches on the calling thread; made by `OnnxEngine.open_slot`."""

    def __init__(self, session: Session, feed: Feed, info: EngineInfo) -> None:
        self._session: Session | None = session
        self._feed = feed
        self._info = info
        # The first run of the longest row allocates for all that follow.
        longest = info.buckets[-1]
        self._run(
            TokenBatch(np.zeros((1, longest), np.int32), np.array([longest], np.int32), np.ones(1, np.int32))
        )

    def score(self, batch: TokenBatch) -> NDArray[np.float32]:
        """Score a batch; see `engines.base.Slot`.

        Raises:
            EngineError: the batch does not fit the engine, or running it failed.
        """
        check_batch(batch, self._info)
        scores = self._run(batch)
        if not np.isfinite(scores).all():
            raise EngineError(f"row {np.argmin(np.isfinite(scores))}: the model gave no finite score")
        return scores

    def close(self) -> None:
        """Free what the slot holds; idempotent."""
        self._session = None

    def _run(self, batch: TokenBatch) -> NDArray[np.float32]:
        if self._session is None:
            raise EngineError("the slot is closed")
        try:
            return self._session.run(["scores"], self._feed(batch))[0]
        except Exception as error:  # ONNX Runtime's own kinds are subclasses of Exception only
            raise EngineError(f"ONNX Runtime failed: {error}") from error


def _batch_feed(batch: TokenBatch) -> dict[str, NDArray[np.int32]]:
    return {name: getattr(batch, name) for name in _BATCH_INPUTS}
