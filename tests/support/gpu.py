"""Releases with a TensorRT engine, built by the test that needs one, and what keeps a machine from it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support import tiny_bert, tiny_encoder
from xuankan.errors import EngineUnavailable
from xuankan_worker.engines import TokenBatch
from xuankan_worker.engines.tensorrt.library import find_gpu, load_library
from xuankan_worker.engines.tensorrt.shapes import Shape
from xuankan_worker.manifest import GPU_MODEL, Architecture, Manifest, file_sha256
from xuankan_worker.releases.build import build
from xuankan_worker.releases.checkpoint import Checkpoint
from xuankan_worker.releases.encoder_graph import write_encoder_graph
from xuankan_worker.releases.retrieval_graph import write_retrieval_graph

SHAPES = (Shape(64, 32), Shape(128, 4), Shape(128, 16), Shape(256, 8), Shape(512, 4))
Say = Callable[[str], None]
TOLERANCE = 0.008
"""Of a score computed in FP16; on a CPU the same graph is off by 0.0015, and scores spread by 0.2."""


def missing() -> str | None:
    """Why no TensorRT engine runs here; None if one does."""
    if importlib.util.find_spec("cuda") is None:
        return "cuda-bindings are not installed"
    if find_gpu() is None:
        return "there is no NVIDIA GPU"
    try:
        load_library()
    except EngineUnavailable as error:
        return str(error)
    return None


def realistic(patch: pytest.MonkeyPatch) -> None:
    """Make `tiny_bert` large enough for the kernels that real models get: heads of 64, 512 tokens."""
    sizes = {"VOCABULARY": 997, "HIDDEN": 256, "HEADS": 4, "LAYERS": 2, "INNER": 512, "POSITIONS": 512}
    for name, value in sizes.items():
        patch.setattr(tiny_bert, name, value)
    patch.setattr(tiny_bert, "_erf", _erf)  # a number at a time is too slow at this size


def _erf(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Abramowitz and Stegun, 7.1.26: off by 1.5e-7 at most."""
    t = 1 / (1 + 0.3275911 * np.abs(x))
    powers = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)
    series = sum(factor * t ** (index + 1) for index, factor in enumerate(powers))
    return np.sign(x) * (1 - series * np.exp(-(x**2)))


def write_gpu_release(directory: Path, shapes: tuple[Shape, ...], targets: tuple[str, ...] = ()) -> Path:
    """A release of `tiny_bert` with an engine of these shapes; RTX builds it without a GPU too."""
    checkpoint = tiny_bert.write_checkpoint(directory / "checkpoint")
    release = directory / "release"
    release.mkdir()
    model = write_encoder_graph(Checkpoint.load(checkpoint))
    (release / GPU_MODEL).write_bytes(model.SerializeToString())
    Manifest(
        name="tiny",
        base_model="random",
        architecture=Architecture(
            "bert",
            tiny_bert.LAYERS,
            tiny_bert.HEADS,
            tiny_bert.HIDDEN,
            tiny_bert.INNER,
            tiny_bert.VOCABULARY,
            tiny_bert.POSITIONS,
        ),
        template="0" * 16,
        catalogue="1" * 16,
        first_stage_weight=0.5,
        temperature=2.0,
        files={GPU_MODEL: file_sha256(release / GPU_MODEL)},
    ).save(release)
    build(release, load_library(), {"cross_encoder": shapes}, targets=targets)
    return release


def write_encoder_release(directory: Path, shapes: tuple[Shape, ...], pairs: tuple[Shape, ...] = ()) -> Path:
    """A release of `tiny_encoder`, beside `tiny_bert` if there are shapes for its pairs, with an engine."""
    if not pairs:
        release = tiny_encoder.write_release(directory)
        build(release, load_library(), {"encoder": shapes})
        return release
    release = tiny_bert.write_release(directory)
    checkpoint = tiny_encoder.write_checkpoint(directory / "encoder")
    graph = write_retrieval_graph(
        Checkpoint.load(checkpoint, scores=False), tiny_encoder.corpus(), tiny_encoder.NEIGHBOURS
    )
    tiny_encoder.add_encoder(release, graph)
    build(release, load_library(), {"encoder": shapes, "cross_encoder": pairs})
    return release


def batch_of(seed: int, rows: int, tokens: int) -> TokenBatch:
    """Random rows of 1 to `tokens` tokens, the first as long as can be; the padding is random tokens."""
    lengths = np.random.default_rng(seed).integers(1, tokens + 1, rows)
    lengths[0] = tokens
    return tiny_bert.random_batch(rows, seed, tokens, lengths.tolist())


def error_of(scores: NDArray[np.float32], batch: TokenBatch) -> float:
    """The largest distance from the float64 model."""
    return float(np.abs(scores - tiny_bert.expected_scores(batch)).max())
