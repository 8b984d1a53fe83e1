"""A tiny random BERT cross-encoder: its checkpoint, and its forward pass in plain float64 NumPy."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file  # pyright: ignore[reportUnknownVariableType]

from xuankan_worker.engines import TokenBatch
from xuankan_worker.manifest import MODEL, Architecture, Manifest, file_sha256
from xuankan_worker.releases.graph import export

VOCABULARY, HIDDEN, HEADS, LAYERS, INNER, POSITIONS = 97, 32, 4, 3, 64, 48
_erf = np.vectorize(math.erf)


def config(activation: str = "gelu") -> dict[str, Any]:
    return {
        "model_type": "bert",
        "hidden_act": activation,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": POSITIONS,
        "layer_norm_eps": 1e-12,
    }


def tensors(seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Random weights under Hugging Face's names; every bias and normalization is there to be got wrong."""
    random = np.random.default_rng(seed)
    result: dict[str, NDArray[np.float32]] = {}

    def add(name: str, *shape: int, around: float = 0.0, spread: float = 0.3) -> None:
        result[name] = (around + spread * random.standard_normal(shape)).astype(np.float32)

    def linear(name: str, outputs: int, inputs: int) -> None:
        add(f"{name}.weight", outputs, inputs, spread=1.2 / math.sqrt(inputs))
        add(f"{name}.bias", outputs)

    def norm(name: str) -> None:
        add(f"{name}.weight", HIDDEN, around=1.0)
        add(f"{name}.bias", HIDDEN)

    for name, rows in (("word", VOCABULARY), ("position", POSITIONS), ("token_type", 2)):
        add(f"bert.embeddings.{name}_embeddings.weight", rows, HIDDEN, spread=1.0)
    norm("bert.embeddings.LayerNorm")
    for layer in range(LAYERS):
        prefix = f"bert.encoder.layer.{layer}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            linear(f"{prefix}.attention.{part}", HIDDEN, HIDDEN)
        norm(f"{prefix}.attention.output.LayerNorm")
        linear(f"{prefix}.intermediate.dense", INNER, HIDDEN)
        linear(f"{prefix}.output.dense", HIDDEN, INNER)
        norm(f"{prefix}.output.LayerNorm")
    linear("bert.pooler.dense", HIDDEN, HIDDEN)
    linear("classifier", 1, HIDDEN)
    return result


def write_checkpoint(directory: Path, activation: str = "gelu") -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config(activation)))
    save_file(tensors(), directory / "model.safetensors")
    return directory


def write_release(directory: Path) -> Path:
    """A float release of the tiny model."""
    checkpoint = write_checkpoint(directory / "checkpoint")
    release = directory / "release"
    release.mkdir()
    export(checkpoint, release / MODEL)
    Manifest(
        name="tiny",
        base_model="random",
        architecture=Architecture("bert", LAYERS, HEADS, HIDDEN, INNER, VOCABULARY, POSITIONS),
        template="0" * 16,
        catalogue="1" * 16,
        first_stage_weight=0.5,
        temperature=2.0,
        files={MODEL: file_sha256(release / MODEL)},
    ).save(release)
    return release


def random_batch(
    rows: int, seed: int = 0, tokens: int = POSITIONS, lengths: list[int] | None = None
) -> TokenBatch:
    """A batch whose padding is random tokens, so that reading any of it shows in the scores."""
    random = np.random.default_rng(seed)
    real = np.array(lengths or random.integers(3, tokens + 1, rows), dtype=np.int32)
    return TokenBatch(
        random.integers(0, VOCABULARY, (rows, tokens)).astype(np.int32),
        real,
        (1 + random.random(rows) * (real - 1)).astype(np.int32),
    )


def expected_scores(batch: TokenBatch, activation: str = "gelu") -> NDArray[np.float64]:
    """float64 [B]: what `BertForSequenceClassification` computes for each row alone."""
    weights = {name: value.astype(np.float64) for name, value in tensors().items()}
    rows = zip(batch.input_ids, batch.lengths, batch.first_lengths, strict=True)
    return np.array([_score(weights, ids[:length], int(first), activation) for ids, length, first in rows])


def _score(w: dict[str, Any], ids: NDArray[np.int32], first: int, activation: str) -> float:
    x = hidden_states(w, ids, first, activation)
    return float(linear(w, "classifier", np.tanh(linear(w, "bert.pooler.dense", x[0])))[0])


def linear(w: dict[str, Any], name: str, x: NDArray[np.float64]) -> NDArray[np.float64]:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def hidden_states(
    w: dict[str, Any], ids: NDArray[np.int32], first: int, activation: str
) -> NDArray[np.float64]:
    """What the last layer says of each token of a row, float64 [T, hidden], of float64 weights."""
    length = len(ids)

    def norm(name: str, x: NDArray[np.float64]) -> NDArray[np.float64]:
        centred = x - x.mean(axis=-1, keepdims=True)
        deviation = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-12)
        return centred / deviation * w[f"{name}.weight"] + w[f"{name}.bias"]

    def heads(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return x.reshape(length, HEADS, -1).transpose(1, 0, 2)

    segment = (np.arange(length) >= first).astype(int)
    embeddings = "bert.embeddings"
    x = w[f"{embeddings}.word_embeddings.weight"][ids]
    x = x + w[f"{embeddings}.position_embeddings.weight"][:length]
    x = norm(f"{embeddings}.LayerNorm", x + w[f"{embeddings}.token_type_embeddings.weight"][segment])
    for layer in range(LAYERS):
        prefix = f"bert.encoder.layer.{layer}"
        q, k, v = (
            heads(linear(w, f"{prefix}.attention.self.{part}", x)) for part in ("query", "key", "value")
        )
        logits = q @ k.transpose(0, 2, 1) / math.sqrt(HIDDEN // HEADS)
        share = np.exp(logits - logits.max(axis=-1, keepdims=True))
        mixed = (share / share.sum(axis=-1, keepdims=True)) @ v
        mixed = mixed.transpose(1, 0, 2).reshape(length, HIDDEN)
        x = norm(
            f"{prefix}.attention.output.LayerNorm", x + linear(w, f"{prefix}.attention.output.dense", mixed)
        )
        inner = linear(w, f"{prefix}.intermediate.dense", x)
        if activation == "relu":
            inner = np.maximum(inner, 0)
        elif activation == "gelu_new":
            inner = inner / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (inner + 0.044715 * inner**3)))
        else:
            inner = inner / 2 * (1 + _erf(inner / math.sqrt(2)))
        x = norm(f"{prefix}.output.LayerNorm", x + linear(w, f"{prefix}.output.dense", inner))
    return x
