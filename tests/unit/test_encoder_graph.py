"""The graph for GPUs computes what the checkpoint computes, for every family."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import save_file  # pyright: ignore[reportUnknownVariableType]

from tests.support import families, tiny_bert
from xuankan.errors import ReleaseError
from xuankan_worker.engines import TokenBatch
from xuankan_worker.engines.runtime import Session, open_session
from xuankan_worker.engines.sequence import sequence_feed
from xuankan_worker.releases.checkpoint import Checkpoint
from xuankan_worker.releases.encoder_graph import OPSET, computed_activation, write_encoder_graph
from xuankan_worker.releases.graph import write_graph
from xuankan_worker.releases.random_checkpoint import random_checkpoint

FAMILIES = sorted(families.NAMES)
HALF = 0.015
"""How far FP16 may be from float64 here; logits have a standard deviation of half of one and more."""


def run(model: onnx.ModelProto, batch: TokenBatch) -> NDArray[np.floating]:
    return open_session(model.SerializeToString()).run(["scores"], sequence_feed(batch))[0]


def in_float32(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph without the rounding of FP16, so that a small mistake shows."""
    half, full = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for constant in copy.graph.initializer:
        if constant.data_type == half:
            value = onnx.numpy_helper.to_array(constant).astype(np.float32)
            constant.CopyFrom(onnx.numpy_helper.from_array(value, constant.name))
    assert full not in {value.type.tensor_type.elem_type for value in copy.graph.input}
    return copy


def batch_of(rows: int, **changes: Any) -> TokenBatch:
    return tiny_bert.random_batch(rows, tokens=families.POSITIONS, **changes)


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_the_familys(tmp_path: Path, family: str) -> None:
    model = in_float32(write_encoder_graph(Checkpoint.load(families.write_checkpoint(tmp_path, family))))
    for batch in (batch_of(16), batch_of(4, lengths=[1, 2, 17, families.POSITIONS], seed=1)):
        scores, wanted = run(model, batch), families.expected_scores(batch, family)
        assert scores.dtype == np.float32
        assert wanted.std() > 0.15
        # Weights are rounded to FP16 and GELU is by tanh; a wrong bias, place or head makes 0.1 and more.
        np.testing.assert_allclose(scores, wanted, atol=0.005)


@pytest.mark.parametrize("family", FAMILIES)
def test_fp16_is_close(tmp_path: Path, family: str) -> None:
    model = write_encoder_graph(Checkpoint.load(families.write_checkpoint(tmp_path, family)))
    batch = batch_of(16)
    np.testing.assert_allclose(run(model, batch), families.expected_scores(batch, family), atol=HALF)


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
def test_activations(tmp_path: Path, activation: str) -> None:
    checkpoint = Checkpoint.load(families.write_checkpoint(tmp_path, "bert", activation))
    assert computed_activation(checkpoint) == ("relu" if activation == "relu" else "gelu_tanh")
    batch = batch_of(16)
    scores = run(write_encoder_graph(checkpoint), batch)
    np.testing.assert_allclose(scores, families.expected_scores(batch, "bert", activation), atol=HALF)


@given(
    lengths=st.lists(st.integers(1, tiny_bert.POSITIONS), min_size=1, max_size=9),
    padding=st.integers(0, 20),
    seed=st.integers(0, 1000),
)
def test_it_agrees_with_the_cpus_graph(
    tiny_sessions: tuple[Session, Session], lengths: list[int], padding: int, seed: int
) -> None:
    """Whatever the lengths, and with rows padded by random tokens to more than the longest needs."""
    cpu, gpu = tiny_sessions
    tokens = min(max(lengths) + padding, tiny_bert.POSITIONS)
    batch = tiny_bert.random_batch(len(lengths), seed, tokens, lengths)
    feed = {"input_ids": batch.input_ids, "lengths": batch.lengths, "first_lengths": batch.first_lengths}
    wanted = cpu.run(["scores"], feed)[0]
    np.testing.assert_allclose(gpu.run(["scores"], sequence_feed(batch))[0], wanted, atol=HALF)


@pytest.fixture(scope="module")
def tiny_sessions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Session, Session]:
    checkpoint = Checkpoint.load(tiny_bert.write_checkpoint(tmp_path_factory.mktemp("tiny")))
    graphs = (write_graph(checkpoint), write_encoder_graph(checkpoint))
    cpu, gpu = (open_session(graph.SerializeToString()) for graph in graphs)
    return cpu, gpu


def test_lengths_up_to_a_multiple_of_16_run_beyond_the_positions(tmp_path: Path) -> None:
    """Engines are built for such lengths; what lies beyond the checkpoint's positions is padding."""
    model = write_encoder_graph(Checkpoint.load(families.write_checkpoint(tmp_path, "mpnet")))
    batch = batch_of(5)
    assert families.POSITIONS % 16
    room = -families.POSITIONS % 16
    wide = replace(batch, input_ids=np.pad(batch.input_ids, ((0, 0), (0, room)), constant_values=5))
    np.testing.assert_allclose(run(model, wide), run(model, batch), atol=2e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_graph_is_standard_onnx_with_its_opset_pinned(tmp_path: Path, family: str) -> None:
    model = write_encoder_graph(Checkpoint.load(families.write_checkpoint(tmp_path, family)))
    onnx.checker.check_model(model, full_check=True)  # pyright: ignore[reportUnknownMemberType]
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": OPSET}
    kinds = {value.name: value.type.tensor_type.elem_type for value in model.graph.input}
    assert kinds == dict.fromkeys(("tokens", "places", "lengths"), onnx.TensorProto.INT32)
    assert not any(node.op_type == "Cast" for node in model.graph.node[:-5]), "all of it is FP16"


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        ("bert", {"model_type": "t5"}, "model_type is 't5'; supported are bert, camembert, "),
        ("roberta", {"hidden_act": "swish"}, "hidden_act is 'swish'; supported are gelu, "),
        ("distilbert", {"activation": "silu"}, "hidden_act is 'silu'"),
        ("bert", {"position_embedding_type": "relative_key"}, "only 'absolute' is supported"),
        ("electra", {"embedding_size": 16}, "embedding_size is 16, hidden_size 32"),
        ("mpnet", {"hidden_size": "wide"}, "config.json"),
        ("roberta", {"max_position_embeddings": 99}, r"position_embeddings\.weight has shape \(54, 32\)"),
    ],
)
def test_what_is_not_supported_is_named(
    tmp_path: Path, family: str, changes: dict[str, Any], message: str
) -> None:
    families.write_checkpoint(tmp_path, family)
    (tmp_path / "config.json").write_text(json.dumps(families.config(family, **changes)))
    with pytest.raises(ReleaseError, match=message):
        write_encoder_graph(Checkpoint.load(tmp_path))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_weight_is_asked_for_by_the_familys_name(tmp_path: Path, family: str) -> None:
    """Without it, the error says what the file lacks; but the key bias changes no score and is not read."""
    families.write_checkpoint(tmp_path, family)
    random = np.random.default_rng(1)
    everything = families.tensors(family)
    needed = [name for name in everything if not name.endswith((".key.bias", ".k.bias", ".k_lin.bias"))]
    for name in random.choice([name for name in needed if "token_type" not in name], 6, replace=False):
        save_file(
            {key: value for key, value in everything.items() if key != name}, tmp_path / "model.safetensors"
        )
        with pytest.raises(ReleaseError, match=name.replace(".", r"\.")):
            write_encoder_graph(Checkpoint.load(tmp_path))


@pytest.mark.parametrize(("family", "name"), [("bert", "classifier"), ("roberta", "classifier.out_proj")])
def test_several_labels_are_refused(tmp_path: Path, family: str, name: str) -> None:
    families.write_checkpoint(tmp_path, family)
    tensors = families.tensors(family) | {f"{name}.weight": np.zeros((2, families.HIDDEN), np.float32)}
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ReleaseError, match=rf"{name}\.weight has shape \(2, 32\), not \(1, 32\)"):
        Checkpoint.load(tmp_path)


def test_a_weight_beyond_fp16_is_refused(tmp_path: Path) -> None:
    families.write_checkpoint(tmp_path, "bert")
    tensors = families.tensors("bert")
    tensors["bert.encoder.layer.1.output.dense.weight"][3, 4] = 1e5
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(
        ReleaseError, match=r"layer\.1\.output\.weight: its largest value 100000 is beyond FP16"
    ):
        write_encoder_graph(Checkpoint.load(tmp_path))


@pytest.mark.parametrize("family", ["mpnet", "electra", "distilbert"])
def test_the_cpus_graph_refuses_families_it_does_not_know(tmp_path: Path, family: str) -> None:
    checkpoint = Checkpoint.load(families.write_checkpoint(tmp_path, family))
    with pytest.raises(ReleaseError, match=f"does not know the family {family}"):
        write_graph(checkpoint)


@pytest.mark.parametrize("family", ["roberta", "xlm-roberta", "camembert"])
def test_the_cpus_graph_knows_families_that_differ_in_names_and_positions_only(
    tmp_path: Path, family: str
) -> None:
    model = write_graph(Checkpoint.load(families.write_checkpoint(tmp_path, family)))
    batch = batch_of(9)
    feed = {"input_ids": batch.input_ids, "lengths": batch.lengths, "first_lengths": batch.first_lengths}
    scores = open_session(model.SerializeToString()).run(["scores"], feed)[0]
    np.testing.assert_allclose(scores, families.expected_scores(batch, family), atol=1e-5)


def test_a_random_checkpoint_is_the_same_every_time(tmp_path: Path) -> None:
    sizes = {"layers": 2, "hidden": 32, "heads": 4, "intermediate": 64, "vocabulary": 97, "positions": 48}
    one, two, other = (
        random_checkpoint(tmp_path / str(number), **sizes, seed=number // 2) for number in range(3)
    )
    assert (one / "model.safetensors").read_bytes() == (two / "model.safetensors").read_bytes()
    assert (one / "model.safetensors").read_bytes() != (other / "model.safetensors").read_bytes()
    checkpoint = Checkpoint.load(one)
    assert 0.019 < checkpoint.tensor("bert.embeddings.word_embeddings.weight", 97, 32).std() < 0.021
    batch = tiny_bert.random_batch(4)
    assert np.isfinite(run(write_encoder_graph(checkpoint), batch)).all()


def test_the_relative_bias_of_far_tokens(tmp_path: Path) -> None:
    tensors = families.tensors("mpnet")
    checkpoint = Checkpoint.load(families.write_checkpoint(tmp_path, "mpnet"))
    table = checkpoint.relative_bias(300)
    assert table is not None
    places = np.arange(300)[None] - np.arange(300)[:, None] + 299
    np.testing.assert_array_equal(table[:, places], families.relative_bias(tensors, 300).astype(np.float32))
