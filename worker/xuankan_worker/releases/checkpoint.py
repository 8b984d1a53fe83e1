"""Reads encoder cross-encoders as Hugging Face saves them, without torch or transformers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file  # pyright: ignore[reportUnknownVariableType]

from xuankan.errors import ReleaseError
from xuankan_worker.manifest import Architecture
from xuankan_worker.releases.families import FAMILIES, Family

Activation = Literal["gelu", "gelu_tanh", "relu"]
_ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}
"""By `hidden_act` of a configuration."""
MPNET_BUCKETS = 32
_RELATIVE_BIAS = "mpnet.encoder.relative_attention_bias.weight"


@dataclass(frozen=True)
class Checkpoint:
    """An encoder with a head of one logit on its first token. Weights go by BERT's names in every family.

    Attributes:
        family: `model_type` of its configuration, a key of `FAMILIES`.
        layers, heads, hidden_size, intermediate_size, vocabulary_size: the architecture.
        first_position: row of the position table that the first token has.
        max_positions: tokens of the longest row.
        epsilon: of the layer normalizations.
        activation: between the two linear layers of a feed-forward block.
        tensors: float32 weights by the family's own names; linear layers as torch keeps them, [out, in].
    """

    family: str
    layers: int
    heads: int
    hidden_size: int
    intermediate_size: int
    vocabulary_size: int
    first_position: int
    max_positions: int
    epsilon: float
    activation: Activation
    tensors: dict[str, NDArray[np.float32]]

    @classmethod
    def load(cls, directory: Path, *, scores: bool = True) -> Checkpoint:
        """Load `config.json` and `model.safetensors`.

        Args:
            directory: holds them.
            scores: whether it must have a head of one logit, as cross-encoders have.

        Raises:
            ReleaseError: a file is missing or damaged, or the architecture is another; the message names it.
        """
        config = read_config(directory)
        if reason := unsupported(config):
            raise ReleaseError(f"{directory}/config.json: {reason}")
        family = FAMILIES[config["model_type"]]
        setting = _settings(config, family)
        try:
            raw = load_file(directory / "model.safetensors")
        except Exception as error:  # safetensors raises its own kind, a subclass of Exception only
            raise ReleaseError(_unusable(directory, error)) from error
        try:
            first_position = _first_position(config, family)
            checkpoint = cls(
                family=config["model_type"],
                layers=int(setting["num_hidden_layers"]),
                heads=int(setting["num_attention_heads"]),
                hidden_size=int(setting["hidden_size"]),
                intermediate_size=int(setting["intermediate_size"]),
                vocabulary_size=int(setting["vocab_size"]),
                first_position=first_position,
                max_positions=int(setting["max_position_embeddings"]) - first_position,
                epsilon=float(setting.get("layer_norm_eps", 1e-12)),
                activation=_ACTIVATIONS[setting.get("hidden_act", "gelu")],
                tensors={name: tensor.astype(np.float32) for name, tensor in raw.items()},
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ReleaseError(f"{directory}/config.json: {error!r}") from error
        if checkpoint.layers < 2 or checkpoint.hidden_size % checkpoint.heads:
            raise ReleaseError(
                f"{directory}/config.json: {checkpoint.layers} layers of {checkpoint.hidden_size} units "
                f"in {checkpoint.heads} heads are not supported: two layers are the least"
            )
        if scores:
            checkpoint.tensor("classifier.weight", 1, checkpoint.hidden_size)
        return checkpoint

    @property
    def about(self) -> Family:
        """What is particular to the family."""
        return FAMILIES[self.family]

    @property
    def architecture(self) -> Architecture:
        """Its shape, for manifests."""
        return Architecture(
            self.family,
            self.layers,
            self.heads,
            self.hidden_size,
            self.intermediate_size,
            self.vocabulary_size,
            self.max_positions,
        )

    def tensor(self, name: str, *shape: int) -> NDArray[np.float32]:
        """A weight by BERT's name.

        Raises:
            ReleaseError: the checkpoint lacks it, or it has another shape.
        """
        own = self.about.own_name(name)
        tensor = self.tensors.get(own)
        if tensor is None:
            raise ReleaseError(f"model.safetensors has no {own}: it is no {self.about.model_class}")
        if tensor.shape != shape:
            raise ReleaseError(f"model.safetensors: {own} has shape {tensor.shape}, not {shape}")
        return tensor

    def linear(self, name: str, inputs: int, outputs: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Weight, transposed to float32 [inputs, outputs], and bias, [outputs], of a linear layer."""
        weight = self.tensor(f"{name}.weight", outputs, inputs)
        return np.ascontiguousarray(weight.T), self.tensor(f"{name}.bias", outputs)

    def norm(self, name: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Scale and shift, each float32 [hidden], of a layer normalization."""
        size = self.hidden_size
        return self.tensor(f"{name}.weight", size), self.tensor(f"{name}.bias", size)

    def places(self) -> NDArray[np.float32]:
        """Sums of position and segment embeddings, float32 [max_positions, 2, hidden]."""
        prefix, size = "bert.embeddings", self.hidden_size
        rows = self.first_position + self.max_positions
        positions = self.tensor(f"{prefix}.position_embeddings.weight", rows, size)[self.first_position :]
        table = self.tensors.get(self.about.own_name(f"{prefix}.token_type_embeddings.weight"))
        if self.about.segments:
            table = self.tensor(f"{prefix}.token_type_embeddings.weight", 2, size)
            return positions[:, None] + table
        # Without segments every token is of the first type, if there is such a table at all.
        first = np.zeros(size, np.float32) if table is None else table[0]
        return np.repeat((positions + first)[:, None], 2, axis=1)

    def relative_bias(self, positions: int) -> NDArray[np.float32] | None:
        """What each head adds to an attention logit by distance, float32 [heads, 2·positions − 1].

        Column `key − query + positions − 1`; None if the family has no such bias.
        """
        if self.family != "mpnet":
            return None
        table = self.tensors.get(_RELATIVE_BIAS)
        if table is None or table.shape != (MPNET_BUCKETS, self.heads):
            found = None if table is None else table.shape
            raise ReleaseError(
                f"model.safetensors: {_RELATIVE_BIAS} has shape {found}, not {(MPNET_BUCKETS, self.heads)}"
            )
        return np.ascontiguousarray(table[mpnet_buckets(positions)].T)


def mpnet_buckets(positions: int) -> NDArray[np.int64]:
    """MPNet's bucket of each distance `key − query`, from `1 − positions` up, int64 [2·positions − 1].

    They are T5's: exact up to 7 tokens, then logarithmic up to 128, each direction for itself.
    """
    distance = np.arange(1 - positions, positions)
    half, exact, far = MPNET_BUCKETS // 2, MPNET_BUCKETS // 4, np.float32(128)
    size = np.abs(distance)
    steps = np.log(np.maximum(size, 1).astype(np.float32) / exact) / np.log(far / exact) * (half - exact)
    bucket = np.where(size < exact, size, np.minimum(exact + steps.astype(np.int64), half - 1))
    return bucket + np.where(distance > 0, half, 0)


def read_config(directory: Path) -> dict[str, Any]:
    """A checkpoint's `config.json`.

    Raises:
        ReleaseError: there is none, or it is not a JSON object.
    """
    try:
        return dict(cast("dict[str, Any]", json.loads((directory / "config.json").read_bytes())))
    except (OSError, ValueError, TypeError) as error:
        raise ReleaseError(_unusable(directory, error)) from error


def unsupported(config: Mapping[str, Any]) -> str | None:
    """What of a configuration `Checkpoint` cannot read, and what it can; None if nothing."""
    if (kind := config.get("model_type")) not in FAMILIES:
        return f"model_type is {kind!r}; supported are {', '.join(sorted(FAMILIES))}"
    setting = _settings(config, FAMILIES[kind])
    if (found := setting.get("hidden_act", "gelu")) not in _ACTIVATIONS:
        return f"hidden_act is {found!r}; supported are {', '.join(sorted(_ACTIVATIONS))}"
    if (found := config.get("position_embedding_type", "absolute")) != "absolute":
        return f"position_embedding_type is {found!r}; only 'absolute' is supported"
    hidden = setting.get("hidden_size")
    if (found := config.get("embedding_size", hidden)) != hidden:
        return f"embedding_size is {found!r}, hidden_size {hidden!r}; only equal sizes are supported"
    return None


def longest_row(config: Mapping[str, Any]) -> int | None:
    """Tokens of the longest row that a configuration of any model seems to allow; None if it does not say."""
    try:
        positions = int(config["max_position_embeddings"])
        family = FAMILIES.get(config.get("model_type", ""))
        return positions - _first_position(config, family) if family else positions
    except (KeyError, TypeError, ValueError):
        return None


def _first_position(config: Mapping[str, Any], family: Family) -> int:
    padding = config.get("pad_token_id")
    return (1 if padding is None else int(padding)) + 1 if family.padded_positions else 0


def _settings(config: Mapping[str, Any], family: Family) -> dict[str, Any]:
    """A configuration under BERT's names."""
    own = {bert: config[name] for bert, name in family.settings if name in config}
    return {**config, **own, **dict(family.fixed)}


def _unusable(directory: Path, error: Exception) -> str:
    return f"{directory} has no usable config.json and model.safetensors: {error}"
