"""The way back: a float32 checkpoint of a shipped release, so that other programs can run the same weights.

What quantization rounded stays rounded, and what the graph folded stays folded (the key bias is zero, the
value bias is in the output's): the checkpoint computes what the release computes, not what was trained.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from safetensors.numpy import save_file  # pyright: ignore[reportUnknownVariableType]

from xuankan.errors import ReleaseError
from xuankan.protocol.template import default_directory
from xuankan_worker.manifest import ENCODER, MODEL, Architecture, Manifest
from xuankan_worker.releases.checkpoint import Checkpoint
from xuankan_worker.releases.graph import TOKEN_DENSE, WORD_EMBEDDINGS
from xuankan_worker.releases.onnx_file import read_onnx

Floats = NDArray[np.float32]


def read_checkpoint(release: Path, out: Path) -> None:
    """Write the weights of a release as Hugging Face's `BertForSequenceClassification` with its tokenizer.

    Args:
        release: a directory with a manifest, a model that `write_graph` made, INT8 or not, and a tokenizer.
        out: gets `config.json`, `model.safetensors`, `tokenizer.json` and `tokenizer_config.json`.

    Raises:
        ReleaseError: the release cannot be read, or its graph was not made by `write_graph`.
    """
    manifest = Manifest.load(release)
    shape = manifest.cross_encoder
    model = read_onnx(release / MODEL)
    weights = _Weights(model)
    out.mkdir(parents=True, exist_ok=True)
    save_file(_tensors(weights, shape), out / "model.safetensors")
    (out / "config.json").write_text(json.dumps(_config(shape, weights), indent=2))
    own = release / "tokenizer.json"
    shutil.copyfile(own if own.exists() else default_directory() / "tokenizer.json", out / "tokenizer.json")
    tokenizer = {"tokenizer_class": "BertTokenizer", "model_max_length": shape.max_length}
    (out / "tokenizer_config.json").write_text(json.dumps(tokenizer))


def read_encoder(release: Path) -> tuple[Checkpoint, Floats]:
    """The weights of a release's encoder, as a checkpoint with its two heads, and its corpus, float32 [N, D].

    Args:
        release: a directory with a manifest and an encoder that `write_retrieval_graph` made, INT8 or not.

    Raises:
        ReleaseError: the release cannot be read, has no such encoder, or another program made its graph.
    """
    manifest = Manifest.load(release)
    if manifest.encoder is None or ENCODER not in manifest.files:
        raise ReleaseError(f"release {manifest.name} in {release} has no {ENCODER}")
    model = read_onnx(release / ENCODER)
    weights, shape = _Weights(model), manifest.encoder.architecture
    tensors = _body(weights, shape, pooled=False)
    for head, source in (("classifier", "logits"), ("projection", "projected")):
        weight, bias = weights.dense(source)
        tensors |= {f"encoder.{head}.weight": weight.T, f"encoder.{head}.bias": bias}
    checkpoint = Checkpoint(
        family="bert",
        layers=shape.layers,
        heads=shape.heads,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        vocabulary_size=shape.vocabulary_size,
        first_position=0,
        max_positions=weights.positions,
        epsilon=weights.epsilon,
        activation="relu" if weights.relu else "gelu_tanh",
        tensors=tensors,
    )
    return checkpoint, np.ascontiguousarray(weights.get("corpus").T)


class _Weights:
    """A graph's constants by the names that the float graph gave them, decoded."""

    def __init__(self, model: onnx.ModelProto) -> None:
        graphs = [model.graph]
        graphs += [part.g for node in model.graph.node if node.op_type == "Loop" for part in node.attribute]
        self._values: dict[str, NDArray[Any]] = {
            value.name: numpy_helper.to_array(value) for graph in graphs for value in graph.initializer
        }
        nodes = [node for graph in graphs for node in graph.node]
        self._quantized = {node.name: list(node.input) for node in nodes if node.op_type == "QGemm"}
        self.relu = not any(node.op_type == "Gelu" for node in nodes)
        norm = next((node for node in nodes if node.op_type == "LayerNormalization"), onnx.NodeProto())
        self.epsilon = next((float(part.f) for part in norm.attribute if part.name == "epsilon"), 1e-12)

    @property
    def positions(self) -> int:
        """Tokens of the longest row."""
        return len(self.get("embeddings.places")) // 2

    def get(self, name: str) -> Floats:
        """A constant, decoded from 8 bits if it is stored so."""
        if name in self._values:
            return self._values[name].astype(np.float32)
        try:
            return self._values[f"{name}.int8"] * self._values[f"{name}.scale"]
        except KeyError:
            raise ReleaseError(f"the model has no {name}: it was not made by `xuankan model`") from None

    def dense(self, name: str) -> tuple[Floats, Floats]:
        """Weight [in, out] and bias [out] of a linear layer."""
        if name not in self._quantized:
            return self.get(f"{name}.weight"), self.get(f"{name}.bias")
        source, scale, _, weight, step, _, bias, *_ = self._quantized[name]
        steps = self._values[step]
        # Input channels were divided by the balance's inverse before quantization, weights multiplied by it.
        balance = self._values.get(f"{source.removesuffix('.int8')}.balance", np.ones(1, np.float32))
        decoded = self._values[weight] * steps * balance.reshape(-1, 1)
        return decoded.astype(np.float32), (self._values[bias] * (self._values[scale] * steps)).astype(
            np.float32
        )


def _tensors(weights: _Weights, shape: Architecture) -> dict[str, Floats]:
    tensors = _body(weights, shape, pooled=True)
    for name, source in (("bert.pooler.dense", "pooler"), ("classifier", "logits")):
        weight, bias = weights.dense(source)
        tensors |= {f"{name}.weight": weight.T, f"{name}.bias": bias}
    return {name: np.ascontiguousarray(value, dtype=np.float32) for name, value in tensors.items()}


def _body(weights: _Weights, shape: Architecture, *, pooled: bool) -> dict[str, Floats]:
    """Embeddings and layers; if `pooled`, the last layer is written for the first token only."""
    hidden, last = shape.hidden_size, shape.layers - 1
    tensors: dict[str, Floats] = {}

    def linear(name: str, weight: Floats, bias: Floats) -> None:
        tensors[f"{name}.weight"] = np.ascontiguousarray(weight.T, dtype=np.float32)
        tensors[f"{name}.bias"] = bias.astype(np.float32)

    def norm(name: str, source: str) -> None:
        tensors[f"{name}.weight"] = weights.get(f"{source}.scale")
        tensors[f"{name}.bias"] = weights.get(f"{source}.shift")

    prefix = "bert.embeddings"
    places = weights.get("embeddings.places").reshape(-1, 2, hidden)
    tensors[f"{prefix}.word_embeddings.weight"] = weights.get(WORD_EMBEDDINGS)
    # The graph keeps sums of position and segment: any split of them gives the same sums.
    segment = (places[:, 1] - places[:, 0]).mean(axis=0)
    tensors[f"{prefix}.position_embeddings.weight"] = (places[:, 0] + places[:, 1] - segment) / 2
    tensors[f"{prefix}.token_type_embeddings.weight"] = np.stack([np.zeros_like(segment), segment])
    norm(f"{prefix}.LayerNorm", "embeddings.norm")
    unscale = np.float32(np.sqrt(hidden // shape.heads))
    for layer in range(shape.layers):
        alone = pooled and layer == last
        name = f"layer.{layer}" if alone else f"{TOKEN_DENSE}layer.{layer}"
        target = f"bert.encoder.layer.{layer}"
        query, bias = weights.dense(f"{name}.query")
        linear(f"{target}.attention.self.query", query * unscale, bias * unscale)
        if alone:  # [heads, size, hidden] and [heads, hidden, size]
            key = weights.get(f"{name}.key.weight").transpose(2, 0, 1).reshape(hidden, hidden)
            value = weights.get(f"{name}.value.weight").transpose(1, 0, 2).reshape(hidden, hidden)
        else:
            key, value = weights.dense(f"{name}.key")[0], weights.dense(f"{name}.value")[0]
        linear(f"{target}.attention.self.key", key, np.zeros(hidden, np.float32))
        linear(f"{target}.attention.self.value", value, np.zeros(hidden, np.float32))
        linear(f"{target}.attention.output.dense", *weights.dense(f"{name}.attention.output"))
        norm(f"{target}.attention.output.LayerNorm", f"{name}.attention.norm")
        linear(f"{target}.intermediate.dense", *weights.dense(f"{name}.inner"))
        linear(f"{target}.output.dense", *weights.dense(f"{name}.output"))
        norm(f"{target}.output.LayerNorm", f"{name}.norm")
    return tensors


def _config(shape: Architecture, weights: _Weights) -> dict[str, Any]:
    return {
        "architectures": ["BertForSequenceClassification"],
        "model_type": "bert",
        "hidden_act": "relu" if weights.relu else "gelu_new",
        "hidden_size": shape.hidden_size,
        "id2label": {"0": "LABEL_0"},
        "intermediate_size": shape.intermediate_size,
        "label2id": {"LABEL_0": 0},
        "layer_norm_eps": weights.epsilon,
        "max_position_embeddings": weights.positions,
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "position_embedding_type": "absolute",
        "type_vocab_size": 2,
        "vocab_size": shape.vocabulary_size,
    }
