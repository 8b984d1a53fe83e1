"""Writes the ONNX graph of an encoder for a CPU: logits, embedding, and the nearest papers of its corpus.

The layers are those of `graph.py`; a row's tokens are averaged, both heads read the mean, and the corpus is
a constant that the embedding is multiplied by. Inputs as there; outputs: `logits` float32 [B, J],
`embedding` float32 [B, D] of length one, `neighbours` int32 [B, K] and `nearness` float32 [B, K], descending.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from xuankan.errors import ReleaseError
from xuankan_worker.releases.checkpoint import Checkpoint
from xuankan_worker.releases.graph import CONTRIB, IR_VERSION, OPSET, BertGraph, typed

MOST_NEIGHBOURS = 3840
"""TensorRT's TopK takes no more."""


def write_retrieval_graph(
    checkpoint: Checkpoint, corpus: NDArray[np.float32], neighbours: int
) -> onnx.ModelProto:
    """The float32 graph of an encoder.

    Args:
        checkpoint: with the heads `encoder.classifier` and `encoder.projection`.
        corpus: float32 [N, D], of length one.
        neighbours: K; fewer, if the corpus has fewer papers.

    Raises:
        ReleaseError: the checkpoint lacks a tensor, or more neighbours are asked for than engines give.
    """
    if neighbours > MOST_NEIGHBOURS:
        raise ReleaseError(f"{neighbours} neighbours: TensorRT gives {MOST_NEIGHBOURS} at most")
    return _RetrievalGraph(checkpoint, corpus, min(neighbours, len(corpus))).write()


def encoder_head(checkpoint: Checkpoint, name: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weight, float32 [hidden, outputs], and bias, [outputs], of an encoder's `classifier` or `projection`.

    Raises:
        ReleaseError: the checkpoint lacks it.
    """
    names = (checkpoint.about.own_name(f"encoder.{name}.{part}") for part in ("weight", "bias"))
    try:
        weight, bias = (checkpoint.tensors[own] for own in names)
    except KeyError as error:
        raise ReleaseError(f"model.safetensors has no {error}: it is no encoder") from error
    return np.ascontiguousarray(weight.T), bias


class _RetrievalGraph(BertGraph):
    def __init__(self, checkpoint: Checkpoint, corpus: NDArray[np.float32], neighbours: int) -> None:
        super().__init__(checkpoint)
        self._corpus, self._neighbours = corpus, neighbours

    def write(self) -> onnx.ModelProto:
        g, dimensions = self._outer, self._corpus.shape[1]
        x, tokens = self._distinct_tokens()
        first = self._project(g, 0, x)
        rows = g.node("Squeeze", "rows", g.node("Shape", "rows.shape", "input_ids", end=1))
        lengths = g.node("Cast", "lengths.int64", "lengths", to=TensorProto.INT64)
        (stacked,) = g.outputs(
            "Loop", "all", [rows, ""], ["mean"], body=self._body(x, first, tokens, lengths)
        )
        mean = g.node("Reshape", "mean", stacked, g.ints(-1, self._hidden))
        weight, bias = encoder_head(self._c, "classifier")
        journals = len(bias)
        self._dense(g, "logits", mean, weight, bias)
        projected = self._dense(g, "projected", mean, *encoder_head(self._c, "projection"))
        length = g.node("ReduceL2", "projected.length", projected, g.ints(1), keepdims=1)
        embedding = g.node("Div", "embedding", projected, length)
        corpus = g.constant("corpus", np.ascontiguousarray(self._corpus.T))
        cosines = g.node("MatMul", "cosines", embedding, corpus)
        best = g.outputs("TopK", "nearest", [cosines, g.ints(self._neighbours)], ["cosines", "papers"])
        g.node("Identity", "nearness", best[0])
        g.node("Cast", "neighbours", best[1], to=TensorProto.INT32)
        ints, floats = TensorProto.INT32, TensorProto.FLOAT
        inputs = [
            typed("input_ids", ints, "B", "S"),
            typed("lengths", ints, "B"),
            typed("first_lengths", ints, "B"),
        ]
        outputs = [
            typed("logits", floats, "B", journals),
            typed("embedding", floats, "B", dimensions),
            typed("neighbours", ints, "B", self._neighbours),
            typed("nearness", floats, "B", self._neighbours),
        ]
        graph = g.graph("encoder", inputs, outputs)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)]
        return helper.make_model(graph, producer_name="xuankan", ir_version=IR_VERSION, opset_imports=opsets)

    def _body(self, distinct: str, first: list[str], tokens: str, lengths: str) -> onnx.GraphProto:
        """The mean of the last layer's tokens of row `row`."""
        g = self._row
        x, heads = self._row_start(distinct, first, tokens, lengths)
        for layer in range(self._c.layers):
            x = self._layer(layer, x, heads if layer == 0 else self._project(g, layer, x))
        mean = g.node("ReduceMean", "row.mean", x, g.ints(0), keepdims=1)
        going_on = g.node("Identity", "going_on", "go_on")
        return g.graph(
            "row",
            [typed("row", TensorProto.INT64), typed("go_on", TensorProto.BOOL)],
            [typed(going_on, TensorProto.BOOL), typed(mean, TensorProto.FLOAT, 1, self._hidden)],
        )
