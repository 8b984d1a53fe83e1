"""Writes the ONNX graph of a BERT cross-encoder for a CPU, straight from a checkpoint.

The graph computes exactly what the checkpoint computes, with less work than a traced export:

- No token is padding: a loop runs each row of the batch at its own length. So there is no mask either, and a
  row's score cannot depend on its neighbours.
- Until the first attention a token's values depend only on its id, position and segment, and the rows of one
  manuscript begin alike: embeddings and the first projection are computed once for each distinct token.
- The score depends on `[CLS]` alone, so the last layer is computed for that one token, and without projecting
  every token to keys and values: with one query, `q · (x Wk)ᵀ = (q Wkᵀ) · xᵀ` and `p (x Wv) = (p x) Wv`.
- 1/√d is folded into the query. The key bias adds the same to all scores of a query, which softmax cancels,
  so it is dropped; attention weights sum to 1, so the value bias moves through the output projection.

Inputs: `input_ids` int32 [B, S], `lengths` int32 [B], the real tokens of each row, and `first_lengths` int32
[B], the tokens of `[CLS] manuscript [SEP]`; what follows is segment 1. Output: `scores` float32 [B], logits.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from xuankan.errors import ReleaseError
from xuankan_worker.releases.checkpoint import Checkpoint

OPSET = 21
CONTRIB = "com.microsoft"
"""ONNX Runtime's own operators; their opset has been 1 since its first release."""
IR_VERSION = 10
TOKEN_DENSE = "tokens."  # noqa: S105 (not a secret)
"""Name prefix of the Gemm nodes that run on every token: nearly all of the work."""
WORD_EMBEDDINGS = "embeddings.word"


class GraphWriter:
    """Collects nodes and constants; every value is named after what it is.

    `scope` begins the names of shared constants: a loop's body must not reuse a name from around it.
    """

    def __init__(self, scope: str = "") -> None:
        self._scope = scope
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._names: set[str] = set()

    def constant(self, name: str, value: NDArray[Any] | np.generic) -> str:
        """Add a constant; `name` must be new."""
        self._constants.append(numpy_helper.from_array(np.asarray(value, order="C"), self._new(name)))
        return name

    def ints(self, *values: int) -> str:
        """A constant int64 [n], such as a shape; written once."""
        name = f"{self._scope}ints." + "_".join(str(value) for value in values)
        return name if name in self._names else self.constant(name, np.array(values, dtype=np.int64))

    def node(self, op: str, name: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Add a node with one output; the output is called as the node."""
        node = helper.make_node(op, inputs, [self._new(name)], name=name, domain=domain, **attributes)
        self._nodes.append(node)
        return name

    def outputs(
        self, op: str, name: str, inputs: list[str], outputs: list[str], **attributes: Any
    ) -> list[str]:
        """Add a node of several outputs, each called `<name>.<output>`; an empty output is not computed."""
        names = [self._new(f"{name}.{output}") if output else "" for output in outputs]
        self._nodes.append(helper.make_node(op, inputs, names, name=name, **attributes))
        return [name for name in names if name]

    def graph(
        self, name: str, inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto]
    ) -> onnx.GraphProto:
        """The graph of all that was added."""
        return helper.make_graph(self._nodes, name, inputs, outputs, self._constants)

    def _new(self, name: str) -> str:
        if name in self._names:
            raise ValueError(f"the graph already has a value {name}")
        self._names.add(name)
        return name


def write_graph(checkpoint: Checkpoint) -> onnx.ModelProto:
    """The float32 graph of a checkpoint.

    Raises:
        ReleaseError: the checkpoint lacks a tensor, one has another shape, or its family has a relative
            attention bias or a head that this graph does not.
    """
    if checkpoint.relative_bias(1) is not None or checkpoint.about.head_activation != "tanh":
        raise ReleaseError(f"the CPU graph does not know the family {checkpoint.family}")
    return BertGraph(checkpoint).write()


def export(checkpoint_dir: Path, out: Path) -> None:
    """Write the float32 graph of a Hugging Face checkpoint directory to `out`.

    Raises:
        ReleaseError: the checkpoint cannot be read or has another architecture.
    """
    out.write_bytes(write_graph(Checkpoint.load(checkpoint_dir)).SerializeToString())


class BertGraph:
    """Writes two graphs: `_outer` sees the batch, `_row`, the loop's body, one row."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._c = checkpoint
        self._outer = GraphWriter()
        self._row = GraphWriter("row.")
        self._hidden = checkpoint.hidden_size
        self._heads = checkpoint.heads
        self._head_size = checkpoint.hidden_size // checkpoint.heads

    def write(self) -> onnx.ModelProto:
        g, c = self._outer, self._c
        x, tokens = self._distinct_tokens()
        first = self._project(g, 0, x)
        rows = g.node("Squeeze", "rows", g.node("Shape", "rows.shape", "input_ids", end=1))
        lengths = g.node("Cast", "lengths.int64", "lengths", to=TensorProto.INT64)
        body = self._body(x, first, tokens, lengths)
        stacked = g.outputs("Loop", "all", [rows, ""], ["cls", "mixed"], body=body)
        cls_, mixed = (g.node("Reshape", f"{part}.rows", part, g.ints(-1, self._hidden)) for part in stacked)
        x = self._rest(g, "", c.layers - 1, cls_, mixed)
        dense = c.linear("bert.pooler.dense", self._hidden, self._hidden)
        pooled = g.node("Tanh", "pooler.tanh", self._dense(g, "pooler", x, *dense))
        logits = self._dense(g, "logits", pooled, *c.linear("classifier", self._hidden, 1))
        g.node("Reshape", "scores", logits, g.ints(-1))
        ints, floats = TensorProto.INT32, TensorProto.FLOAT
        inputs = [typed("input_ids", ints, "B", "S"), typed("lengths", ints, "B")]
        graph = g.graph(
            "cross-encoder", [*inputs, typed("first_lengths", ints, "B")], [typed("scores", floats, "B")]
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)]
        return helper.make_model(graph, producer_name="xuankan", ir_version=IR_VERSION, opset_imports=opsets)

    def _distinct_tokens(self) -> tuple[str, str]:
        """Embeddings of the batch's distinct tokens, float32 [U, hidden], and which one each is, [B, S]."""
        g, c = self._outer, self._c
        prefix = "bert.embeddings"
        table = c.tensor(f"{prefix}.word_embeddings.weight", c.vocabulary_size, self._hidden)
        shape = g.node("Shape", "shape", "input_ids")
        width = g.node("Gather", "width", shape, g.ints(1))
        column = g.node(
            "Range",
            "column",
            g.constant("zero", np.int64(0)),
            g.node("Squeeze", "width.scalar", width),
            g.constant("one", np.int64(1)),
        )
        column32 = g.node("Cast", "column.int32", column, to=TensorProto.INT32)
        first = g.node("Unsqueeze", "first", "first_lengths", g.ints(1))
        second = g.node("GreaterOrEqual", "second", column32, first)
        # One number for each (id, position, segment); padding repeats the batch's first token.
        place = g.node("Add", "place", g.node("Mul", "place.even", column, g.ints(2)), _cast(g, second))
        key = g.node("Mul", "key.place", place, g.ints(c.vocabulary_size))
        key = g.node("Add", "key.all", key, g.node("Cast", "ids", "input_ids", to=TensorProto.INT64))
        length = g.node("Unsqueeze", "length", "lengths", g.ints(1))
        real = g.node("Less", "real", column32, length)
        some = g.node("Slice", "key.first", key, g.ints(0, 0), g.ints(1, 1))
        key = g.node("Reshape", "key", g.node("Where", "key.real", real, key, some), g.ints(-1))
        keys, tokens = g.outputs("Unique", "distinct", [key], ["keys", "", "tokens"], sorted=0)
        place = g.node("Div", "distinct.place", keys, g.ints(c.vocabulary_size))
        word = g.node(
            "Gather",
            "embeddings",
            g.constant(WORD_EMBEDDINGS, table),
            g.node("Mod", "distinct.ids", keys, g.ints(c.vocabulary_size)),
        )
        position = g.node(
            "Gather",
            "embeddings.position",
            g.constant("embeddings.places", c.places().reshape(-1, self._hidden)),
            place,
        )
        x = g.node("Add", "embeddings.sum", word, position)
        return self._norm(g, "embeddings.norm", x, f"{prefix}.LayerNorm"), g.node(
            "Reshape", "tokens", tokens, shape
        )

    def _body(self, distinct: str, first: list[str], tokens: str, lengths: str) -> onnx.GraphProto:
        """What `[CLS]` of row `row` is before the last layer, and what the last attention mixes for it."""
        g = self._row
        x, heads = self._row_start(distinct, first, tokens, lengths)
        for layer in range(self._c.layers - 1):
            x = self._layer(layer, x, heads if layer == 0 else self._project(g, layer, x))
        cls_, mixed = self._last_attention(self._c.layers - 1, x)
        going_on = g.node("Identity", "going_on", "go_on")
        bools, floats = TensorProto.BOOL, TensorProto.FLOAT
        outputs = [typed(name, floats, 1, self._hidden) for name in (cls_, mixed)]
        return g.graph(
            "row",
            [typed("row", TensorProto.INT64), typed("go_on", bools)],
            [typed(going_on, bools), *outputs],
        )

    def _row_start(self, distinct: str, first: list[str], tokens: str, lengths: str) -> tuple[str, list[str]]:
        """Embeddings of row `row`, and the first layer's queries, keys and values of it."""
        g = self._row
        end = g.node(
            "Unsqueeze", "row.length", g.node("Gather", "row.length.scalar", lengths, "row"), g.ints(0)
        )
        mine = g.node("Slice", "row.tokens", g.node("Gather", "row.all", tokens, "row"), g.ints(0), end)
        x = g.node("Gather", "row.embeddings", distinct, mine)
        heads = [
            g.node("Gather", f"row.{part}", values, mine) for part, values in zip("qkv", first, strict=True)
        ]
        return x, heads

    def _project(self, g: GraphWriter, layer: int, x: str) -> list[str]:
        """Queries, keys and values of tokens, each float32 [T, hidden]."""
        wq, bq, wk, wv, _, _ = self._attention_weights(layer)
        name, none = f"{TOKEN_DENSE}layer.{layer}", np.zeros_like(bq)
        parts = (("query", wq, bq), ("key", wk, none), ("value", wv, none))
        return [self._dense(g, f"{name}.{part}", x, weight, bias) for part, weight, bias in parts]

    def _layer(self, layer: int, x: str, heads: list[str]) -> str:
        """A layer on every token of a row: [S, hidden] to the same."""
        g, name = self._row, f"layer.{layer}.attention"
        rows = [g.node("Unsqueeze", f"{part}.row", part, g.ints(0)) for part in heads]
        mixed = g.node("MultiHeadAttention", name, *rows, domain=CONTRIB, num_heads=self._heads, scale=1.0)
        mixed = g.node("Squeeze", f"{name}.tokens", mixed, g.ints(0))
        return self._rest(g, TOKEN_DENSE, layer, x, mixed)

    def _last_attention(self, layer: int, x: str) -> tuple[str, str]:
        """The last attention, for `[CLS]` only: that token and the values mixed for it, each [1, hidden]."""
        g, heads, size, hidden = self._row, self._heads, self._head_size, self._hidden
        name = f"layer.{layer}"
        wq, bq, wk, wv, *_ = self._attention_weights(layer)
        cls_ = g.node("Slice", f"{name}.cls", x, g.ints(0), g.ints(1))
        query = self._dense(g, f"{name}.query", cls_, wq, bq)
        query = g.node("Reshape", f"{name}.query.heads", query, g.ints(heads, 1, size))
        keys = g.constant(f"{name}.key.weight", wk.reshape(hidden, heads, size).transpose(1, 2, 0))
        query = g.node("MatMul", f"{name}.query.keys", query, keys)  # [heads, 1, hidden]
        query = g.node("Squeeze", f"{name}.query.hidden", query, g.ints(1))
        logits = g.node("MatMul", f"{name}.logits", query, g.node("Transpose", f"{name}.columns", x))
        mixed = g.node("MatMul", f"{name}.mixed", g.node("Softmax", f"{name}.softmax", logits, axis=-1), x)
        mixed = g.node("Unsqueeze", f"{name}.mixed.heads", mixed, g.ints(1))  # [heads, 1, hidden]
        values = g.constant(f"{name}.value.weight", wv.reshape(hidden, heads, size).transpose(1, 0, 2))
        mixed = g.node("MatMul", f"{name}.values", mixed, values)  # [heads, 1, size]
        return cls_, g.node("Reshape", f"{name}.attention", mixed, g.ints(1, hidden))

    def _rest(self, g: GraphWriter, prefix: str, layer: int, x: str, mixed: str) -> str:
        """Of a layer, everything after the attention."""
        c = self._c
        *_, wo, bo = self._attention_weights(layer)
        name, source = f"{prefix}layer.{layer}", f"bert.encoder.layer.{layer}"
        out = self._dense(g, f"{name}.attention.output", mixed, wo, bo)
        x = g.node("Add", f"{name}.attention.sum", x, out)
        x = self._norm(g, f"{name}.attention.norm", x, f"{source}.attention.output.LayerNorm")
        inner = self._dense(
            g,
            f"{name}.inner",
            x,
            *c.linear(f"{source}.intermediate.dense", self._hidden, c.intermediate_size),
        )
        if c.activation == "relu":
            inner = g.node("Relu", f"{name}.activation", inner)
        else:
            approximate = "tanh" if c.activation == "gelu_tanh" else "none"
            inner = g.node("Gelu", f"{name}.activation", inner, approximate=approximate)
        out = self._dense(
            g, f"{name}.output", inner, *c.linear(f"{source}.output.dense", c.intermediate_size, self._hidden)
        )
        x = g.node("Add", f"{name}.sum", x, out)
        return self._norm(g, f"{name}.norm", x, f"{source}.output.LayerNorm")

    def _attention_weights(self, layer: int) -> tuple[NDArray[np.float32], ...]:
        """Wq, bq, Wk, Wv, Wo and bo, with the scale, the key bias and the value bias folded."""
        size, source = self._hidden, f"bert.encoder.layer.{layer}.attention"
        wq, bq = self._c.linear(f"{source}.self.query", size, size)
        wk, _ = self._c.linear(f"{source}.self.key", size, size)
        wv, bv = self._c.linear(f"{source}.self.value", size, size)
        wo, bo = self._c.linear(f"{source}.output.dense", size, size)
        scale = np.float32(1 / np.sqrt(self._head_size))
        return wq * scale, bq * scale, wk, wv, wo, bo + bv @ wo

    def _dense(
        self, g: GraphWriter, name: str, x: str, weight: NDArray[np.float32], bias: NDArray[np.float32]
    ) -> str:
        weights = g.constant(f"{name}.weight", weight), g.constant(f"{name}.bias", bias)
        return g.node("Gemm", name, x, *weights)

    def _norm(self, g: GraphWriter, name: str, x: str, source: str) -> str:
        scale, shift = self._c.norm(source)
        weights = g.constant(f"{name}.scale", scale), g.constant(f"{name}.shift", shift)
        return g.node("LayerNormalization", name, x, *weights, epsilon=self._c.epsilon)


def _cast(g: GraphWriter, value: str) -> str:
    return g.node("Cast", f"{value}.int64", value, to=TensorProto.INT64)


def typed(name: str, kind: int, *shape: str | int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)
