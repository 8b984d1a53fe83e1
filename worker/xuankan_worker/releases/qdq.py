"""Rewrites the FP16 graph for GPUs with explicit Q/DQ: INT8 or FP8, for TensorRT and ONNX Runtime alike.

What is quantized: the five linear layers of every encoder layer but the last, which run on every token and
are nearly all of the work. Everything else stays FP16: embeddings, normalizations, attention itself, the last
layer, which is computed for one token a row, and the head.

How: `QuantizeLinear` and `DequantizeLinear` before a layer's activation, `DequantizeLinear` after its stored
weight. TensorRT makes an 8-bit matrix product of that and puts the quantization into the kernel before it.
Symmetric, zero point 0, one scale an activation tensor. INT8 weights have one scale an output channel, FP8 is
E4M3 with one scale a tensor.

Keys and values are one stacked product whose scales are shared. Queries only meet keys in q · k, so key
channels are first scaled to the size of the value channels and query channels by the inverse: exact, and
then sharing costs nothing.

A few activation channels are tens of times larger than the rest. `Ranges.divisors` balances them
(SmoothQuant, Xiao et al. 2023, eq. 4): channel k is divided before it is quantized, row k of the weight is
multiplied.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from xuankan.errors import ReleaseError

QuantizedPrecision = Literal["int8", "fp8"]
INT8_MAX = 127
FP8_MAX = 448.0
"""Largest finite value of E4M3 (Micikevicius et al. 2022, "FP8 Formats for Deep Learning", table 1)."""
_SITE = re.compile(r"layer\.(\d+)\.(query|key_value|attention\.output|inner|output)")
_SMALLEST = 2.0**-14
"""Scales are FP16; below this they would lose digits."""
_MOST_EQUALIZED = 64.0


class Site(NamedTuple):
    """A linear layer to quantize.

    Attributes:
        name: of its node.
        source: the activation [T, K] that it reads.
        weight: its constant, [K, N] or [2, K, N].
    """

    name: str
    source: str
    weight: str


@dataclass(frozen=True, slots=True, eq=False)
class Ranges:
    """What decides the scales of activations.

    Attributes:
        largest: by activation, the largest magnitude to represent, after the division.
        divisors: by activation, float32 [K]; an activation without is not divided.
    """

    largest: Mapping[str, float]
    divisors: Mapping[str, NDArray[np.float32]]


def sites(model: onnx.ModelProto) -> list[Site]:
    """The linear layers to quantize, in the graph's order.

    Raises:
        ReleaseError: the graph has none: another program wrote it, or it has one layer only.
    """
    constants = {value.name for value in model.graph.initializer}
    unsqueezed = {n.output[0]: n.input[0] for n in model.graph.node if n.op_type == "Unsqueeze"}
    found: list[tuple[int, Site]] = []
    for node in model.graph.node:
        match = _SITE.fullmatch(node.name)
        if match and node.op_type in ("Gemm", "MatMul") and node.input[1] in constants:
            source = unsqueezed.get(node.input[0], node.input[0])
            found.append((int(match[1]), Site(node.name, source, node.input[1])))
    last = max((layer for layer, _ in found), default=0)
    if not (result := [site for layer, site in found if layer < last]):
        raise ReleaseError(
            "the graph has no layers to quantize: only graphs that `xuankan model export` writes itself, of "
            "two layers or more, can be; those of PyTorch's exporter cannot"
        )
    return result


def constants_of(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    """The graph's constants by name."""
    return {value.name: numpy_helper.to_array(value) for value in model.graph.initializer}


def float_twin(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with the same weights in float32 arithmetic, Q/DQ kept: fast and exact on a CPU."""
    twin = onnx.ModelProto()
    twin.CopyFrom(model)
    for value in twin.graph.initializer:
        if value.data_type == TensorProto.FLOAT16:
            value.CopyFrom(
                numpy_helper.from_array(numpy_helper.to_array(value).astype(np.float32), value.name)
            )
    for node in twin.graph.node:
        for attribute in node.attribute:
            if attribute.name == "to" and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.FLOAT
    return twin


def quantized(
    model: onnx.ModelProto, precision: QuantizedPrecision, chosen: Collection[str], ranges: Ranges
) -> onnx.ModelProto:
    """A copy of the FP16 graph with Q/DQ around the sites of these names."""
    return _Rewriter(model, precision, ranges).rewrite([s for s in sites(model) if s.name in chosen])


def divisors(
    source: NDArray[np.float32], weights: Iterable[NDArray[Any]], balance: float
) -> NDArray[np.float32]:
    """What balances an activation's channels, float32 [K], median 1.

    Args:
        source: float32 [K], largest magnitude of each channel.
        weights: those that multiply the activation, [..., K, N].
        balance: how much of the difference moves to the weights, 0 to 1.
    """
    largest = [np.abs(w.astype(np.float32)).reshape(-1, *w.shape[-2:]).max(axis=(0, 2)) for w in weights]
    weight = np.maximum(np.max(largest, axis=0), 1e-6)
    result = np.maximum(source, 1e-6) ** balance / weight ** (1 - balance)
    # A channel that is silent in the sample may speak up later: divided by little, it would be the largest.
    return np.clip(result / np.median(result), 0.25, 1e2).astype(np.float16).astype(np.float32)


class _Rewriter:
    def __init__(self, model: onnx.ModelProto, precision: QuantizedPrecision, ranges: Ranges) -> None:
        self._model = onnx.ModelProto()
        self._model.CopyFrom(model)
        self._type = TensorProto.INT8 if precision == "int8" else TensorProto.FLOAT8E4M3FN
        self._most = float(INT8_MAX) if precision == "int8" else FP8_MAX
        self._per_channel = precision == "int8"
        self._ranges = ranges
        self._values = constants_of(model)
        self._added: list[onnx.TensorProto] = []
        self._done: set[str] = set()
        self._nodes: list[onnx.NodeProto] = []

    def rewrite(self, chosen: Iterable[Site]) -> onnx.ModelProto:
        graph, by_name = self._model.graph, {site.name: site for site in chosen}
        for name in by_name:
            if name.endswith(".key_value") and self._per_channel:
                self._equalize(name.removesuffix(".key_value"))
        for node in graph.node:
            if (site := by_name.get(node.name)) is not None:
                self._site(node, site)
            self._nodes.append(node)
        used = {name for node in self._nodes for name in node.input}
        kept = [value for value in graph.initializer if value.name in used]
        for value in kept:
            if (changed := self._values[value.name]).dtype == np.float16:
                value.CopyFrom(numpy_helper.from_array(changed, value.name))
        del graph.node[:], graph.initializer[:]
        graph.node.extend(self._nodes)
        graph.initializer.extend([*kept, *self._added])
        return self._model

    def _equalize(self, layer: str) -> None:
        """Key channels as large as the value channels of the same column, queries scaled by the inverse."""
        both = self._values[f"{layer}.key_value.weight"].astype(np.float32)
        key, value = np.maximum(np.abs(both).max(axis=1), _SMALLEST)
        factor = np.clip(value / key, 1 / _MOST_EQUALIZED, _MOST_EQUALIZED)
        both[0] *= factor
        self._values[f"{layer}.key_value.weight"] = both.astype(np.float16)
        for name in (f"{layer}.query.weight", f"{layer}.query.bias"):
            self._values[name] = (self._values[name].astype(np.float32) / factor).astype(np.float16)

    def _site(self, node: onnx.NodeProto, site: Site) -> None:
        activation, scale = self._activation(node.input[0], site.source)
        value = self._values[site.weight].astype(np.float32)
        if (divisor := self._ranges.divisors.get(site.source)) is not None:
            value = value * divisor[:, None]
        weight, weight_scale, axis = self._weight(site.weight, value)
        node.input[0] = self._dequantize(f"{node.name}.in", activation, scale)
        node.input[1] = self._dequantize(f"{site.weight}.out", weight, weight_scale, axis)

    @property
    def _suffix(self) -> str:
        return "int8" if self._type == TensorProto.INT8 else "fp8"

    def _activation(self, read: str, source: str) -> tuple[str, str]:
        """`read`, which is `source` of maybe more axes, in 8 bits, once for all readers; and its scale."""
        result = f"{read}.{self._suffix}"
        scale = f"{result}.scale"
        if read in self._done:
            return result, scale
        self._done.add(read)
        balanced = self._balanced(read, source)
        self._constant(scale, np.maximum(np.float32(self._ranges.largest[source] / self._most), _SMALLEST))
        inputs = [balanced, scale, self._zero(f"{result}.zero", ())]
        self._nodes.append(helper.make_node("QuantizeLinear", inputs, [result], name=f"{read}.quantize"))
        return result, scale

    def _balanced(self, read: str, source: str) -> str:
        """`read` with its channels divided; if it has one more axis, that comes after the shared division."""
        if (divisor := self._ranges.divisors.get(source)) is None:
            return read
        balanced = f"{source}.balanced"
        if balanced not in self._done:
            self._done.add(balanced)
            factor = self._constant(f"{source}.balance", 1 / divisor)
            self._nodes.append(helper.make_node("Mul", [source, factor], [balanced], name=balanced))
        if read == source:
            return balanced
        place = next(index for index, node in enumerate(self._nodes) if read in node.output)
        stacked, axes = f"{read}.balanced", self._nodes.pop(place).input[1]
        self._nodes.append(helper.make_node("Unsqueeze", [balanced, axes], [stacked], name=stacked))
        return stacked

    def _weight(self, name: str, value: NDArray[np.float32]) -> tuple[str, str, int | None]:
        """The constant in 8 bits, its scale, and the axis of the scale."""
        stored, axis = f"{name}.{self._suffix}", value.ndim - 1
        across = tuple(range(axis)) if self._per_channel else None
        largest = np.asarray(np.abs(value).max(axis=across), np.float32)
        steps = np.maximum(largest / np.float32(self._most), _SMALLEST).astype(np.float16)
        scaled = np.clip(value / steps.astype(np.float32), -self._most, self._most)
        if self._type == TensorProto.INT8:
            self._added.append(numpy_helper.from_array(np.rint(scaled).astype(np.int8), stored))
        else:
            raw = e4m3(scaled).tobytes()
            self._added.append(helper.make_tensor(stored, self._type, value.shape, raw, raw=True))
        return stored, self._constant(f"{stored}.scale", steps), axis if self._per_channel else None

    def _dequantize(self, name: str, value: str, scale: str, axis: int | None = None) -> str:
        size = next((tensor.dims for tensor in self._added if tensor.name == scale), ())
        inputs = [value, scale, self._zero(f"{name}.zero", tuple(size))]
        attributes: dict[str, Any] = {} if axis is None else {"axis": axis}
        output = f"{name}.float"
        self._nodes.append(
            helper.make_node("DequantizeLinear", inputs, [output], name=f"{name}.dequantize", **attributes)
        )
        return output

    def _zero(self, name: str, shape: tuple[int, ...]) -> str:
        raw = bytes(int(np.prod(shape)))
        self._added.append(helper.make_tensor(name, self._type, shape, raw, raw=True))
        return name

    def _constant(self, name: str, value: NDArray[Any] | np.generic) -> str:
        self._added.append(numpy_helper.from_array(np.asarray(value, np.float16), name))
        return name


def e4m3(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Codes of the nearest E4M3 values, ties to even, uint8; magnitudes are at most `FP8_MAX`."""
    codes = np.arange(127)
    exponent, mantissa = codes >> 3, codes & 7
    table = np.where(exponent > 0, (8 + mantissa) * 2.0 ** (exponent - 10), mantissa * 2.0**-9)
    middles = (table[1:] + table[:-1]) / 2
    magnitude = np.abs(values)
    low, high = np.searchsorted(middles, magnitude, "left"), np.searchsorted(middles, magnitude, "right")
    nearest = np.where(low % 2, high, low)  # they differ in a tie only, and one of the two is even
    return (nearest | np.where(np.signbit(values), 128, 0)).astype(np.uint8)
