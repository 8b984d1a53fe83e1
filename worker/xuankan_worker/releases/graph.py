"""Writes the ONNX graph of a BERT cross-encoder for a CPU, straight from a checkpoint.

The graph computes exactly what the checkpoint computes, with less work than a traced export:

- The score depends on `[CLS]` alone, so the last layer is computed for that one row, and without projecting
  every token to keys and values: with one query, `q · (x Wk)ᵀ = (q Wkᵀ) · xᵀ` and `p (x Wv) = (p x) Wv`.
- One GEMM projects queries, keys and values. 1/√d is folded into the query. The key bias adds the same to
  all scores of a query, which softmax cancels, so it is dropped; attention weights sum to 1, so the value
  bias moves through the output projection into its bias.
- Rows carry no padding: an engine for CPUs runs each row at its own length, so there is no mask either.

Inputs: `input_ids` int32 [B, S] and `first_lengths` int32 [B], the tokens of `[CLS] manuscript [SEP]`; what
follows is segment 1. All S tokens of every row are real. Output: `scores` float32 [B], raw logits.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from xuankan_worker.releases.checkpoint import Checkpoint

OPSET = 21
CONTRIB = "com.microsoft"
"""ONNX Runtime's own operators; their opset has been 1 since its first release."""
_IR_VERSION = 10
TOKEN_DENSE = "tokens."  # noqa: S105 (not a secret)
"""Name prefix of the Gemm nodes that run on every token: nearly all of the work."""
WORD_EMBEDDINGS = "embeddings.word"


class GraphWriter:
    """Collects nodes and constants; every value is named after what it is."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._names: set[str] = set()

    def constant(self, name: str, value: NDArray[Any] | np.generic) -> str:
        """Add a constant; `name` must be new."""
        self._constants.append(numpy_helper.from_array(np.asarray(value, order="C"), self._new(name)))
        return name

    def ints(self, *values: int) -> str:
        """A constant int64 [n], such as a shape; written once."""
        name = "ints." + "_".join(str(value) for value in values)
        return name if name in self._names else self.constant(name, np.array(values, dtype=np.int64))

    def node(self, op: str, name: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Add a node with one output; the output is called as the node."""
        node = helper.make_node(op, inputs, [self._new(name)], name=name, domain=domain, **attributes)
        self._nodes.append(node)
        return name

    def split(self, name: str, value: str, parts: int) -> list[str]:
        """Split along the last axis into equal parts."""
        outputs = [self._new(f"{name}.{part}") for part in range(parts)]
        self._nodes.append(helper.make_node("Split", [value], outputs, name=name, axis=-1, num_outputs=parts))
        return outputs

    def model(self, inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto]) -> onnx.ModelProto:
        """The model of all that was added."""
        graph = helper.make_graph(self._nodes, "cross-encoder", inputs, outputs, self._constants)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)]
        return helper.make_model(graph, producer_name="xuankan", ir_version=_IR_VERSION, opset_imports=opsets)

    def _new(self, name: str) -> str:
        if name in self._names:
            raise ValueError(f"the graph already has a value {name}")
        self._names.add(name)
        return name


def write_graph(checkpoint: Checkpoint) -> onnx.ModelProto:
    """The float32 graph of a checkpoint.

    Raises:
        ReleaseError: the checkpoint lacks a tensor, or one has another shape.
    """
    return _Bert(checkpoint).write()


def export(checkpoint_dir: Path, out: Path) -> None:
    """Write the float32 graph of a Hugging Face checkpoint directory to `out`.

    Raises:
        ReleaseError: the checkpoint cannot be read or has another architecture.
    """
    out.write_bytes(write_graph(Checkpoint.load(checkpoint_dir)).SerializeToString())


class _Bert:
    def __init__(self, checkpoint: Checkpoint) -> None:
        self._c = checkpoint
        self._g = GraphWriter()
        self._hidden = checkpoint.hidden_size
        self._heads = checkpoint.heads
        self._head_size = checkpoint.hidden_size // checkpoint.heads
        self._query_scale = np.float32(1 / np.sqrt(self._head_size))

    def write(self) -> onnx.ModelProto:
        g = self._g
        shape = g.node("Shape", "input.shape", "input_ids")
        self._rows_shape = g.node("Concat", "rows.shape", shape, g.ints(self._hidden), axis=0)
        x = self._embeddings(shape)
        for layer in range(self._c.layers - 1):
            x = self._layer(layer, x)
        x = self._last_layer(self._c.layers - 1, x)
        pooled = g.node("Tanh", "pooler.tanh", self._linear("pooler", x, "bert.pooler.dense"))
        weight = self._c.tensor("classifier.weight", 1, self._hidden)
        bias = self._c.tensor("classifier.bias", 1)
        logits = self._dense("classifier", pooled, weight.T, bias)
        g.node("Reshape", "scores", logits, g.ints(-1))
        inputs = [
            helper.make_tensor_value_info("input_ids", TensorProto.INT32, ["B", "S"]),
            helper.make_tensor_value_info("first_lengths", TensorProto.INT32, ["B"]),
        ]
        return g.model(inputs, [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["B"])])

    def _embeddings(self, shape: str) -> str:
        """Tokens [B·S, hidden]."""
        g, c = self._g, self._c
        prefix = "bert.embeddings"
        table = c.tensor(f"{prefix}.word_embeddings.weight", c.vocabulary_size, self._hidden)
        positions = c.tensor(f"{prefix}.position_embeddings.weight", c.max_positions, self._hidden)
        segments = c.tensor(f"{prefix}.token_type_embeddings.weight", 2, self._hidden)
        word = g.node("Gather", "embeddings", g.constant(WORD_EMBEDDINGS, table), "input_ids")
        length = g.node("Gather", "length", shape, g.ints(1))
        position = g.node(
            "Slice",
            "embeddings.position",
            g.constant("embeddings.positions", positions + segments[0]),
            g.ints(0),
            length,
        )
        first = g.node("Unsqueeze", "first", "first_lengths", g.ints(1))
        zero, one = g.constant("zero", np.int32(0)), g.constant("one", np.int32(1))
        length32 = g.node(
            "Squeeze", "length.scalar", g.node("Cast", "length.int32", length, to=TensorProto.INT32)
        )
        index = g.node("Range", "index", zero, length32, one)
        second = g.node("GreaterOrEqual", "second", index, first)
        second = g.node("Cast", "second.float", second, to=TensorProto.FLOAT)
        shift = g.node(
            "Mul",
            "embeddings.segment",
            g.node("Unsqueeze", "second.column", second, g.ints(2)),
            g.constant("embeddings.segment_shift", segments[1] - segments[0]),
        )
        x = g.node("Add", "embeddings.placed", word, position)
        x = g.node("Add", "embeddings.sum", x, shift)
        x = self._norm("embeddings.norm", x, f"{prefix}.LayerNorm")
        return g.node("Reshape", "embeddings.tokens", x, g.ints(-1, self._hidden))

    def _layer(self, layer: int, x: str) -> str:
        """A layer on every token: [B·S, hidden] to the same."""
        g = self._g
        name, source = f"layer.{layer}", f"bert.encoder.layer.{layer}"
        wq, bq, wk, wv, wo, bo = self._attention_weights(source)
        zeros = np.zeros_like(bq)
        qkv = self._dense(
            f"{TOKEN_DENSE}{name}.qkv",
            x,
            np.concatenate([wq, wk, wv], axis=1),
            np.concatenate([bq, zeros, zeros]),
        )
        heads = [
            g.node("Reshape", f"{part}.rows", part, self._rows_shape)
            for part in g.split(f"{name}.qkv.split", qkv, 3)
        ]
        mixed = g.node(
            "MultiHeadAttention",
            f"{name}.attention",
            *heads,
            domain=CONTRIB,
            num_heads=self._heads,
            scale=1.0,
        )
        mixed = g.node("Reshape", f"{name}.attention.tokens", mixed, g.ints(-1, self._hidden))
        return self._rest(TOKEN_DENSE, layer, x, mixed, wo, bo)

    def _last_layer(self, layer: int, x: str) -> str:
        """The last layer for `[CLS]` only: [B·S, hidden] to [B, hidden]."""
        g, heads, size = self._g, self._heads, self._head_size
        name = f"layer.{layer}"
        wq, bq, wk, wv, wo, bo = self._attention_weights(f"bert.encoder.layer.{layer}")
        rows = g.node("Reshape", f"{name}.rows", x, self._rows_shape)
        cls_ = g.node("Gather", f"{name}.cls", rows, g.constant(f"{name}.cls.index", np.int64(0)), axis=1)
        query = self._dense(f"{name}.query", cls_, wq, bq)
        query = g.node("Reshape", f"{name}.query.heads", query, g.ints(-1, heads, 1, size))
        keys = g.constant(f"{name}.key.weight", wk.reshape(self._hidden, heads, size).transpose(1, 2, 0))
        query = g.node("MatMul", f"{name}.query.keys", query, keys)  # [B, heads, 1, hidden]
        query = g.node("Reshape", f"{name}.query.hidden", query, g.ints(-1, heads, self._hidden))
        columns = g.node("Transpose", f"{name}.columns", rows, perm=[0, 2, 1])
        weights = g.node(
            "Softmax", f"{name}.softmax", g.node("MatMul", f"{name}.logits", query, columns), axis=-1
        )
        mixed = g.node("MatMul", f"{name}.mixed", weights, rows)  # [B, heads, hidden]
        mixed = g.node("Reshape", f"{name}.mixed.heads", mixed, g.ints(-1, heads, 1, self._hidden))
        values = g.constant(f"{name}.value.weight", wv.reshape(self._hidden, heads, size).transpose(1, 0, 2))
        mixed = g.node("MatMul", f"{name}.values", mixed, values)  # [B, heads, 1, size]
        mixed = g.node("Reshape", f"{name}.attention.cls", mixed, g.ints(-1, self._hidden))
        return self._rest("", layer, cls_, mixed, wo, bo)

    def _rest(
        self, prefix: str, layer: int, x: str, mixed: str, wo: NDArray[np.float32], bo: NDArray[np.float32]
    ) -> str:
        """Of a layer, everything after the attention."""
        g, c = self._g, self._c
        name, source = f"{prefix}layer.{layer}", f"bert.encoder.layer.{layer}"
        out = self._dense(f"{name}.attention.output", mixed, wo, bo)
        x = g.node("Add", f"{name}.attention.sum", x, out)
        x = self._norm(f"{name}.attention.norm", x, f"{source}.attention.output.LayerNorm")
        inner = self._dense(
            f"{name}.inner", x, *c.linear(f"{source}.intermediate.dense", self._hidden, c.intermediate_size)
        )
        if c.activation == "relu":
            inner = g.node("Relu", f"{name}.activation", inner)
        else:
            approximate = "tanh" if c.activation == "gelu_tanh" else "none"
            inner = g.node("Gelu", f"{name}.activation", inner, approximate=approximate)
        out = self._dense(
            f"{name}.output", inner, *c.linear(f"{source}.output.dense", c.intermediate_size, self._hidden)
        )
        x = g.node("Add", f"{name}.sum", x, out)
        return self._norm(f"{name}.norm", x, f"{source}.output.LayerNorm")

    def _attention_weights(self, source: str) -> tuple[NDArray[np.float32], ...]:
        """Wq, bq, Wk, Wv, Wo and bo, with the scale, the key bias and the value bias folded."""
        size = self._hidden
        wq, bq = self._c.linear(f"{source}.attention.self.query", size, size)
        wk, _ = self._c.linear(f"{source}.attention.self.key", size, size)
        wv, bv = self._c.linear(f"{source}.attention.self.value", size, size)
        wo, bo = self._c.linear(f"{source}.attention.output.dense", size, size)
        return wq * self._query_scale, bq * self._query_scale, wk, wv, wo, bo + bv @ wo

    def _linear(self, name: str, x: str, source: str) -> str:
        return self._dense(name, x, *self._c.linear(source, self._hidden, self._hidden))

    def _dense(self, name: str, x: str, weight: NDArray[np.float32], bias: NDArray[np.float32]) -> str:
        g = self._g
        return g.node("Gemm", name, x, g.constant(f"{name}.weight", weight), g.constant(f"{name}.bias", bias))

    def _norm(self, name: str, x: str, source: str) -> str:
        g = self._g
        scale, shift = self._c.norm(source)
        return g.node(
            "LayerNormalization",
            name,
            x,
            g.constant(f"{name}.scale", scale),
            g.constant(f"{name}.shift", shift),
            epsilon=self._c.epsilon,
        )
