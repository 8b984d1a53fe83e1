"""Writes the ONNX graph of a cross-encoder for a GPU, straight from a checkpoint: FP16, for TensorRT.

It computes what the checkpoint computes, in the form that TensorRT fuses into eight kernels a layer. Shares
of time are of BERT-base with 16 rows on Hopper, as measured with TensorRT-RTX 1.6:

- Tokens lie sequence-major: row s·B + b of [S·B, hidden] is token s of row b. Attention is written in three
  dimensions, [B·heads, S, S]; only so is it one kernel with no copies around it.
- The host transposes the tokens and finds their places (`engines.sequence`): 2 % faster than doing it here.
- Lengths instead of a mask: a token beyond its row's length gets a logit of −30000, which FP16 holds and
  softmax makes zero.
- 1/√d is folded into the query. The key bias adds the same to all logits of a query, which softmax cancels,
  so it is dropped; attention weights sum to 1, so the value bias moves through the output projection. Keys
  and values are then one MatMul without bias: 3 % faster than two.
- GELU is computed by tanh, in checkpoints that use erf too: 7 % faster. They differ by 0.0005 at most, which
  is what FP16 rounds at 1.
- The score depends on the first token alone, so the last layer is computed for that one only, and without
  projecting every token to keys and values, 1 % faster: `q (x Wk)ᵀ = (q Wkᵀ) xᵀ` and `p (x Wv) = (p x) Wv`.
- The last linear layer runs in float32: logits in FP16 would tie.

Inputs: `tokens` int32 [S, B], `places` int32 [S, B], 2 · position + segment of each token, and `lengths`
int32 [B], the real tokens of each row, at least 1. Output: `scores` float32 [B], logits. B and S are dynamic,
S up to the checkpoint's positions rounded up to 16; every shape follows from that of `tokens`.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from xuankan.errors import ReleaseError
from xuankan_worker.releases.checkpoint import Activation, Checkpoint
from xuankan_worker.releases.graph import GraphWriter

OPSET = 21
"""Of the graphs for GPUs: TensorRT 10.13 reads it; Gelu (20) and LayerNormalization (17) are operators."""
_IR_VERSION = 10
_MASKED = -30000.0
_STEP = 16
"""Engines are built for lengths that are multiples of this; places beyond the checkpoint's are padding."""


def write_encoder_graph(checkpoint: Checkpoint) -> onnx.ModelProto:
    """The FP16 graph of a checkpoint of any family in `families`.

    Raises:
        ReleaseError: the checkpoint lacks a tensor, or one has another shape or values beyond FP16's range.
    """
    return _CrossEncoderGraph(checkpoint).write()


def computed_activation(checkpoint: Checkpoint) -> Activation:
    """The activation that the graph has in place of the checkpoint's."""
    return "gelu_tanh" if checkpoint.activation == "gelu" else checkpoint.activation


class SequenceGraph:
    """Writes embeddings and layers; subclasses write what becomes of them."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._c = checkpoint
        self._g = GraphWriter()
        self._hidden, self._heads = checkpoint.hidden_size, checkpoint.heads
        self._head_size = checkpoint.hidden_size // checkpoint.heads
        self._positions = -(-checkpoint.max_positions // _STEP) * _STEP

    def _start(self) -> tuple[str, tuple[str, str]]:
        """The sums of embeddings, and the names of the normalization that is still to come."""
        self._shapes()
        sums = self._embeddings()
        self._masks()
        return sums, ("embeddings.norm", "bert.embeddings.LayerNorm")

    def _layer(self, layer: int, sums: str, norm: tuple[str, str]) -> tuple[str, tuple[str, str]]:
        """A layer on every token: from sums before a normalization to the like."""
        x = self._norm(norm[0], sums, norm[1])
        return self._rest(layer, x, self._attention(layer, x))

    def _model(self, name: str, outputs: list[onnx.ValueInfoProto]) -> onnx.ModelProto:
        inputs = [("tokens", ("S", "B")), ("places", ("S", "B")), ("lengths", ("B",))]
        graph = self._g.graph(
            name,
            [helper.make_tensor_value_info(name, TensorProto.INT32, shape) for name, shape in inputs],
            outputs,
        )
        opsets = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, producer_name="xuankan", ir_version=_IR_VERSION, opset_imports=opsets)

    def _shapes(self) -> None:
        """S, B and the shape of heads, int64 [n]."""
        g = self._g
        self._s = g.node("Shape", "S", "tokens", start=0, end=1)
        self._b = g.node("Shape", "B", "tokens", start=1, end=2)
        self._rows = g.node("Mul", "B.heads", self._b, g.ints(self._heads))
        size = g.ints(self._head_size)
        self._by_head = g.node("Concat", "shape.heads", self._s, self._rows, size, axis=0)

    def _embeddings(self) -> str:
        """The sums of embeddings, [S·B, hidden]."""
        g, c = self._g, self._c
        words = c.tensor("bert.embeddings.word_embeddings.weight", c.vocabulary_size, self._hidden)
        places = np.pad(c.places(), ((0, self._positions - c.max_positions), (0, 0), (0, 0)), mode="edge")
        words = self._half("embeddings.words", words)
        places = self._half("embeddings.places", places.reshape(-1, self._hidden))
        word = g.node("Gather", "embeddings.word", words, "tokens")
        x = g.node("Add", "embeddings.sum", word, g.node("Gather", "embeddings.place", places, "places"))
        return g.node("Reshape", "embeddings", x, g.ints(-1, self._hidden))

    def _masks(self) -> None:
        """Which logits count, bool [B·heads, 1, S], and what the family adds to them."""
        g, c = self._g, self._c
        columns = g.constant("columns", np.arange(self._positions, dtype=np.int32))
        self._column = g.node("Slice", "column", columns, g.ints(0), self._s)  # [S]
        length = g.node("Unsqueeze", "lengths.rows", "lengths", g.ints(1))
        shape = g.node("Concat", "shape.lengths", self._b, g.ints(self._heads), axis=0)
        length = g.node("Expand", "lengths.heads", length, shape)
        length = g.node("Reshape", "lengths.column", length, g.ints(-1, 1, 1))
        self._real = g.node("Less", "real", self._column, length)
        self._masked = g.constant("masked", np.float16(_MASKED))
        self._bias: str | None = None
        if (bias := c.relative_bias(self._positions)) is not None:
            query = g.node("Unsqueeze", "bias.query", self._column, g.ints(1))
            place = g.node("Sub", "bias.distance", self._column, query)  # [S, S]
            place = g.node("Add", "bias.place", place, g.constant("bias.zero", np.int32(self._positions - 1)))
            table = self._half("bias.table", bias)
            self._bias = g.node("Gather", "bias", table, place, axis=1)  # [heads, S, S]

    def _attention(self, layer: int, x: str) -> str:
        """What attention mixes for every token, [S·B, hidden]."""
        g, name = self._g, f"layer.{layer}"
        query = g.node("Reshape", f"{name}.query.heads", self._query(layer, x), self._by_head)
        query = g.node("Transpose", f"{name}.query.rows", query, perm=[1, 0, 2])  # [B·heads, S, d]
        weights = np.stack((self._projection(layer, "key"), self._projection(layer, "value")))
        tokens = g.node("Unsqueeze", f"{name}.tokens", x, g.ints(0))
        both = g.node("MatMul", f"{name}.key_value", tokens, self._half(f"{name}.key_value.weight", weights))
        parts = g.outputs("Split", f"{name}.split", [both], ["key", "value"], axis=0, num_outputs=2)
        key, value = (g.node("Reshape", f"{part}.heads", part, self._by_head) for part in parts)
        key = g.node("Transpose", f"{name}.key.columns", key, perm=[1, 2, 0])  # [B·heads, d, S]
        value = g.node("Transpose", f"{name}.value.rows", value, perm=[1, 0, 2])
        logits = self._biased(name, g.node("MatMul", f"{name}.logits", query, key))
        logits = g.node("Where", f"{name}.masked", self._real, logits, self._masked)
        shares = g.node("Softmax", f"{name}.softmax", logits, axis=-1)
        mixed = g.node("MatMul", f"{name}.mixed", shares, value)
        mixed = g.node("Transpose", f"{name}.mixed.tokens", mixed, perm=[1, 0, 2])
        return g.node("Reshape", f"{name}.attention", mixed, g.ints(-1, self._hidden))

    def _biased(self, name: str, logits: str) -> str:
        """Logits [B·heads, S, S] with the relative bias of each head."""
        if self._bias is None:
            return logits
        g, heads = self._g, self._g.ints(self._heads)
        shape = g.node("Concat", f"{name}.shape.4d", self._b, heads, self._s, self._s, axis=0)
        logits = g.node("Reshape", f"{name}.logits.4d", logits, shape)
        logits = g.node("Add", f"{name}.logits.biased", logits, self._bias)
        shape = g.node("Concat", f"{name}.shape.3d", self._rows, self._s, self._s, axis=0)
        return g.node("Reshape", f"{name}.logits.3d", logits, shape)

    def _query(self, layer: int, x: str) -> str:
        source = f"bert.encoder.layer.{layer}.attention.self.query"
        weight, bias = self._c.linear(source, self._hidden, self._hidden)
        scale = np.float32(1 / np.sqrt(self._head_size))
        return self._dense(f"layer.{layer}.query", x, weight * scale, bias * scale)

    def _projection(self, layer: int, part: str) -> NDArray[np.float32]:
        """Of keys or values, float32 [hidden, hidden] without its bias."""
        name = f"bert.encoder.layer.{layer}.attention.self.{part}"
        return self._c.linear(name, self._hidden, self._hidden)[0]

    def _rest(self, layer: int, x: str, mixed: str) -> tuple[str, tuple[str, str]]:
        """Of a layer, everything between the attention and the last normalization, and that one's names."""
        g, c, hidden = self._g, self._c, self._hidden
        name, source = f"layer.{layer}", f"bert.encoder.layer.{layer}"
        weight, bias = c.linear(f"{source}.attention.output.dense", hidden, hidden)
        _, value_bias = c.linear(f"{source}.attention.self.value", hidden, hidden)
        bias = np.add(bias, value_bias @ weight, dtype=np.float32)
        out = self._dense(f"{name}.attention.output", mixed, weight, bias)
        x = g.node("Add", f"{name}.attention.sum", out, x)
        x = self._norm(f"{name}.attention.norm", x, f"{source}.attention.output.LayerNorm")
        inner = c.linear(f"{source}.intermediate.dense", hidden, c.intermediate_size)
        inner = self._dense(f"{name}.inner", x, *inner)
        inner = self._activation(f"{name}.activation", inner, computed_activation(c))
        out = c.linear(f"{source}.output.dense", c.intermediate_size, hidden)
        x = g.node("Add", f"{name}.sum", self._dense(f"{name}.output", inner, *out), x)
        return x, (f"{name}.norm", f"{source}.output.LayerNorm")

    def _activation(self, name: str, x: str, kind: str) -> str:
        if kind in ("relu", "tanh"):
            return self._g.node(kind.capitalize(), name, x)
        return self._g.node("Gelu", name, x, approximate="tanh" if kind == "gelu_tanh" else "none")

    def _dense(self, name: str, x: str, weight: NDArray[np.float32], bias: NDArray[np.float32]) -> str:
        weights = self._half(f"{name}.weight", weight), self._half(f"{name}.bias", bias)
        return self._g.node("Gemm", name, x, *weights)

    def _norm(self, name: str, x: str, source: str) -> str:
        scale, shift = self._c.norm(source)
        weights = self._half(f"{name}.scale", scale), self._half(f"{name}.shift", shift)
        return self._g.node("LayerNormalization", name, x, *weights, epsilon=self._c.epsilon)

    def _half(self, name: str, value: NDArray[np.float32]) -> str:
        """An FP16 constant."""
        if not (largest := np.abs(value).max()) <= np.finfo(np.float16).max:
            raise ReleaseError(f"{name}: its largest value {largest:g} is beyond FP16")
        return self._g.constant(name, value.astype(np.float16))


class _CrossEncoderGraph(SequenceGraph):
    def write(self) -> onnx.ModelProto:
        g, c = self._g, self._c
        sums, norm = self._start()
        for layer in range(c.layers - 1):
            sums, norm = self._layer(layer, sums, norm)
        last = c.layers - 1
        # Normalized for themselves, the first tokens (rows 0 to B) keep the slice out of the kernel for all.
        first = g.node("Slice", "first.sum", sums, g.ints(0), self._b, g.ints(0))
        first = self._norm("first", first, norm[1])
        x = self._norm(norm[0], sums, norm[1])
        sums, norm = self._rest(last, first, self._last_attention(last, x, first))
        self._head(self._norm(norm[0], sums, norm[1]))
        scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ("B",))
        return self._model("cross-encoder", [scores])

    def _last_attention(self, layer: int, x: str, first: str) -> str:
        """What the last attention mixes for the first tokens, [B, hidden], without any keys and values."""
        g, name = self._g, f"layer.{layer}"
        hidden, heads, size = self._hidden, self._heads, self._head_size
        query = g.node("Reshape", f"{name}.query.heads", self._query(layer, first), g.ints(-1, heads, size))
        query = g.node("Transpose", f"{name}.query.rows", query, perm=[1, 0, 2])  # [heads, B, d]
        keys = self._projection(layer, "key").reshape(hidden, heads, size).transpose(1, 2, 0)
        query = g.node("MatMul", f"{name}.query.keys", query, self._half(f"{name}.key.weight", keys))
        query = g.node("Transpose", f"{name}.query.hidden", query, perm=[1, 0, 2])  # [B, heads, hidden]
        shape = g.node("Concat", f"{name}.shape.tokens", self._s, self._b, g.ints(hidden), axis=0)
        tokens = g.node("Reshape", f"{name}.tokens", x, shape)
        rows = g.node("Transpose", f"{name}.rows", tokens, perm=[1, 0, 2])  # [B, S, hidden]
        columns = g.node("Transpose", f"{name}.columns", rows, perm=[0, 2, 1])
        logits = g.node("MatMul", f"{name}.logits", query, columns)  # [B, heads, S]
        if self._bias is not None:
            bias = g.node("Gather", f"{name}.bias", self._bias, g.constant("bias.first", np.int32(0)), axis=1)
            logits = g.node("Add", f"{name}.logits.biased", logits, bias)
        length = g.node("Unsqueeze", f"{name}.lengths", "lengths", g.ints(1, 2))
        real = g.node("Less", f"{name}.real", self._column, length)  # [B, 1, S]
        logits = g.node("Where", f"{name}.masked", real, logits, self._masked)
        shares = g.node("Softmax", f"{name}.softmax", logits, axis=-1)
        mixed = g.node("MatMul", f"{name}.mixed", shares, rows)  # [B, heads, hidden]
        mixed = g.node("Transpose", f"{name}.mixed.heads", mixed, perm=[1, 0, 2])
        values = self._projection(layer, "value").reshape(hidden, heads, size).transpose(1, 0, 2)
        mixed = g.node("MatMul", f"{name}.values", mixed, self._half(f"{name}.value.weight", values))
        mixed = g.node("Transpose", f"{name}.values.rows", mixed, perm=[1, 0, 2])  # [B, heads, d]
        return g.node("Reshape", f"{name}.attention", mixed, g.ints(-1, hidden))

    def _head(self, x: str) -> None:
        """The scores of the first tokens' final values."""
        g, c, hidden = self._g, self._c, self._hidden
        dense = self._dense("pooler", x, *c.linear("bert.pooler.dense", hidden, hidden))
        pooled = self._activation("pooler.activation", dense, c.about.head_activation)
        pooled = g.node("Cast", "pooler.float", pooled, to=TensorProto.FLOAT)
        weight, bias = c.linear("classifier", hidden, 1)
        weights = g.constant("logits.weight", weight), g.constant("logits.bias", bias)
        g.node("Reshape", "scores", g.node("Gemm", "logits", pooled, *weights), g.ints(-1))
