# Typed loosely: torch is in the `train` extra only, and its own annotations are not strict.
# pyright: basic, reportMissingImports=false
"""Between `Transformer` and checkpoints in Hugging Face's format. Needs the `train` extra."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from xuankan.errors import ReleaseError
from xuankan_worker.releases.checkpoint import read_config
from xuankan_worker.releases.families import FAMILIES
from xuankan_worker.releases.transformer import Layer, Transformer
from xuankan_worker.releases.vocabulary import word_order

Arrays = dict[str, NDArray[Any]]


def load_pretrained(
    directory: Path,
    tokenizer: Tokenizer,
    layers: int | None = None,
    extra_words: int = 0,
    dropout: float = 0.1,
) -> Transformer:
    """A `Transformer` with the weights of a checkpoint, its words in the order of `tokenizer`'s vocabulary.

    Args:
        directory: `config.json`, `model.safetensors`, and `tokenizer.json` where the vocabulary is another.
        tokenizer: of the template.
        layers: to keep, spread evenly over the checkpoint's; None keeps all.
        extra_words: tokens behind the vocabulary's, for journals.
        dropout: of hidden states in training.

    Raises:
        ReleaseError: there is no such checkpoint, or it is of another family, or lacks a weight or a word.
    """
    config = read_config(directory)
    try:
        arrays = load_file(directory / "model.safetensors")
    except Exception as error:  # safetensors raises its own kind, a subclass of Exception only
        raise ReleaseError(f"{directory}/model.safetensors cannot be read: {error}") from error
    found = int(config.get("num_hidden_layers", 0))
    kept = list(range(found))
    if layers is not None and layers != found:
        kept = [int(i * (found - 1) / (layers - 1) + 0.5) for i in range(layers)]
    config |= {"num_hidden_layers": len(kept)}
    order = word_order(directory, tokenizer, int(config["vocab_size"]))
    trained = int(config["vocab_size"]) - len(order)
    config["vocab_size"] = len(order)
    model = Transformer(config, extra_words, dropout)
    family = FAMILIES[model.family]

    def take(name: str) -> NDArray[np.float32]:
        own = family.own_name(f"bert.{name}")
        for candidate in (own, own.split(".", 1)[1]):  # bare encoders' names lack the model's
            if candidate in arrays:
                return arrays[candidate].astype(np.float32)
        raise ReleaseError(f"{directory}/model.safetensors has no {own}")

    with torch.no_grad():
        _set(model.words.weight, take("embeddings.word_embeddings.weight")[order])
        _set(model.places.weight, take("embeddings.position_embeddings.weight")[-len(model.places.weight) :])
        if model.family == "bert":
            _set(model.types.weight, take("embeddings.token_type_embeddings.weight"))
        else:
            model.types.weight.zero_().requires_grad_(requires_grad=False)
        _set_linear(model.norm, take, "embeddings.LayerNorm")
        if model.relative is not None:
            _set(model.relative.weight, take("encoder.relative_attention_bias.weight"))
            model.relative.weight.requires_grad_(requires_grad=False)
        if model.extra_words is not None:
            nn.init.normal_(model.extra_words.weight, std=0.02)
            if trained == extra_words:
                _set(model.extra_words.weight, take("embeddings.word_embeddings.weight")[len(order) :])
        for layer, source in zip(model.layers, kept, strict=True):
            _load_layer(layer, take, f"encoder.layer.{source}")
    return model


def load_heads(directory: Path, heads: Mapping[str, nn.Linear]) -> None:
    """Set linear layers to those of a checkpoint that `save_checkpoint` wrote.

    Raises:
        ReleaseError: it has no such layer.
    """
    family = FAMILIES[read_config(directory)["model_type"]]
    arrays = load_file(directory / "model.safetensors")
    with torch.no_grad():
        for name, head in heads.items():
            for part, tensor in (("weight", head.weight), ("bias", head.bias)):
                own = family.own_name(f"{name}.{part}")
                if own not in arrays or arrays[own].shape != tuple(tensor.shape):
                    raise ReleaseError(f"{directory}/model.safetensors has no {own} of {tuple(tensor.shape)}")
                _set(tensor, arrays[own].astype(np.float32))


def _load_layer(layer: Any, take: Any, prefix: str) -> None:
    parts = [f"{prefix}.attention.self.{part}" for part in ("query", "key", "value")]
    _set(layer.qkv.weight, np.concatenate([take(f"{part}.weight") for part in parts]))
    _set(layer.qkv.bias, np.concatenate([take(f"{part}.bias") for part in parts]))
    for module, name in _modules(layer):
        _set_linear(module, take, f"{prefix}.{name}")


def _modules(layer: Layer) -> tuple[tuple[nn.Module, str], ...]:
    return (
        (layer.out, "attention.output.dense"),
        (layer.norm1, "attention.output.LayerNorm"),
        (layer.inner, "intermediate.dense"),
        (layer.outer, "output.dense"),
        (layer.norm2, "output.LayerNorm"),
    )


def _set(tensor: Tensor, value: NDArray[np.float32]) -> None:
    tensor.copy_(torch.from_numpy(np.ascontiguousarray(value)))


def _set_linear(module: Any, take: Any, name: str) -> None:
    _set(module.weight, take(f"{name}.weight"))
    _set(module.bias, take(f"{name}.bias"))


def arrays_of(model: Transformer) -> Arrays:
    """The model's weights under its family's own names, float16."""
    family, half = FAMILIES[model.family], torch.float16
    arrays: Arrays = {}

    def put(name: str, tensor: Tensor) -> None:
        arrays[family.own_name(f"bert.{name}")] = tensor.detach().to("cpu", half).numpy()

    words = model.words.weight
    if model.extra_words is not None:
        words = torch.cat([words, model.extra_words.weight])
    put("embeddings.word_embeddings.weight", words)
    places = model.places.weight
    if family.padded_positions:
        places = torch.cat([torch.zeros_like(places[:2]), places])
    put("embeddings.position_embeddings.weight", places)
    if family.segments:
        put("embeddings.token_type_embeddings.weight", model.types.weight)
    put("embeddings.LayerNorm.weight", model.norm.weight)
    put("embeddings.LayerNorm.bias", model.norm.bias)
    if model.relative is not None:
        put("encoder.relative_attention_bias.weight", model.relative.weight)
    for number, layer in enumerate(model.layers):
        prefix = f"encoder.layer.{number}"
        for part, weight, bias in zip(
            ("query", "key", "value"), layer.qkv.weight.chunk(3), layer.qkv.bias.chunk(3), strict=True
        ):
            put(f"{prefix}.attention.self.{part}.weight", weight)
            put(f"{prefix}.attention.self.{part}.bias", bias)
        for module, name in _modules(layer):
            put(f"{prefix}.{name}.weight", module.weight)
            put(f"{prefix}.{name}.bias", module.bias)
    return arrays


def save_checkpoint(
    directory: Path, model: Transformer, heads: Mapping[str, nn.Linear], tokenizer_json: bytes
) -> None:
    """Write `config.json`, `model.safetensors` (float16) and `tokenizer.json`.

    Args:
        directory: is made.
        model: its weights go by its family's own names.
        heads: linear layers by BERT's names.
        tokenizer_json: of the template.
    """
    directory.mkdir(parents=True, exist_ok=True)
    arrays, family = arrays_of(model), FAMILIES[model.family]
    for name, head in heads.items():
        for part, tensor in (("weight", head.weight), ("bias", head.bias)):
            arrays[family.own_name(f"{name}.{part}")] = tensor.detach().to("cpu", torch.float16).numpy()
    config = {**model.config, "num_hidden_layers": len(model.layers)}
    config["vocab_size"] = len(arrays[family.own_name("bert.embeddings.word_embeddings.weight")])
    save_file(arrays, directory / "model.safetensors")
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (directory / "tokenizer.json").write_bytes(tokenizer_json)
