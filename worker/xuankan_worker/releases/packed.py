# Typed loosely: torch is in the `train` extra only, and its own annotations are not strict.
# pyright: basic, reportMissingImports=false
"""A BERT cross-encoder that reads packed sequences (see `packing.py`), for training. Needs the `train` extra.

The weights live in transformers' `BertForSequenceClassification`, which also writes the checkpoint; only the
forward pass is ours. On a GPU attention runs in FlashAttention's kernels for sequences of different lengths
(`torch.nn.attention.varlen`), so that no padding is computed, and the last layer computes `[CLS]` alone.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, BertForSequenceClassification

from xuankan.errors import ReleaseError
from xuankan_worker.releases.packing import Packed


class PackedBatch:
    """A `Packed` on a device."""

    def __init__(self, packed: Packed, device: torch.device) -> None:
        def move(array: NDArray[np.int32]) -> Tensor:
            tensor = torch.from_numpy(array)
            return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor

        self.ids, self.types, self.positions = move(packed.ids), move(packed.types), move(packed.positions)
        self.starts = move(packed.starts)
        self.longest = int(np.diff(packed.starts).max())


def attend(
    query: Tensor, key: Tensor, value: Tensor, starts: tuple[Tensor, Tensor], longest: tuple[int, int]
) -> Tensor:
    """Attention within each sequence; [Tq, H, D] × [Tk, H, D] × [Tk, H, D] -> [Tq, H, D].

    Args:
        query: packed heads.
        key: packed heads.
        value: packed heads.
        starts: int32 [B + 1] twice, where each sequence begins among the queries and among the keys.
        longest: longest sequence among the queries and among the keys.
    """
    if query.is_cuda:
        from torch.nn.attention import varlen

        packed_attention: Any = varlen.varlen_attn
        return packed_attention(query, key, value, starts[0], starts[1], longest[0], longest[1])
    # Elsewhere one masked attention over everything: quadratic, for smoke tests.
    owner_q, owner_k = (
        torch.repeat_interleave(torch.arange(len(s) - 1, device=s.device), torch.diff(s)) for s in starts
    )
    mask = owner_q[:, None] == owner_k[None, :]
    heads = (tensor.transpose(0, 1)[None] for tensor in (query, key, value))
    return functional.scaled_dot_product_attention(*heads, attn_mask=mask)[0].transpose(0, 1)


class PackedLayer(nn.Module):
    """One encoder layer of transformers' BERT, run on packed tokens in the precision that they come in."""

    layer: Any

    def __init__(self, layer: Any, heads: int) -> None:
        super().__init__()
        self.layer = layer
        self.heads = heads

    def forward(self, hidden: Tensor, starts: Tensor, longest: int) -> Tensor:
        """[T, H] -> [T, H]."""
        own = self.layer.attention.self
        query, key, value = self._project(hidden, own.query, own.key, own.value)
        mixed = attend(query, key, value, (starts, starts), (longest, longest))
        return self._after(mixed.flatten(1), hidden)

    def first_tokens(self, hidden: Tensor, starts: Tensor, longest: int) -> Tensor:
        """[T, H] -> [B, H]: the layer's output at the first token of each sequence."""
        own = self.layer.attention.self
        first = hidden[starts[:-1].long()]
        (query,) = self._project(first, own.query)
        key, value = self._project(hidden, own.key, own.value)
        each = torch.arange(len(starts), dtype=torch.int32, device=starts.device)
        mixed = attend(query, key, value, (each, starts), (1, longest))
        return self._after(mixed.flatten(1), first)

    def _project(self, hidden: Tensor, *parts: Any) -> tuple[Tensor, ...]:
        weight = torch.cat([part.weight for part in parts]).to(hidden.dtype)
        bias = torch.cat([part.bias for part in parts]).to(hidden.dtype)
        return functional.linear(hidden, weight, bias).view(len(hidden), len(parts), self.heads, -1).unbind(1)

    def _after(self, mixed: Tensor, residual: Tensor) -> Tensor:
        attention, output = self.layer.attention.output, self.layer.output
        hidden = _normalize(attention, _linear(mixed, attention.dense), residual)
        inner = self.layer.intermediate.intermediate_act_fn(_linear(hidden, self.layer.intermediate.dense))
        return _normalize(output, _linear(inner, output.dense), hidden)


def _linear(hidden: Tensor, layer: Any) -> Tensor:
    return functional.linear(hidden, layer.weight.to(hidden.dtype), layer.bias.to(hidden.dtype))


def _normalize(module: Any, update: Tensor, residual: Tensor) -> Tensor:
    norm = module.LayerNorm
    weight, bias = norm.weight.to(update.dtype), norm.bias.to(update.dtype)
    return functional.layer_norm(
        module.dropout(update) + residual, norm.normalized_shape, weight, bias, norm.eps
    )


class PackedCrossEncoder(nn.Module):
    """Scores packed pairs, and, for training, classifies manuscripts alone.

    Args:
        base: directory of a BERT checkpoint in Hugging Face's format.
        journals: outputs of the auxiliary classifier, which is not part of the checkpoint.
        activation: name of the feed-forward activation in place of the checkpoint's own.
        layers: encoder layers to keep, spread evenly over the checkpoint's.
        dropout: of hidden states.

    Raises:
        ReleaseError: there is no such checkpoint, or it is no BERT.
    """

    def __init__(
        self, base: Path, journals: int, activation: str | None, layers: int | None, dropout: float
    ) -> None:
        super().__init__()
        if not (base / "config.json").is_file():
            raise ReleaseError(f"{base} holds no checkpoint: it has no config.json")
        try:
            config = AutoConfig.from_pretrained(str(base), local_files_only=True)
        except (OSError, ValueError) as error:
            raise ReleaseError(f"{base} holds no checkpoint: {error}") from error
        if config.model_type != "bert":
            raise ReleaseError(f"{base} is a {config.model_type} model; the cross-encoder starts from a BERT")
        config.num_labels = 1
        config.hidden_dropout_prob = dropout
        config.attention_probs_dropout_prob = 0.0  # FlashAttention's packed kernels have none
        config.hidden_act = activation or config.hidden_act
        # transformers' own annotations take its submodules for tensors.
        self.model: Any = BertForSequenceClassification.from_pretrained(
            str(base), config=config, local_files_only=True, dtype=torch.float32
        )
        if layers is not None and layers != config.num_hidden_layers:
            keep = [
                math.floor(i * (config.num_hidden_layers - 1) / (layers - 1) + 0.5) for i in range(layers)
            ]
            encoder = self.model.bert.encoder
            encoder.layer = nn.ModuleList([encoder.layer[i] for i in keep])
            self.model.config.num_hidden_layers = layers
        self._layers = [
            PackedLayer(layer, config.num_attention_heads) for layer in self.model.bert.encoder.layer
        ]
        self.classifier = nn.Linear(config.hidden_size, journals)

    def first_tokens(self, batch: PackedBatch) -> Tensor:
        """The encoder's output at `[CLS]` of each sequence, float32 [B, H].

        On a GPU the layers run in bfloat16; the weights, and so their gradients, are float32.
        """
        embeddings = self.model.bert.embeddings
        hidden = (
            embeddings.word_embeddings(batch.ids)
            + embeddings.token_type_embeddings(batch.types)
            + embeddings.position_embeddings(batch.positions)
        )
        hidden = embeddings.dropout(embeddings.LayerNorm(hidden))
        if hidden.is_cuda:
            hidden = hidden.to(torch.bfloat16)
        for layer in self._layers[:-1]:
            hidden = layer(hidden, batch.starts, batch.longest)
        return self._layers[-1].first_tokens(hidden, batch.starts, batch.longest).float()

    def scores(self, first: Tensor) -> Tensor:
        """One logit for each `[CLS]` output, float32 [B]."""
        pooled = torch.tanh(self.model.bert.pooler.dense(first))
        return self.model.classifier(self.model.dropout(pooled))[:, 0]

    def save(self, directory: Path) -> None:
        """Write `config.json` and `model.safetensors`, in float16, without the auxiliary classifier."""
        state = {
            name: tensor.detach().to("cpu", torch.float16) for name, tensor in self.model.state_dict().items()
        }
        config = self.model.config
        twin: Any = BertForSequenceClassification(config)
        twin.to(torch.float16)
        twin.load_state_dict(state)
        twin.save_pretrained(str(directory))
