"""An INT8 model scores as its float model does, is much smaller, and treats every row alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.support import tiny_bert
from tests.support.calibration import make_pairs, scores
from xuankan.errors import ReleaseError
from xuankan_worker.releases.checkpoint import Checkpoint
from xuankan_worker.releases.graph import write_graph
from xuankan_worker.releases.int8 import Int8Method
from xuankan_worker.releases.quantize import METHODS, quantize


def body(model: onnx.ModelProto) -> onnx.GraphProto:
    return next(node for node in model.graph.node if node.op_type == "Loop").attribute[0].g


def float_model(directory: Path, activation: str) -> onnx.ModelProto:
    return write_graph(Checkpoint.load(tiny_bert.write_checkpoint(directory, activation)))


@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_int8_scores_follow_the_float_model(tmp_path: Path, activation: str) -> None:
    model = float_model(tmp_path, activation)
    before = model.SerializeToString()
    result = quantize(model, make_pairs(200, seed=1))
    assert model.SerializeToString() == before
    fresh = make_pairs(200, seed=2)
    wanted, found = scores(model, fresh), scores(result.model, fresh)
    assert np.sqrt(np.mean(np.square(wanted - found))) < 0.05 * wanted.std()
    assert not np.array_equal(wanted, found)
    on_every_token = {node.op_type for node in body(result.model).node if node.name.startswith("tokens.")}
    assert "QGemm" in on_every_token
    assert "Relu" not in on_every_token  # it is the clipping of the unsigned output


def test_the_most_accurate_method_is_kept_and_recorded(tmp_path: Path) -> None:
    result = quantize(float_model(tmp_path, "gelu"), make_pairs(100, seed=1))
    record = result.record
    assert set(record.score_error) == {method.name for method in METHODS}
    assert record.score_error[record.method] == min(record.score_error.values())
    assert record.samples == 80


def test_clipping_hard_is_measurably_worse(tmp_path: Path) -> None:
    harsh = Int8Method("percentile 60", None, 60.0)
    errors = quantize(
        float_model(tmp_path, "gelu"), make_pairs(60, seed=1), [METHODS[0], harsh]
    ).record.score_error
    assert errors["percentile 60"] > 3 * errors["min-max"]


def test_the_bulk_of_the_weights_is_stored_in_eight_bits(tmp_path: Path) -> None:
    model = quantize(float_model(tmp_path, "gelu"), make_pairs(60, seed=1)).model
    constants = [*model.graph.initializer, *body(model).initializer]
    stored = {value.name: value.data_type for value in constants}
    assert stored["embeddings.word.int8"] == onnx.TensorProto.INT8
    assert stored["tokens.layer.0.query.weight.int8"] == onnx.TensorProto.INT8
    assert "embeddings.word" not in stored


def test_weights_keep_to_seven_bits(tmp_path: Path) -> None:
    """AVX2 adds two products in 16 bits: eight-bit weights would saturate there and nowhere else."""
    model = quantize(float_model(tmp_path, "gelu"), make_pairs(60, seed=1)).model
    weights = [
        onnx.numpy_helper.to_array(value)
        for value in [*model.graph.initializer, *body(model).initializer]
        if value.name.startswith("tokens.") and value.name.endswith(".weight.int8")
    ]
    assert weights
    assert max(int(np.abs(weight.astype(np.int32)).max()) for weight in weights) == 63


def test_too_few_pairs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="10 calibration pairs; at least 50"):
        quantize(float_model(tmp_path, "gelu"), make_pairs(10, seed=1))


def test_another_graph_is_refused() -> None:
    graph = onnx.helper.make_graph([], "empty", [], [])
    with pytest.raises(ReleaseError, match="not made by `xuankan model`"):
        quantize(onnx.helper.make_model(graph), make_pairs(60, seed=1))
