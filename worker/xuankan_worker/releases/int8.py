"""Rewrites a float graph of `graph.write_graph` into INT8, given what its activations hold.

What becomes INT8 and how:

- The linear layers that run on every token: activations unsigned 8 bits by static ranges, one scale a tensor;
  weights signed 7 bits, one scale an output channel. Seven, because `vpmaddubsw`, on which AVX2 without VNNI
  relies, adds two products in 16 bits: 2 · 255 · 63 fits, 2 · 255 · 127 does not. Ranges are static, so a
  row's score does not depend on what else is in its batch.
- A few channels have activations tens of times larger than the rest (`[CLS]` and `[SEP]` make them), and
  clipping them ruins the scores. So channels are balanced first: input channel k is divided by
  `max|x_k|^a / max|w_k|^(1-a)` and its weights are multiplied by it (SmoothQuant, Xiao et al. 2023, eq. 4).
- ReLU is the lower clipping of the unsigned output, at no cost. GELU takes its tanh form, whose error
  (below 5e-4) is far below a step of 8 bits, and which costs half of erf.
- Embeddings and the weights of the last layer's one row: stored in 8 bits, computed in float.
- Attention, residuals and normalizations stay float: measured, 8 bits gain nothing there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from xuankan_worker.releases.graph import CONTRIB, TOKEN_DENSE, WORD_EMBEDDINGS

_WEIGHT_MAX = 63  # 7 bits, see above
_STORED_MAX = 127
_STORE_FROM = 10_000  # elements; smaller constants stay float
_SAMPLED_TOKENS = 16  # of each pair, for percentiles


class Int8Method(NamedTuple):
    """A way to choose activation ranges: the balance a (None: not balanced) and the percentile kept."""

    name: str
    balance: float | None
    percentile: float = 100.0


@dataclass
class ObservedChannels:
    """What a tensor's channels held: extremes, float32 [K], and some values for percentiles."""

    low: NDArray[np.float32]
    high: NDArray[np.float32]
    sample: list[NDArray[np.float32]]

    def add(self, tokens: NDArray[np.float32], random: np.random.Generator) -> None:
        np.minimum(self.low, tokens.min(axis=0), out=self.low)
        np.maximum(self.high, tokens.max(axis=0), out=self.high)
        self.sample.append(tokens[random.integers(0, len(tokens), _SAMPLED_TOKENS)])

    def range(self, divisor: NDArray[np.float32], percentile: float) -> tuple[float, float]:
        """Smallest and largest value to represent once channels are divided; 0 is always between."""
        if percentile < 100:
            values = np.concatenate(self.sample) / divisor
            low, high = np.percentile(values, [100 - percentile, percentile])
        else:
            low, high = (self.low / divisor).min(), (self.high / divisor).max()
        return min(float(low), 0.0), max(float(high), 1e-6)


def graphs(model: onnx.ModelProto) -> list[onnx.GraphProto]:
    """The graph, and the bodies of its loops."""
    loops = [node for node in model.graph.node if node.op_type == "Loop"]
    return [model.graph, *(loop.attribute[0].g for loop in loops)]


def nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for graph in graphs(model) for node in graph.node]


def is_token_dense(node: onnx.NodeProto) -> bool:
    return node.op_type == "Gemm" and node.name.startswith(TOKEN_DENSE)


class Rewriter:
    """Rewrites a float graph for one method."""

    def __init__(
        self, model: onnx.ModelProto, observed: Mapping[str, ObservedChannels], method: Int8Method
    ) -> None:
        self._model = onnx.ModelProto()
        self._model.CopyFrom(model)
        self._weights = {value.name: value for graph in graphs(model) for value in graph.initializer}
        self._observed = observed
        self._method = method
        # Of the graph that is being rewritten:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, NDArray[Any]] = {}
        self._quantized: set[str] = set()
        consumers: dict[str, list[str]] = {}  # of each tensor, the weights that multiply it
        for node in nodes(model):
            if is_token_dense(node):
                consumers.setdefault(node.input[0], []).append(node.input[1])
        self._divisors = {name: self._divisor(name, weights) for name, weights in consumers.items()}
        relus = {node.input[0]: node.output[0] for node in nodes(model) if node.op_type == "Relu"}
        self._relus = {before: after for before, after in relus.items() if after in consumers}

    def rewrite(self) -> onnx.ModelProto:
        for graph in reversed(graphs(self._model)):  # bodies first: their loops are copied with them
            self._rewrite(graph)
        return self._model

    def _rewrite(self, graph: onnx.GraphProto) -> None:
        self._nodes, self._constants, self._quantized = [], {}, set()
        for node in graph.node:
            if is_token_dense(node):
                self._dense(node)
            elif node.op_type == "Relu" and node.input[0] in self._relus:
                pass  # its Gemm clips
            elif node.op_type == "Gather" and node.input[0] == WORD_EMBEDDINGS:
                self._embeddings(node)
            else:
                self._keep(node)
        del graph.node[:], graph.initializer[:]
        graph.node.extend(self._nodes)
        graph.initializer.extend(
            numpy_helper.from_array(np.asarray(value, order="C"), name)
            for name, value in self._constants.items()
        )

    def _divisor(self, name: str, weights: list[str]) -> NDArray[np.float32]:
        seen = self._observed[name]
        if self._method.balance is None:
            return np.ones_like(seen.high)
        activation = np.maximum(np.maximum(np.abs(seen.low), np.abs(seen.high)), 1e-6)
        largest = [np.abs(self._value(weight)).max(axis=1) for weight in weights]
        weight = np.maximum(np.max(largest, axis=0), 1e-6)
        divisor = activation**self._method.balance / weight ** (1 - self._method.balance)
        return np.maximum(divisor / np.median(divisor), 1e-3).astype(np.float32)

    def _value(self, name: str) -> NDArray[np.float32]:
        return numpy_helper.to_array(self._weights[name])

    def _grid(self, name: str) -> tuple[np.float32, np.uint8]:
        """Scale and zero point of an activation tensor."""
        low, high = self._observed[name].range(self._divisors[name], self._method.percentile)
        scale = np.float32((high - low) / 255)
        return scale, np.uint8(np.clip(round(-low / float(scale)), 0, 255))

    def _dense(self, node: onnx.NodeProto) -> None:
        """QuantizeLinear, unless a ReLU has done so, and QGemm: to float, or through ReLU to 8 bits."""
        source, name = node.input[0], node.name
        scale, zero = self._grid(source)
        inputs = [
            f"{source}.int8",
            self._constant(f"{source}.int8.scale", scale),
            self._constant(f"{source}.int8.zero", zero),
        ]
        if source not in self._relus.values() and source not in self._quantized:
            self._quantized.add(source)
            self._quantize(source, inputs)
        weight = self._value(node.input[1]) * self._divisors[source][:, None]
        bias = self._value(node.input[2])
        after = self._relus.get(node.output[0])
        if after is not None:  # relu(y) / d = relu(y / d): the next layer's balance is free
            weight, bias = weight / self._divisors[after], bias / self._divisors[after]
        steps = np.maximum(np.abs(weight).max(axis=0), 1e-8).astype(np.float32) / np.float32(_WEIGHT_MAX)
        inputs += [
            self._constant(f"{name}.weight.int8", _rounded(weight / steps, np.int8)),
            self._constant(f"{name}.weight.scale", steps),
            self._constant(f"{name}.weight.zero", np.zeros(len(steps), dtype=np.int8)),
            self._constant(f"{name}.bias.int32", _rounded(bias / (scale * steps), np.int32)),
        ]
        output = node.output[0]
        if after is not None:
            output = f"{after}.int8"
            after_scale, after_zero = self._grid(after)
            inputs += [
                self._constant(f"{after}.int8.scale", after_scale),
                self._constant(f"{after}.int8.zero", after_zero),
            ]
        self._nodes.append(helper.make_node("QGemm", inputs, [output], name=name, domain=CONTRIB))

    def _quantize(self, source: str, grid: list[str]) -> None:
        balanced = source
        if self._method.balance is not None:
            balanced = f"{source}.balanced"
            factor = self._constant(f"{source}.balance", 1 / self._divisors[source])
            self._nodes.append(helper.make_node("Mul", [source, factor], [balanced], name=balanced))
        self._nodes.append(
            helper.make_node("QuantizeLinear", [balanced, *grid[1:]], [grid[0]], name=f"{source}.quantize")
        )

    def _embeddings(self, node: onnx.NodeProto) -> None:
        """A table of 8 bits with one scale a token; only the rows that a batch needs become float."""
        table = self._value(WORD_EMBEDDINGS)
        steps = np.maximum(np.abs(table).max(axis=1, keepdims=True), 1e-8) / np.float32(_STORED_MAX)
        stored = self._constant(f"{WORD_EMBEDDINGS}.int8", _rounded(table / steps, np.int8))
        scales = self._constant(f"{WORD_EMBEDDINGS}.scale", steps.astype(np.float32))
        name, ids = node.name, node.input[1]
        self._nodes += [
            helper.make_node("Gather", [stored, ids], [f"{name}.int8"], name=f"{name}.int8"),
            helper.make_node(
                "Cast", [f"{name}.int8"], [f"{name}.cast"], name=f"{name}.cast", to=TensorProto.FLOAT
            ),
            helper.make_node("Gather", [scales, ids], [f"{name}.scale"], name=f"{name}.scale"),
            helper.make_node("Mul", [f"{name}.cast", f"{name}.scale"], list(node.output), name=name),
        ]

    def _keep(self, node: onnx.NodeProto) -> None:
        """The node as it is, large weights stored in 8 bits: loading the model makes them float."""
        kept = onnx.NodeProto()
        kept.CopyFrom(node)
        if node.op_type == "Gelu":
            del kept.attribute[:]
            kept.attribute.append(helper.make_attribute("approximate", "tanh"))
        for index, name in enumerate(node.input):
            if name not in self._weights or node.op_type == "Loop":
                continue
            value = self._value(name)
            if value.size < _STORE_FROM:
                self._constant(name, value)
            else:
                kept.input[index] = self._stored(name, value)
        self._nodes.append(kept)

    def _stored(self, name: str, value: NDArray[np.float32]) -> str:
        """One scale for each column; returns the decoded value's name."""
        decoded = f"{name}.decoded"
        if f"{name}.int8" not in self._constants:
            axes = tuple(range(value.ndim - 1))
            steps = np.maximum(np.abs(value).max(axis=axes), 1e-8).astype(np.float32) / np.float32(
                _STORED_MAX
            )
            stored = self._constant(f"{name}.int8", _rounded(value / steps, np.int8))
            scale = self._constant(f"{name}.scale", steps)
            self._nodes += [
                helper.make_node(
                    "Cast", [stored], [f"{name}.cast"], name=f"{name}.cast", to=TensorProto.FLOAT
                ),
                helper.make_node("Mul", [f"{name}.cast", scale], [decoded], name=decoded),
            ]
        return decoded

    def _constant(self, name: str, value: NDArray[Any] | np.generic) -> str:
        self._constants[name] = np.asarray(value)
        return name


def _rounded(values: NDArray[np.float32], dtype: type[np.int8] | type[np.int32]) -> NDArray[Any]:
    return np.rint(values).astype(dtype)
