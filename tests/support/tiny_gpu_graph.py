"""A release whose GPU graph is small enough to be built in a tenth of a second."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from xuankan_worker.manifest import Architecture, Manifest, file_sha256

VOCABULARY, HIDDEN, OPSET = 97, 32, 21


def write_release(
    directory: Path, max_length: int = 64, operator: str = "ReduceMean", output: str = "scores"
) -> Path:
    """FP16 embeddings, averaged; an `operator` in place of the mean is one that TensorRT does not know."""
    directory.mkdir(parents=True, exist_ok=True)
    own = operator != "ReduceMean"
    domain = "com.example" if own else ""
    pool = helper.make_node(operator, ["embedded", "axes"], ["mean"], name="pool.rows", domain=domain)
    if not own:
        pool.attribute.append(helper.make_attribute("keepdims", 0))
    nodes = [
        helper.make_node("Gather", ["table", "tokens"], ["embedded"], name="embed"),
        pool,
        helper.make_node("Cast", ["lengths"], ["lengths.float"], name="lengths", to=TensorProto.FLOAT),
        helper.make_node("Cast", ["places"], ["places.float"], name="places.cast", to=TensorProto.FLOAT),
        helper.make_node(
            "ReduceSum", ["places.float", "rows"], ["places.sum"], name="places.sum", keepdims=0
        ),
        helper.make_node("Cast", ["mean"], ["mean.float"], name="mean.cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", ["mean.float", "lengths.float"], ["scaled"], name="scale"),
        helper.make_node("Add", ["scaled", "places.sum"], [output], name="shift"),
    ]
    table = np.random.default_rng(0).standard_normal((VOCABULARY, HIDDEN)).astype(np.float16)
    values = {"table": table, "axes": np.array([0, 2]), "rows": np.array([0])}
    constants = [numpy_helper.from_array(value, name) for name, value in values.items()]
    inputs = [("tokens", ["S", "B"]), ("places", ["S", "B"]), ("lengths", ["B"])]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, TensorProto.INT32, shape) for name, shape in inputs],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["B"])],
        constants,
    )
    opsets = [helper.make_opsetid("", OPSET), *([helper.make_opsetid("com.example", 1)] if own else [])]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    (directory / "model.fp16.onnx").write_bytes(model.SerializeToString())
    Manifest(
        name="tiny",
        base_model="random",
        architecture=Architecture("bert", 1, 1, HIDDEN, HIDDEN, VOCABULARY, max_length),
        template="0" * 16,
        catalogue="1" * 16,
        first_stage_weight=0.5,
        temperature=2.0,
        files={"model.fp16.onnx": file_sha256(directory / "model.fp16.onnx")},
    ).save(directory)
    return directory
