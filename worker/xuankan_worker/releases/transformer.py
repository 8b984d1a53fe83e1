# Typed loosely: torch is in the `train` extra only, and its own annotations are not strict.
# pyright: basic, reportMissingImports=false
"""BERT and MPNet encoders over packed sequences (see `packing.py`), for training. Needs the `train` extra.

Packed, so that no padding is computed. On a GPU BERT's attention runs in FlashAttention's kernels for
sequences of different lengths; MPNet's has a bias that those do not know, so it alone is padded. The layers
run in bfloat16 there; weights, and so their gradients, are float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from xuankan.errors import ReleaseError
from xuankan_worker.releases.checkpoint import mpnet_buckets
from xuankan_worker.releases.packing import Packed


class PackedBatch:
    """A `Packed` on a device."""

    def __init__(self, packed: Packed, device: torch.device) -> None:
        def move(array: NDArray[np.int32]) -> Tensor:
            tensor = torch.from_numpy(array)
            return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor

        self.ids, self.types, self.positions = move(packed.ids), move(packed.types), move(packed.positions)
        self.starts = move(packed.starts)
        lengths = np.diff(packed.starts)
        self.longest = int(lengths.max())
        self.sequences = len(lengths)
        self.lengths = move(lengths.astype(np.int32))
        self.owner = move(np.repeat(np.arange(len(lengths), dtype=np.int32), lengths))


class _Pad(torch.autograd.Function):
    """Packed to padded rows. Its own gradient, as indexing's sorts its places first."""

    @staticmethod
    def forward(ctx: Any, packed: Tensor, places: Tensor, rows: int) -> Tensor:
        ctx.save_for_backward(places)
        return packed.new_zeros(rows, packed.shape[1]).index_copy_(0, places, packed)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore
        (places,) = ctx.saved_tensors
        return gradient.index_select(0, places), None, None


class _Unpad(torch.autograd.Function):
    """Padded rows to packed."""

    @staticmethod
    def forward(ctx: Any, padded: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        ctx.rows = len(padded)
        return padded.index_select(0, places)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # pyright: ignore
        (places,) = ctx.saved_tensors
        return gradient.new_zeros(ctx.rows, gradient.shape[1]).index_copy_(0, places, gradient), None


class _Padded:
    """Where attention's rows lie padded, and what is added to its logits; shared by a batch's layers."""

    def __init__(self, relative: Tensor | None, batch: PackedBatch, dtype: torch.dtype) -> None:
        self.width = -(-batch.longest // 16) * 16
        self.places = (batch.owner * self.width + batch.positions).long()
        steps = torch.arange(self.width, device=batch.ids.device)
        added = ((steps[None] >= batch.lengths[:, None]) * -30000.0)[:, None, None]
        if relative is not None:
            bucket = torch.from_numpy(mpnet_buckets(self.width)).to(steps.device)
            added = added + relative.t()[:, bucket[steps[None] - steps[:, None] + self.width - 1]][None]
        self.added = added.to(dtype)


def attend(qkv: Tensor, heads: int, batch: PackedBatch, padded: _Padded | None) -> Tensor:
    """Attention within each sequence, [T, 3·H] -> [T, H]."""
    size = qkv.shape[1] // 3 // heads
    if padded is not None:
        rows = _Pad.apply(qkv, padded.places, batch.sequences * padded.width)
        query, key, value = rows.view(batch.sequences, padded.width, 3, heads, size).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=padded.added)
        return _Unpad.apply(mixed.transpose(1, 2).reshape(-1, heads * size), padded.places)
    from torch.nn.attention import varlen

    query, key, value = qkv.view(-1, 3, heads, size).unbind(1)
    packed_attention: Any = varlen.varlen_attn
    starts, longest = batch.starts, batch.longest
    return packed_attention(query, key, value, starts, starts, longest, longest).flatten(1)


def _after_attention(
    mixed: Tensor, hidden: Tensor, weights: list[Tensor], epsilon: float, dropout: float
) -> Tensor:
    """The rest of a layer; a function of its weights, so that one compilation serves all layers."""
    out_w, out_b, scale1, shift1, inner_w, inner_b, outer_w, outer_b, scale2, shift2 = weights
    size = (hidden.shape[1],)
    update = functional.dropout(functional.linear(mixed, out_w, out_b), dropout, dropout > 0)
    hidden = functional.layer_norm(update + hidden, size, scale1, shift1, epsilon)
    inner = functional.gelu(functional.linear(hidden, inner_w, inner_b))
    update = functional.dropout(functional.linear(inner, outer_w, outer_b), dropout, dropout > 0)
    return functional.layer_norm(update + hidden, size, scale2, shift2, epsilon)


class Layer(nn.Module):
    """One encoder layer."""

    def __init__(self, hidden: int, inner: int) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(hidden, 3 * hidden), nn.Linear(hidden, hidden)
        self.inner, self.outer = nn.Linear(hidden, inner), nn.Linear(inner, hidden)
        self.norm1, self.norm2 = nn.LayerNorm(hidden), nn.LayerNorm(hidden)

    def rest(self) -> list[Tensor]:
        """The weights that `_after_attention` wants."""
        modules = (self.out, self.norm1, self.inner, self.outer, self.norm2)
        return [tensor for module in modules for tensor in (module.weight, module.bias)]


class Transformer(nn.Module):
    """An encoder. Word embeddings stand in the order of the template's vocabulary and are never trained.

    Frozen, so that encoder and cross-encoder of one release can share the table, which is more than half of a
    small model; a term that is new to it the layers learn to read.

    Attributes:
        config: as Hugging Face has it, of the family's own names.
        rest_of_layer: `_after_attention`, or its compiled twin.
    """

    def __init__(self, config: dict[str, Any], extra_words: int = 0, dropout: float = 0.1) -> None:
        super().__init__()
        self.config, self.family, self.dropout = config, config["model_type"], dropout
        if self.family not in ("bert", "mpnet"):
            raise ReleaseError(f"model_type is {self.family!r}; bert and mpnet can be trained")
        self.hidden, self.heads = int(config["hidden_size"]), int(config["num_attention_heads"])
        self.epsilon = float(config["layer_norm_eps"])
        # Without MPNet's first rows, which are for padding: positions count from 0 here.
        skipped = 2 if self.family == "mpnet" else 0
        self.words = nn.Embedding(int(config["vocab_size"]), self.hidden)
        self.words.weight.requires_grad_(requires_grad=False)
        self.extra_words = nn.Embedding(extra_words, self.hidden) if extra_words else None
        self.places = nn.Embedding(int(config["max_position_embeddings"]) - skipped, self.hidden)
        self.types = nn.Embedding(2, self.hidden)
        self.norm = nn.LayerNorm(self.hidden)
        self.relative = nn.Embedding(32, self.heads) if self.family == "mpnet" else None
        inner, layers = int(config["intermediate_size"]), int(config["num_hidden_layers"])
        self.layers = nn.ModuleList(Layer(self.hidden, inner) for _ in range(layers))
        self.rest_of_layer: Any = _after_attention

    def compile_layers(self) -> None:
        """Fuse what is between matrix products: worth it from about a minute of training on."""
        self.rest_of_layer = torch.compile(_after_attention, dynamic=True)

    def forward(self, batch: PackedBatch, *, first_only: bool = False) -> Tensor:
        """What the last layer gives for every token, or for the first of each sequence.

        Float32 or, on a GPU, bfloat16, [T, H] or [B, H].
        """
        table = self.words.weight
        if self.extra_words is not None:
            table = torch.cat([table, self.extra_words.weight])
        hidden = (
            functional.embedding(batch.ids, table) + self.places(batch.positions) + self.types(batch.types)
        )
        rate = self.dropout if self.training else 0.0
        hidden = functional.dropout(self.norm(hidden), rate, self.training)
        if hidden.is_cuda:
            hidden = hidden.to(torch.bfloat16)
        padded = None
        if self.relative is not None or not hidden.is_cuda:
            # Never trained: its gradient would cost a sum over every pair of tokens.
            relative = None if self.relative is None else self.relative.weight.detach()
            padded = _Padded(relative, batch, hidden.dtype)
        for number, layer in enumerate(self.layers):
            weight, shift = layer.qkv.weight.to(hidden.dtype), layer.qkv.bias.to(hidden.dtype)
            mixed = attend(functional.linear(hidden, weight, shift), self.heads, batch, padded)
            if first_only and number + 1 == len(self.layers):
                first = batch.starts[:-1]
                mixed, hidden = mixed.index_select(0, first), hidden.index_select(0, first)
            rest = [tensor.to(hidden.dtype) for tensor in layer.rest()]
            hidden = self.rest_of_layer(mixed, hidden, rest, self.epsilon, rate)
        return hidden


def mean_of_tokens(hidden: Tensor, batch: PackedBatch) -> Tensor:
    """The mean over each sequence's tokens, float32 [B, H]."""
    sums = torch.zeros(batch.sequences, hidden.shape[1], device=hidden.device)
    return sums.index_add(0, batch.owner, hidden.float()) / batch.lengths[:, None]
