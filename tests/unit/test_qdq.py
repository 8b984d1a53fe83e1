"""Q/DQ around the linear layers of a graph for GPUs: where, with which scales, and what it computes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from tests.support import tiny_bert
from xuankan.errors import ReleaseError
from xuankan_worker.engines.runtime import open_session
from xuankan_worker.engines.sequence import sequence_feed
from xuankan_worker.releases.calibrate import ObservedActivations, RangeMethod, entropy, min_max, score
from xuankan_worker.releases.checkpoint import Checkpoint
from xuankan_worker.releases.encoder_graph import write_encoder_graph
from xuankan_worker.releases.qdq import (
    QuantizedPrecision,
    Ranges,
    constants_of,
    divisors,
    e4m3,
    float_twin,
    quantized,
    sites,
)
from xuankan_worker.releases.quantize import Pair

LINEAR = ("query", "key_value", "attention.output", "inner", "output")
NAMES = [f"layer.{layer}.{part}" for layer in range(tiny_bert.LAYERS - 1) for part in LINEAR]


@pytest.fixture(params=["gelu", "relu"])
def model(tmp_path: Path, request: pytest.FixtureRequest) -> onnx.ModelProto:
    return write_encoder_graph(Checkpoint.load(tiny_bert.write_checkpoint(tmp_path, request.param)))


@pytest.fixture
def gelu(tmp_path: Path) -> onnx.ModelProto:
    return write_encoder_graph(Checkpoint.load(tiny_bert.write_checkpoint(tmp_path)))


def pairs(count: int, seed: int = 0) -> list[Pair]:
    batch = tiny_bert.random_batch(count, seed=seed)
    rows = zip(batch.input_ids, batch.lengths, batch.first_lengths, strict=True)
    return [Pair(ids[:length], int(first)) for ids, length, first in rows]


def observe(model: onnx.ModelProto, balance: float | None = None) -> Ranges:
    method = RangeMethod("min-max", balance, min_max)
    return ObservedActivations(model, sites(model), [balance], pairs(60)).ranges(method)


def nodes(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    return {output: node for node in model.graph.node for output in node.output}


def tensors(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    return {value.name: value for value in model.graph.initializer}


def axis(node: onnx.NodeProto) -> int | None:
    return next((attribute.i for attribute in node.attribute if attribute.name == "axis"), None)


def error(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.mean(np.square(found - wanted))) / wanted.std())


def test_the_layers_on_every_token_are_quantized_and_nothing_else(model: onnx.ModelProto) -> None:
    result = quantized(model, "int8", NAMES, observe(model))
    made = nodes(result)
    found = [
        node.name
        for node in result.graph.node
        if node.op_type in ("Gemm", "MatMul") and made[node.input[0]].op_type == "DequantizeLinear"
    ]
    assert found == NAMES
    kinds = {value.name: value.data_type for value in result.graph.initializer}
    assert kinds["layer.0.inner.weight.int8"] == TensorProto.INT8
    assert "layer.0.inner.weight" not in kinds
    last = f"layer.{tiny_bert.LAYERS - 1}"
    for name in ("embeddings.words", f"{last}.query.weight", f"{last}.inner.weight", "pooler.weight"):
        assert kinds[name] == TensorProto.FLOAT16
    onnx.checker.check_model(result, full_check=True)  # pyright: ignore[reportUnknownMemberType]


@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_every_scale_is_positive_and_every_zero_point_zero(
    model: onnx.ModelProto, precision: QuantizedPrecision
) -> None:
    result = quantized(model, precision, NAMES, observe(model))
    constants, made = tensors(result), nodes(result)
    wanted = TensorProto.INT8 if precision == "int8" else TensorProto.FLOAT8E4M3FN
    checked = 0
    for node in result.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        scale, zero = constants[node.input[1]], constants[node.input[2]]
        values = numpy_helper.to_array(scale)
        assert (values > 0).all()
        assert scale.data_type == TensorProto.FLOAT16
        assert (zero.data_type, zero.dims, set(zero.raw_data)) == (wanted, scale.dims, {0})
        if node.op_type == "DequantizeLinear" and node.input[0] in constants:
            weight = constants[node.input[0]]
            assert weight.data_type == wanted
            if precision == "int8":  # one scale an output channel, the last axis
                assert (axis(node), values.shape) == (len(weight.dims) - 1, (weight.dims[-1],))
                assert np.abs(numpy_helper.to_array(weight).astype(int)).max() == 127
            else:
                assert values.shape == ()
        else:
            assert values.shape == ()
            if node.op_type == "DequantizeLinear":
                assert made[node.input[0]].input[1] == node.input[1]  # as its QuantizeLinear has it
        checked += 1
    quantizers = [node for node in result.graph.node if node.op_type == "QuantizeLinear"]
    assert len(quantizers) == len(NAMES)  # stacked products have one of their own
    assert checked == 3 * len(NAMES)


@pytest.mark.parametrize(("precision", "most"), [("int8", 0.06), ("fp8", 0.2)])
def test_scores_follow_the_fp16_graph_on_onnx_runtime(
    model: onnx.ModelProto, precision: QuantizedPrecision, most: float
) -> None:
    result = quantized(model, precision, NAMES, observe(model))
    fresh = pairs(100, seed=7)
    wanted, found = score(model, fresh), score(result, fresh)
    assert 1e-4 < error(found, wanted) < most
    assert error(score(float_twin(result), fresh), wanted) < most


def test_onnx_runtime_runs_the_int8_graph_with_its_own_optimizations(model: onnx.ModelProto) -> None:
    result = quantized(model, "int8", NAMES, observe(model))
    batch = tiny_bert.random_batch(9, seed=3)
    plain, optimized = (
        open_session(result.SerializeToString(), as_written=plain).run(["scores"], sequence_feed(batch))[0]
        for plain in (True, False)
    )
    np.testing.assert_allclose(optimized, plain, atol=0.05 * float(plain.std()))


def test_the_float32_twin_has_the_same_scores(model: onnx.ModelProto) -> None:
    fresh = pairs(50, seed=5)
    assert error(score(float_twin(model), fresh), score(model, fresh)) < 0.01


def test_balanced_channels_cancel_out(model: onnx.ModelProto) -> None:
    """Dividing an activation's channels and multiplying the weights changes nothing but the rounding."""
    ranges = observe(model, balance=0.5)
    assert ranges.divisors.keys() == {site.source for site in sites(model)}
    fresh = pairs(100, seed=8)
    found = score(quantized(model, "int8", NAMES, ranges), fresh)
    assert error(found, score(model, fresh)) < 0.06


def test_keys_as_large_as_values_change_no_score(gelu: onnx.ModelProto) -> None:
    """Keys that are 30 times smaller than values would be rounded away with the values' scales."""
    scaled = onnx.ModelProto()
    scaled.CopyFrom(gelu)
    for value in scaled.graph.initializer:
        if value.name.startswith("layer.0.") and value.name.split(".")[2] in ("key_value", "query"):
            array = numpy_helper.to_array(value).astype(np.float32)
            array = array * (np.array([1 / 30, 1])[:, None, None] if "key_value" in value.name else 30)
            value.CopyFrom(numpy_helper.from_array(array.astype(np.float16), value.name))
    fresh, chosen = pairs(60, seed=2), ["layer.0.key_value"]
    ranges = observe(gelu)
    as_it_was = error(score(quantized(gelu, "int8", chosen, ranges), fresh), score(gelu, fresh))
    assert (
        error(score(quantized(scaled, "int8", chosen, ranges), fresh), score(scaled, fresh)) < 2 * as_it_was
    )


def test_the_given_graph_is_not_changed(gelu: onnx.ModelProto) -> None:
    before = gelu.SerializeToString()
    quantized(gelu, "int8", NAMES, observe(gelu, balance=0.7))
    assert gelu.SerializeToString() == before


def test_layers_that_are_not_chosen_stay_as_they_are(gelu: onnx.ModelProto) -> None:
    result = quantized(gelu, "int8", ["layer.1.inner"], observe(gelu))
    before, after = constants_of(gelu), constants_of(result)
    for name, value in before.items():
        if name != "layer.1.inner.weight":
            np.testing.assert_array_equal(after[name], value)
    assert sum(node.op_type == "QuantizeLinear" for node in result.graph.node) == 1


def test_another_graph_is_refused() -> None:
    graph = onnx.helper.make_graph([], "empty", [], [])
    with pytest.raises(ReleaseError, match=r"no layers to quantize.*PyTorch's exporter"):
        sites(onnx.helper.make_model(graph))


def test_divisors_balance_activation_and_weights() -> None:
    activation = np.array([1, 1, 100, 1], np.float32)
    weight = np.ones((4, 8), np.float16)
    found = divisors(activation, [weight], 0.5)
    np.testing.assert_allclose(found, [1, 1, 10, 1], rtol=1e-3)
    np.testing.assert_allclose(divisors(activation, [np.stack([weight, weight])], 0.5), found)


def test_a_channel_that_was_silent_is_divided_by_little() -> None:
    """It may not stay silent, and would then need a range of its own."""
    weight = np.ones((4, 8), np.float16)
    assert divisors(np.array([0, 1, 1, 1], np.float32), [weight], 0.7).tolist() == [0.25, 1, 1, 1]


def e4m3_table() -> Mapping[int, float]:
    """Values by code, as the format is defined: 4 bits of exponent, bias 7, 3 of mantissa; 0x7F is NaN."""
    return {
        code: (code & 7) / 8 * 2.0**-6 if code < 8 else (1 + (code & 7) / 8) * 2.0 ** ((code >> 3) - 7)
        for code in range(127)
    }


def test_e4m3_codes_are_the_nearest_values() -> None:
    table = e4m3_table()
    assert max(table.values()) == 448
    codes = np.array(list(table))
    values = np.array(list(table.values()), np.float32)
    np.testing.assert_array_equal(e4m3(values), codes)
    np.testing.assert_array_equal(e4m3(-values[1:]), codes[1:] | 128)
    random = np.random.default_rng(0).uniform(-448, 448, 500).astype(np.float32)
    for value, code in zip(random, e4m3(random), strict=True):
        assert abs(table[code & 127] - abs(value)) == min(abs(v - abs(value)) for v in table.values())


def test_e4m3_ties_go_to_the_even_code() -> None:
    table: dict[int, Any] = dict(e4m3_table())
    for code in range(125):
        middle = np.array([(table[code] + table[code + 1]) / 2], np.float32)
        assert e4m3(middle)[0] == (code if code % 2 == 0 else code + 1)


def test_entropy_is_a_method_of_calibration_too(gelu: onnx.ModelProto) -> None:
    observed = ObservedActivations(gelu, sites(gelu), [None], pairs(60))
    widest = observed.ranges(RangeMethod("min-max", None, min_max)).largest
    clipped = observed.ranges(RangeMethod("entropy", None, entropy)).largest
    assert all(0 < clipped[name] <= widest[name] for name in widest)
