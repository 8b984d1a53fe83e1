"""Tiny random checkpoints of every encoder family, and their forward pass in plain float64 NumPy.

The names of weights and settings, the positions and the heads are written down from transformers' models,
not taken from the code under test.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file  # pyright: ignore[reportUnknownVariableType]

from xuankan_worker.engines import TokenBatch

VOCABULARY, HIDDEN, HEADS, LAYERS, INNER, POSITIONS = 97, 32, 4, 3, 64, 52
Floats = NDArray[np.float64]
_erf = np.vectorize(math.erf)


@dataclass(frozen=True)
class Names:
    """What a family calls its parts; `{}` is the layer."""

    prefix: str
    query: str = "encoder.layer.{}.attention.self.query"
    key: str = "encoder.layer.{}.attention.self.key"
    value: str = "encoder.layer.{}.attention.self.value"
    mixed: str = "encoder.layer.{}.attention.output.dense"
    mixed_norm: str = "encoder.layer.{}.attention.output.LayerNorm"
    inner: str = "encoder.layer.{}.intermediate.dense"
    outer: str = "encoder.layer.{}.output.dense"
    outer_norm: str = "encoder.layer.{}.output.LayerNorm"
    head: str = "classifier.dense"
    logits: str = "classifier.out_proj"
    first_position: int = 0
    segments: int = 0
    head_activation: str = "tanh"

    def of(self, part: str, layer: int) -> str:
        return f"{self.prefix}.{getattr(self, part).format(layer)}"


_DISTILBERT = "transformer.layer.{}."
NAMES = {
    "bert": Names("bert", head="bert.pooler.dense", logits="classifier", segments=2),
    "roberta": Names("roberta", first_position=2, segments=1),
    "xlm-roberta": Names("roberta", first_position=2, segments=1),
    "camembert": Names("roberta", first_position=2, segments=1),
    "mpnet": Names(
        "mpnet",
        query="encoder.layer.{}.attention.attn.q",
        key="encoder.layer.{}.attention.attn.k",
        value="encoder.layer.{}.attention.attn.v",
        mixed="encoder.layer.{}.attention.attn.o",
        mixed_norm="encoder.layer.{}.attention.LayerNorm",
        first_position=2,
    ),
    "electra": Names("electra", segments=2, head_activation="gelu"),
    "distilbert": Names(
        "distilbert",
        query=f"{_DISTILBERT}attention.q_lin",
        key=f"{_DISTILBERT}attention.k_lin",
        value=f"{_DISTILBERT}attention.v_lin",
        mixed=f"{_DISTILBERT}attention.out_lin",
        mixed_norm=f"{_DISTILBERT}sa_layer_norm",
        inner=f"{_DISTILBERT}ffn.lin1",
        outer=f"{_DISTILBERT}ffn.lin2",
        outer_norm=f"{_DISTILBERT}output_layer_norm",
        head="pre_classifier",
        logits="classifier",
        head_activation="relu",
    ),
}


def config(family: str, activation: str = "gelu", **changes: Any) -> dict[str, Any]:
    if family == "distilbert":
        sizes = {"dim": HIDDEN, "n_layers": LAYERS, "n_heads": HEADS, "hidden_dim": INNER}
        sizes |= {"activation": activation}
    else:
        sizes = {"hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS}
        sizes |= {"intermediate_size": INNER, "hidden_act": activation, "layer_norm_eps": 1e-5}
    positions = POSITIONS + NAMES[family].first_position
    settings = {"vocab_size": VOCABULARY, "max_position_embeddings": positions, "num_labels": 1}
    settings |= {"type_vocab_size": NAMES[family].segments or 2, "embedding_size": HIDDEN}
    return {
        "model_type": family,
        "pad_token_id": NAMES[family].first_position // 2,
        **settings,
        **sizes,
        **changes,
    }


def tensors(family: str, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Random weights; every bias and normalization is there to be got wrong."""
    names, random = NAMES[family], np.random.default_rng(seed)
    result: dict[str, NDArray[np.float32]] = {}

    def add(name: str, *shape: int, around: float = 0.0, spread: float = 0.3) -> None:
        result[name] = (around + spread * random.standard_normal(shape)).astype(np.float32)

    def linear(name: str, outputs: int, inputs: int) -> None:
        add(f"{name}.weight", outputs, inputs, spread=1.2 / math.sqrt(inputs))
        add(f"{name}.bias", outputs)

    def norm(name: str) -> None:
        add(f"{name}.weight", HIDDEN, around=1.0)
        add(f"{name}.bias", HIDDEN)

    tables = {"word": VOCABULARY, "position": POSITIONS + names.first_position, "token_type": names.segments}
    for name, rows in tables.items():
        if rows:
            add(f"{names.prefix}.embeddings.{name}_embeddings.weight", rows, HIDDEN, spread=1.0)
    norm(f"{names.prefix}.embeddings.LayerNorm")
    for layer in range(LAYERS):
        for part in ("query", "key", "value", "mixed"):
            linear(names.of(part, layer), HIDDEN, HIDDEN)
        linear(names.of("inner", layer), INNER, HIDDEN)
        linear(names.of("outer", layer), HIDDEN, INNER)
        norm(names.of("mixed_norm", layer))
        norm(names.of("outer_norm", layer))
    if family == "mpnet":
        add("mpnet.encoder.relative_attention_bias.weight", 32, HEADS, spread=1.0)
    linear(names.head, HIDDEN, HIDDEN)
    linear(names.logits, 1, HIDDEN)
    return result


def write_checkpoint(directory: Path, family: str, activation: str = "gelu") -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config(family, activation)))
    save_file(tensors(family), directory / "model.safetensors", metadata={"format": "pt"})
    return directory


def expected_scores(batch: TokenBatch, family: str, activation: str = "gelu") -> Floats:
    """float64 [B]: what the family's sequence classifier computes for each row alone."""
    weights = {name: value.astype(np.float64) for name, value in tensors(family).items()}
    rows = zip(batch.input_ids, batch.lengths, batch.first_lengths, strict=True)
    return np.array(
        [_forward(weights, family, ids[:length], int(first), activation) for ids, length, first in rows]
    )


def _forward(w: dict[str, Floats], family: str, ids: NDArray[np.int32], first: int, activation: str) -> float:
    names, x = NAMES[family], hidden_states(w, family, ids, first, activation)
    pooled = activate(names.head_activation, x[0] @ w[f"{names.head}.weight"].T + w[f"{names.head}.bias"])
    return float((pooled @ w[f"{names.logits}.weight"].T + w[f"{names.logits}.bias"])[0])


def hidden_states(
    w: Mapping[str, Floats], family: str, ids: NDArray[np.int32], first: int, activation: str
) -> Floats:
    """What the last layer says of each token of a row, float64 [T, hidden]."""
    names, length = NAMES[family], len(ids)
    epsilon = 1e-12 if family == "distilbert" else 1e-5

    def linear(name: str, x: Floats) -> Floats:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(name: str, x: Floats) -> Floats:
        centred = x - x.mean(axis=-1, keepdims=True)
        deviation = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + epsilon)
        return centred / deviation * w[f"{name}.weight"] + w[f"{name}.bias"]

    def heads(x: Floats) -> Floats:
        return x.reshape(length, HEADS, -1).transpose(1, 0, 2)

    embeddings = f"{names.prefix}.embeddings"
    positions = np.arange(length) + names.first_position
    x = w[f"{embeddings}.word_embeddings.weight"][ids]
    x = x + w[f"{embeddings}.position_embeddings.weight"][positions]
    if names.segments:
        segment = (np.arange(length) >= first).astype(int) * (names.segments - 1)
        x = x + w[f"{embeddings}.token_type_embeddings.weight"][segment]
    x = norm(f"{embeddings}.LayerNorm", x)
    bias = relative_bias(w, length) if family == "mpnet" else 0.0
    for layer in range(LAYERS):
        q, k, v = (heads(linear(names.of(part, layer), x)) for part in ("query", "key", "value"))
        logits = q @ k.transpose(0, 2, 1) / math.sqrt(HIDDEN // HEADS) + bias
        share = np.exp(logits - logits.max(axis=-1, keepdims=True))
        mixed = (share / share.sum(axis=-1, keepdims=True)) @ v
        mixed = mixed.transpose(1, 0, 2).reshape(length, HIDDEN)
        x = norm(names.of("mixed_norm", layer), x + linear(names.of("mixed", layer), mixed))
        inner = activate(activation, linear(names.of("inner", layer), x))
        x = norm(names.of("outer_norm", layer), x + linear(names.of("outer", layer), inner))
    return x


def activate(kind: str, x: Floats) -> Floats:
    if kind == "tanh":
        return np.tanh(x)
    if kind == "relu":
        return np.maximum(x, 0)
    if kind == "gelu":
        return x / 2 * (1 + _erf(x / math.sqrt(2)))
    return x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def relative_bias(w: Mapping[str, NDArray[np.floating]], length: int) -> Floats:
    """[heads, S, S] by T5's buckets: 32, half for each direction, exact below 8, logarithmic up to 128."""
    table = w["mpnet.encoder.relative_attention_bias.weight"]
    result = np.empty((HEADS, length, length))
    for query in range(length):
        for key in range(length):
            far, after = abs(key - query), 16 if key > query else 0
            bucket = far if far < 8 else min(15, 8 + int(math.log(far / 8) / math.log(16) * 8))
            result[:, query, key] = table[after + bucket]
    return result
