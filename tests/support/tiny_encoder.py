"""A tiny random encoder with its corpus: its release, and what it says in plain float64 NumPy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from safetensors.numpy import save_file  # pyright: ignore[reportUnknownVariableType]

from tests.support import tiny_bert
from xuankan_worker.engines import Encoded, TokenBatch
from xuankan_worker.manifest import (
    ENCODER,
    MANIFEST,
    Architecture,
    EncoderShape,
    Fusion,
    Manifest,
    Weights,
    file_sha256,
)
from xuankan_worker.releases.checkpoint import Checkpoint
from xuankan_worker.releases.retrieval_graph import write_retrieval_graph

JOURNALS, DIMENSIONS, PAPERS, NEIGHBOURS = 13, 8, 200, 21


def tensors(seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """`tiny_bert`'s layers with an encoder's two heads."""
    kept = {
        name: value
        for name, value in tiny_bert.tensors(seed).items()
        if "pooler" not in name and not name.startswith("classifier")
    }
    random = np.random.default_rng(seed + 1)
    for name, outputs in (("classifier", JOURNALS), ("projection", DIMENSIONS)):
        spread = 1.2 / np.sqrt(tiny_bert.HIDDEN)
        weight = spread * random.standard_normal((outputs, tiny_bert.HIDDEN))
        kept[f"encoder.{name}.weight"] = weight.astype(np.float32)
        kept[f"encoder.{name}.bias"] = (0.3 * random.standard_normal(outputs)).astype(np.float32)
    return kept


def write_checkpoint(directory: Path, activation: str = "gelu_new") -> Path:
    tiny_bert.write_checkpoint(directory, activation)
    save_file(tensors(), directory / "model.safetensors")
    return directory


def corpus() -> NDArray[np.float32]:
    """Embeddings of the papers, float32 [N, D], of length one."""
    found = np.random.default_rng(7).standard_normal((PAPERS, DIMENSIONS)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def architecture() -> Architecture:
    return Architecture(
        "bert",
        tiny_bert.LAYERS,
        tiny_bert.HEADS,
        tiny_bert.HIDDEN,
        tiny_bert.INNER,
        tiny_bert.VOCABULARY,
        tiny_bert.POSITIONS,
    )


def add_encoder(release: Path, graph: onnx.ModelProto) -> None:
    """Put an encoder into a release, or make a release of an encoder alone."""
    (release / ENCODER).write_bytes(graph.SerializeToString())
    alone = Manifest("tiny-encoder", "random", None, "0" * 16, "1" * 16, 0.0, 1.0, {})
    before = Manifest.load(release) if (release / MANIFEST).exists() else alone
    none = Weights()
    replace(
        before,
        encoder=EncoderShape(architecture(), JOURNALS, DIMENSIONS, NEIGHBOURS),
        fusion=Fusion(none, none, none, none, 0.05, 6.0, 2020, 0.9, 0, 0),
        files={**before.files, ENCODER: file_sha256(release / ENCODER)},
    ).save(release)


def write_release(directory: Path, activation: str = "gelu_new") -> Path:
    """A release of the encoder alone, with its float graph for CPUs."""
    checkpoint = Checkpoint.load(write_checkpoint(directory / "checkpoint", activation), scores=False)
    release = directory / "release"
    release.mkdir()
    add_encoder(release, write_retrieval_graph(checkpoint, corpus(), NEIGHBOURS))
    return release


def expected(batch: TokenBatch, activation: str = "gelu_new") -> Encoded:
    """What the encoder says of each row alone, in float64."""
    weights = {name: value.astype(np.float64) for name, value in tensors().items()}
    rows = zip(batch.input_ids, batch.lengths, batch.first_lengths, strict=True)
    means = np.stack(
        [
            tiny_bert.hidden_states(weights, ids[:length], int(first), activation).mean(axis=0)
            for ids, length, first in rows
        ]
    )
    embedding = tiny_bert.linear(weights, "encoder.projection", means)
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    cosines = embedding @ corpus().T.astype(np.float64)
    nearest = np.argsort(-cosines, axis=1, kind="stable")[:, :NEIGHBOURS]
    return Encoded(
        tiny_bert.linear(weights, "encoder.classifier", means).astype(np.float32),
        embedding.astype(np.float32),
        nearest.astype(np.int32),
        np.take_along_axis(cosines, nearest, axis=1).astype(np.float32),
    )


def assert_close(found: Encoded, wanted: Encoded, tolerance: float) -> None:
    """That the numbers are within a tolerance, and the papers those that have them.

    Papers that are nearly as near as the next may change places.
    """
    assert found.neighbours.dtype == np.int32
    for one, other in (
        (found.logits, wanted.logits),
        (found.embedding, wanted.embedding),
        (found.nearness, wanted.nearness),
    ):
        assert one.dtype == np.float32
        np.testing.assert_allclose(one, other, atol=tolerance)
    for embedding, papers, nearness in zip(wanted.embedding, found.neighbours, found.nearness, strict=True):
        assert len(set(papers.tolist())) == len(papers)
        np.testing.assert_allclose(corpus()[papers] @ embedding, nearness, atol=tolerance)
