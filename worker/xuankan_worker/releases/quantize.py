"""Makes an INT8 model for CPUs of a float graph and a few hundred pairs.

The pairs run through the float model, which shows what its activations hold. From that, each method makes a
candidate (`int8.Rewriter`); the one whose scores on pairs kept apart are closest to the float model's wins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from xuankan.errors import ReleaseError
from xuankan_worker.engines.runtime import open_session
from xuankan_worker.manifest import Quantization
from xuankan_worker.releases.int8 import Int8Method, ObservedChannels, Rewriter, is_token_dense, nodes

MIN_PAIRS = 50
_HELD_OUT = 5  # every fifth pair measures and does not calibrate


class Pair(NamedTuple):
    """A row without padding: `input_ids` int32 [S], and the tokens of `[CLS] manuscript [SEP]`."""

    input_ids: NDArray[np.int32]
    first_length: int


METHODS = (
    Int8Method("min-max", None),
    Int8Method("percentile 99.99", None, 99.99),
    Int8Method("balanced 0.5, min-max", 0.5),
    Int8Method("balanced 0.6, min-max", 0.6),
    Int8Method("balanced 0.7, min-max", 0.7),
    Int8Method("balanced 0.8, min-max", 0.8),
)


class Quantized(NamedTuple):
    """An INT8 model and how it was made."""

    model: onnx.ModelProto
    record: Quantization


def quantize(
    model: onnx.ModelProto,
    pairs: Sequence[Pair],
    methods: Sequence[Int8Method] = METHODS,
    progress: Callable[[str, float], None] = lambda _what, _part: None,
    output: str = "scores",
) -> Quantized:
    """Quantize a graph that `graph.write_graph` made; of the methods, the most accurate one is kept.

    Args:
        model: the float graph; it is not changed.
        pairs: 500 to 1000 representative pairs; every fifth is held out to measure.
        methods: what to try.
        progress: called with what is being done and the share of it that is done.
        output: of the graph, that the methods are judged by.

    Raises:
        ReleaseError: too few pairs, or a graph that was not made by `write_graph`.
    """
    if len(pairs) < MIN_PAIRS:
        raise ReleaseError(f"{len(pairs)} calibration pairs; at least {MIN_PAIRS} are needed, 500 are better")
    names = list(dict.fromkeys(node.input[0] for node in nodes(model) if is_token_dense(node)))
    if not names:
        raise ReleaseError("the graph has no layers to quantize: it was not made by `xuankan model`")
    calibration = [pair for index, pair in enumerate(pairs) if index % _HELD_OUT]
    held_out = pairs[::_HELD_OUT]
    observed = _observe(model, names, calibration, progress)
    reference = _scores(model, held_out, output)
    unit = max(float(reference.std()), 1e-12)
    best: tuple[float, str, onnx.ModelProto] | None = None
    errors: dict[str, float] = {}
    for index, method in enumerate(methods):
        progress("trying methods", index / len(methods))
        candidate = Rewriter(model, observed, method).rewrite()
        error = float(np.sqrt(np.mean(np.square(_scores(candidate, held_out, output) - reference)))) / unit
        errors[method.name] = round(error, 5)
        if best is None or error < best[0]:
            best = (error, method.name, candidate)
    if best is None:
        raise ReleaseError("no quantization method to try")
    return Quantized(best[2], Quantization(best[1], len(calibration), errors))


def _observe(
    model: onnx.ModelProto, names: list[str], pairs: Sequence[Pair], progress: Callable[[str, float], None]
) -> dict[str, ObservedChannels]:
    tapped = _tapped(model, names)
    observed: dict[str, ObservedChannels] = {}
    random = np.random.default_rng(0)
    for index, values in enumerate(_run(tapped, names, pairs)):
        if not index % 20:
            progress("observing activations", index / len(pairs))
        for name, tokens in zip(names, values, strict=True):
            tokens = tokens.reshape(-1, tokens.shape[-1])
            if name not in observed:
                observed[name] = ObservedChannels(tokens.min(axis=0), tokens.max(axis=0), [])
            observed[name].add(tokens, random)
    return observed


def _tapped(model: onnx.ModelProto, names: list[str]) -> onnx.ModelProto:
    """The model with these values, from around its loop or in it, as outputs for batches of one row."""
    tapped = onnx.ModelProto()
    tapped.CopyFrom(model)
    loop = next(node for node in tapped.graph.node if node.op_type == "Loop")
    inside = {output for node in loop.attribute[0].g.node for output in node.output}
    for name in names:
        value = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        tapped.graph.output.append(value)
        if name in inside:  # what a loop's body gives out in each turn, the loop gives out stacked
            loop.attribute[0].g.output.append(value)
            loop.output.append(name)
    return tapped


def _scores(model: onnx.ModelProto, pairs: Sequence[Pair], output: str) -> NDArray[np.float32]:
    return np.concatenate([values[0] for values in _run(model, [output], pairs)])


def _run(
    model: onnx.ModelProto, outputs: list[str], pairs: Sequence[Pair]
) -> Iterator[list[NDArray[np.float32]]]:
    session = open_session(model.SerializeToString())
    for pair in pairs:
        feed = {
            "input_ids": pair.input_ids[None],
            "lengths": np.array([len(pair.input_ids)], dtype=np.int32),
            "first_lengths": np.array([pair.first_length], dtype=np.int32),
        }
        yield session.run(outputs, feed)
