"""The CPU engine: ONNX Runtime, one context for each core.

Measured on two cores with the default model: one thread for each context beats two threads for one, as
contexts never wait for each other. They share one session, and so one copy of the weights. The graph for CPUs
runs each row at its own length (see `releases.graph`): no token is padding. A release that has only a graph
for GPUs runs too, slower. Of encoder and cross-encoder a release may have one or both.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xuankan.errors import EngineError, MemoryExhausted
from xuankan_worker.engines.base import Encoded, EncoderInfo, EngineInfo, TokenBatch
from xuankan_worker.engines.checks import check_batch
from xuankan_worker.engines.host import cores, processor
from xuankan_worker.engines.runtime import VERSION, Session, open_session
from xuankan_worker.engines.sequence import SEQUENCE_INPUTS, sequence_feed
from xuankan_worker.manifest import ENCODER, GPU_ENCODER, GPU_MODEL, MODEL, Manifest

_NO_MEMORY = re.compile(r"bad_alloc|bad allocation|[Ff]ailed to allocate memory|out of memory")
"""How ONNX Runtime says so: it has no code for it."""
_BUCKET_STEP = 16
"""Buckets only group rows of like length here, so that a batch's cost is known: nothing is padded to them."""
_ENCODER_ROWS = 4
"""Rows of an encoder's batch at most. Each is a manuscript of its own, for which a person may wait; what a
batch saves is to read the corpus once for all of them, and of that four rows save three quarters."""
_BATCH_INPUTS = ("input_ids", "lengths", "first_lengths")
_ENCODER_OUTPUTS = ("logits", "embedding", "neighbours", "nearness")
Feed = Callable[[TokenBatch], Mapping[str, NDArray[np.int32]]]
"""A graph's inputs by name."""


@dataclass(frozen=True, slots=True)
class _Graph:
    """A loaded graph, and how it takes a batch."""

    session: Session
    feed: Feed
    outputs: Sequence[str]

    @classmethod
    def open(
        cls, release: Path, manifest: Manifest, names: tuple[str, str], outputs: Sequence[str]
    ) -> _Graph:
        """Load the first of a release's graphs: for CPUs, or else for GPUs.

        Raises:
            EngineError: the release has neither, or it cannot be loaded.
        """
        name = next((name for name in names if name in manifest.files), None)
        if name is None:
            raise EngineError(
                f"release {manifest.name} in {release} has neither {' nor '.join(names)} for engine onnx"
            )
        path = release / name
        session = open_session(path)
        wanted = _BATCH_INPUTS if name == names[0] else SEQUENCE_INPUTS
        if (inputs := sorted(value.name for value in session.get_inputs())) != sorted(wanted):
            raise EngineError(f"{path} has inputs {', '.join(inputs)}: it was not made by `xuankan model`")
        return cls(session, _batch_feed if name == names[0] else sequence_feed, outputs)

    def run(self, batch: TokenBatch) -> list[NDArray[Any]]:
        """The outputs of a batch.

        Raises:
            MemoryExhausted: there is no memory left.
            EngineError: it failed.
        """
        try:
            return self.session.run(self.outputs, self.feed(batch))
        except Exception as error:  # ONNX Runtime's own kinds are subclasses of Exception only
            if isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)):
                raise MemoryExhausted(f"ONNX Runtime has no memory left: {error}") from error
            raise EngineError(f"ONNX Runtime failed: {error}") from error

    def warm(self, longest: int) -> None:
        """Run the longest row once: that allocates for all that follow."""
        lengths = np.array([longest], np.int32)
        self.run(TokenBatch(np.zeros((1, longest), np.int32), lengths, np.ones(1, np.int32)))


@dataclass(slots=True)
class _Graphs:
    """What a release has."""

    scorer: _Graph | None = None
    encoder: _Graph | None = None


class OnnxEngine:
    """A release on ONNX Runtime's CPU kernels.

    Raises:
        ReleaseError: the release cannot be read or is damaged.
        EngineError: ONNX Runtime does not load the model.
    """

    def __init__(self, release: Path, max_batch: int) -> None:
        manifest = Manifest.load(release)
        manifest.verify(release)
        graphs, encoder, shape = _Graphs(), None, manifest.architecture
        if shape is not None:
            graphs.scorer = _Graph.open(release, manifest, (MODEL, GPU_MODEL), ["scores"])
        if (known := manifest.encoder) is not None:
            graphs.encoder = _Graph.open(release, manifest, (ENCODER, GPU_ENCODER), _ENCODER_OUTPUTS)
            encoder = EncoderInfo(
                buckets=_buckets(known.architecture.max_length),
                max_batch=min(max_batch, _ENCODER_ROWS),
                journals=known.journals,
                dimensions=known.dimensions,
                neighbours=known.neighbours,
            )
        self._graphs: _Graphs | None = graphs
        usable = cores()
        self._info = EngineInfo(
            name="onnx",
            device=f"{processor()}, {usable} {'core' if usable == 1 else 'cores'}",
            buckets=() if shape is None else _buckets(shape.max_length),
            max_batch=max_batch,
            contexts=usable,
            vocabulary_size=manifest.vocabulary_size,
            fingerprint=f"{manifest.fingerprint}-onnx-{VERSION}",
            encoder=encoder,
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
        if self._graphs is None:
            raise EngineError("the engine is closed")
        if not 0 <= index < self._info.slots:
            raise EngineError(f"there is no slot {index}: the engine has {self._info.slots}")
        return OnnxSlot(self._graphs, self._info)

    def close(self) -> None:
        """Free the model; every slot is closed before. Idempotent."""
        self._graphs = None


class OnnxSlot:
    """Runs batches on the calling thread; made by `OnnxEngine.open_slot`."""

    def __init__(self, graphs: _Graphs, info: EngineInfo) -> None:
        self._graphs: _Graphs | None = graphs
        self._info = info
        if graphs.scorer is not None:
            graphs.scorer.warm(info.buckets[-1])
        if graphs.encoder is not None and info.encoder is not None:
            graphs.encoder.warm(info.encoder.buckets[-1])

    def score(self, batch: TokenBatch) -> NDArray[np.float32]:
        """Score a batch; see `engines.base.Slot`.

        Raises:
            EngineError: there is no cross-encoder, the batch does not fit it, or running it failed.
        """
        check_batch(batch, self._info)
        scores: NDArray[np.float32] = self._open(lambda graphs: graphs.scorer).run(batch)[0]
        if not np.isfinite(scores).all():
            raise EngineError(f"row {np.argmin(np.isfinite(scores))}: the model gave no finite score")
        return scores

    def encode(self, batch: TokenBatch) -> Encoded:
        """Read manuscripts; see `engines.base.Slot`.

        Raises:
            EngineError: there is no encoder, the batch does not fit it, or running it failed.
        """
        check_batch(batch, self._info, self._info.encoder)
        logits, embedding, neighbours, nearness = self._open(lambda graphs: graphs.encoder).run(batch)
        for values in (logits, nearness):
            if not (finite := np.isfinite(values).all(axis=1)).all():
                raise EngineError(f"row {np.argmin(finite)}: the encoder gave a number that is not finite")
        # TopK counts in 64 bits.
        return Encoded(logits, embedding, neighbours.astype(np.int32, copy=False), nearness)

    def close(self) -> None:
        """Free what the slot holds; idempotent."""
        self._graphs = None

    def _open(self, part: Callable[[_Graphs], _Graph | None]) -> _Graph:
        if self._graphs is None:
            raise EngineError("the slot is closed")
        if (graph := part(self._graphs)) is None:
            raise EngineError("the release has no encoder")
        return graph


def _buckets(longest: int) -> tuple[int, ...]:
    return (*range(_BUCKET_STEP, longest, _BUCKET_STEP), longest)


def _batch_feed(batch: TokenBatch) -> dict[str, NDArray[np.int32]]:
    return {name: getattr(batch, name) for name in _BATCH_INPUTS}
