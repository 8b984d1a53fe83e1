"""Writes the ONNX graph of an encoder for a GPU: FP16, for TensorRT, with its corpus in it.

The layers are those of `encoder_graph`, whose inputs it has too. A row's real tokens are averaged and both
heads computed in float32: they cost nothing, and logits in FP16 would tie. The corpus is a constant in FP16
that the embedding is multiplied by, so that finding the nearest papers takes no launch of its own.

Outputs: `logits` float32 [B, J], `embedding` float32 [B, D] of length one, `neighbours` int32 [B, K] and
`nearness` float32 [B, K], descending, K the same for all rows.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from xuankan.errors import ReleaseError
from xuankan_worker.releases.checkpoint import Checkpoint
from xuankan_worker.releases.encoder_graph import SequenceGraph
from xuankan_worker.releases.retrieval_graph import MOST_NEIGHBOURS, encoder_head


def write_gpu_retrieval_graph(
    checkpoint: Checkpoint, corpus: NDArray[np.float32], neighbours: int
) -> onnx.ModelProto:
    """The FP16 graph of an encoder of any family in `families`.

    Args:
        checkpoint: with the heads `encoder.classifier` and `encoder.projection`.
        corpus: float32 [N, D], of length one.
        neighbours: K; fewer, if the corpus has fewer papers.

    Raises:
        ReleaseError: the checkpoint lacks a tensor, one has values beyond FP16's range, or more neighbours
            are asked for than engines give.
    """
    if neighbours > MOST_NEIGHBOURS:
        raise ReleaseError(f"{neighbours} neighbours: TensorRT gives {MOST_NEIGHBOURS} at most")
    return _GpuRetrievalGraph(checkpoint, corpus, min(neighbours, len(corpus))).write()


class _GpuRetrievalGraph(SequenceGraph):
    def __init__(self, checkpoint: Checkpoint, corpus: NDArray[np.float32], neighbours: int) -> None:
        super().__init__(checkpoint)
        self._corpus, self._neighbours = corpus, neighbours

    def write(self) -> onnx.ModelProto:
        g = self._g
        sums, norm = self._start()
        for layer in range(self._c.layers):
            sums, norm = self._layer(layer, sums, norm)
        mean = self._mean(self._norm(norm[0], sums, norm[1]))
        journals = self._float_dense("logits", mean, "classifier")
        dimensions = self._float_dense("projected", mean, "projection")
        length = g.node("ReduceL2", "projected.length", "projected", g.ints(1), keepdims=1)
        g.node("Div", "embedding", "projected", length)
        half = g.node("Cast", "embedding.half", "embedding", to=TensorProto.FLOAT16)
        corpus = self._half("corpus", np.ascontiguousarray(self._corpus.T))
        cosines = g.node("MatMul", "cosines", half, corpus)
        best = g.outputs("TopK", "nearest", [cosines, g.ints(self._neighbours)], ["cosines", "papers"])
        g.node("Cast", "nearness", best[0], to=TensorProto.FLOAT)
        g.node("Cast", "neighbours", best[1], to=TensorProto.INT32)
        floats, ints = TensorProto.FLOAT, TensorProto.INT32
        shapes = (
            ("logits", floats, journals),
            ("embedding", floats, dimensions),
            ("neighbours", ints, self._neighbours),
            ("nearness", floats, self._neighbours),
        )
        return self._model(
            "encoder", [helper.make_tensor_value_info(name, kind, ("B", size)) for name, kind, size in shapes]
        )

    def _mean(self, x: str) -> str:
        """Of each row's real tokens, float32 [B, hidden], of [S·B, hidden]."""
        g = self._g
        shape = g.node("Concat", "shape.tokens", self._s, self._b, g.ints(self._hidden), axis=0)
        tokens = g.node("Cast", "tokens.float", x, to=TensorProto.FLOAT)
        tokens = g.node("Reshape", "tokens.rows", tokens, shape)  # [S, B, hidden]
        real = g.node(
            "Less", "tokens.are_real", g.node("Unsqueeze", "row", self._column, g.ints(1)), "lengths"
        )
        real = g.node("Unsqueeze", "tokens.real", real, g.ints(2))
        tokens = g.node("Where", "tokens.counted", real, tokens, g.constant("none", np.float32(0)))
        total = g.node("ReduceSum", "total", tokens, g.ints(0), keepdims=0)
        count = g.node("Cast", "lengths.float", "lengths", to=TensorProto.FLOAT)
        return g.node("Div", "mean", total, g.node("Unsqueeze", "count", count, g.ints(1)))

    def _float_dense(self, name: str, x: str, head: str) -> int:
        """A head's values, float32 [B, n], called `name`; how many they are."""
        weight, bias = encoder_head(self._c, head)
        weights = self._g.constant(f"{name}.weight", weight), self._g.constant(f"{name}.bias", bias)
        self._g.node("Gemm", name, x, *weights)
        return len(bias)
