"""Reads BERT cross-encoders as Hugging Face saves them, without torch or transformers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file  # pyright: ignore[reportUnknownVariableType]

from xuankan.errors import ReleaseError

Activation = Literal["gelu", "gelu_tanh", "relu"]
_ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}
"""By `hidden_act` of a configuration."""


@dataclass(frozen=True)
class Checkpoint:
    """A BERT encoder with a pooler and a head of one logit (`BertForSequenceClassification`).

    Attributes:
        layers, heads, hidden_size, intermediate_size, vocabulary_size, max_positions: the architecture.
        epsilon: of the layer normalizations.
        activation: between the two linear layers of a feed-forward block.
        tensors: float32 weights by name; linear layers as torch keeps them, [out, in].
    """

    layers: int
    heads: int
    hidden_size: int
    intermediate_size: int
    vocabulary_size: int
    max_positions: int
    epsilon: float
    activation: Activation
    tensors: dict[str, NDArray[np.float32]]

    @classmethod
    def load(cls, directory: Path) -> Checkpoint:
        """Load `config.json` and `model.safetensors`.

        Raises:
            ReleaseError: a file is missing or damaged, or the architecture is another; the message names it.
        """
        try:
            config = cast("dict[str, Any]", json.loads((directory / "config.json").read_bytes()))
            raw = load_file(directory / "model.safetensors")
        except Exception as error:  # safetensors raises its own kind, a subclass of Exception only
            raise ReleaseError(
                f"{directory} has no usable config.json and model.safetensors: {error}"
            ) from error
        wanted = {"model_type": "bert", "position_embedding_type": "absolute"}
        for key, value in wanted.items():
            if (found := config.get(key, value)) != value:
                raise ReleaseError(
                    f"{directory}/config.json: {key} is {found!r}; only {value!r} is supported"
                )
        if (activation := config.get("hidden_act", "gelu")) not in _ACTIVATIONS:
            raise ReleaseError(
                f"{directory}/config.json: hidden_act is {activation!r}; "
                f"supported are {', '.join(sorted(_ACTIVATIONS))}"
            )
        try:
            checkpoint = cls(
                layers=int(config["num_hidden_layers"]),
                heads=int(config["num_attention_heads"]),
                hidden_size=int(config["hidden_size"]),
                intermediate_size=int(config["intermediate_size"]),
                vocabulary_size=int(config["vocab_size"]),
                max_positions=int(config["max_position_embeddings"]),
                epsilon=float(config.get("layer_norm_eps", 1e-12)),
                activation=_ACTIVATIONS[activation],
                tensors={name: tensor.astype(np.float32) for name, tensor in raw.items()},
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ReleaseError(f"{directory}/config.json: {error!r}") from error
        if checkpoint.layers < 2 or checkpoint.hidden_size % checkpoint.heads:
            raise ReleaseError(
                f"{directory}/config.json: {checkpoint.layers} layers of {checkpoint.hidden_size} units "
                f"in {checkpoint.heads} heads are not supported: two layers are the least"
            )
        checkpoint.tensor("classifier.weight", 1, checkpoint.hidden_size)
        return checkpoint

    def tensor(self, name: str, *shape: int) -> NDArray[np.float32]:
        """A weight by name.

        Raises:
            ReleaseError: the checkpoint lacks it, or it has another shape.
        """
        tensor = self.tensors.get(name)
        if tensor is None:
            raise ReleaseError(f"model.safetensors has no {name}: it is no BertForSequenceClassification")
        if tensor.shape != shape:
            raise ReleaseError(f"model.safetensors: {name} has shape {tensor.shape}, not {shape}")
        return tensor

    def linear(self, name: str, inputs: int, outputs: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Weight, transposed to float32 [inputs, outputs], and bias, [outputs], of a linear layer."""
        weight = self.tensor(f"{name}.weight", outputs, inputs)
        return np.ascontiguousarray(weight.T), self.tensor(f"{name}.bias", outputs)

    def norm(self, name: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Scale and shift, each float32 [hidden], of a layer normalization."""
        size = self.hidden_size
        return self.tensor(f"{name}.weight", size), self.tensor(f"{name}.bias", size)
