"""The ONNX graph computes what the checkpoint computes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file  # pyright: ignore[reportUnknownVariableType]

from tests.support import tiny_bert
from xuankan.errors import ReleaseError
from xuankan_worker.engines import TokenBatch
from xuankan_worker.engines.runtime import open_session
from xuankan_worker.releases.checkpoint import Checkpoint
from xuankan_worker.releases.graph import OPSET, write_graph


def run(model: onnx.ModelProto, batch: TokenBatch) -> NDArray[np.floating]:
    feed = {"input_ids": batch.input_ids, "lengths": batch.lengths, "first_lengths": batch.first_lengths}
    return open_session(model.SerializeToString()).run(["scores"], feed)[0]


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
def test_scores_are_the_checkpoints(tmp_path: Path, activation: str) -> None:
    model = write_graph(Checkpoint.load(tiny_bert.write_checkpoint(tmp_path, activation)))
    for batch in (tiny_bert.random_batch(16), tiny_bert.random_batch(3, lengths=[1, 2, 48])):
        scores = run(model, batch)
        assert scores.dtype == np.float32
        assert np.abs(scores - tiny_bert.expected_scores(batch, activation)).max() < 1e-5


def test_rows_that_begin_alike_keep_apart(tmp_path: Path) -> None:
    """The same token at the same place is computed once, unless its segment differs."""
    model = write_graph(Checkpoint.load(tiny_bert.write_checkpoint(tmp_path)))
    batch = tiny_bert.random_batch(6, tokens=20, lengths=[20, 20, 20, 12, 15, 20])
    input_ids = batch.input_ids.copy()
    input_ids[1:] = input_ids[0]
    input_ids[2, 15:] += 1
    input_ids %= tiny_bert.VOCABULARY
    first_lengths = np.array([10, 10, 10, 10, 10, 7], dtype=np.int32)
    alike = replace(batch, input_ids=input_ids, first_lengths=first_lengths)
    scores = run(model, alike)
    assert np.abs(scores - tiny_bert.expected_scores(alike)).max() < 1e-5
    assert scores[0] == pytest.approx(scores[1])
    assert len(set(scores.round(4).tolist())) == 5


def test_the_graph_is_valid_and_pins_its_opset(tmp_path: Path) -> None:
    model = write_graph(Checkpoint.load(tiny_bert.write_checkpoint(tmp_path)))
    onnx.checker.check_model(model, full_check=True)  # pyright: ignore[reportUnknownMemberType]
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": OPSET, "com.microsoft": 1}


@pytest.mark.parametrize(
    ("key", "value"),
    [("model_type", "deberta"), ("hidden_act", "swish"), ("position_embedding_type", "relative_key")],
)
def test_another_architecture_is_refused_by_name(tmp_path: Path, key: str, value: str) -> None:
    tiny_bert.write_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**tiny_bert.config(), key: value}))
    with pytest.raises(ReleaseError, match=f"{key} is '{value}'"):
        Checkpoint.load(tmp_path)


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    tiny_bert.write_checkpoint(tmp_path)
    tensors = tiny_bert.tensors()
    del tensors["bert.encoder.layer.1.output.dense.bias"]
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ReleaseError, match=r"no bert\.encoder\.layer\.1\.output\.dense\.bias"):
        write_graph(Checkpoint.load(tmp_path))


def test_a_head_of_several_labels_is_refused(tmp_path: Path) -> None:
    tiny_bert.write_checkpoint(tmp_path)
    tensors = tiny_bert.tensors()
    tensors["classifier.weight"] = np.zeros((3, tiny_bert.HIDDEN), dtype=np.float32)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ReleaseError, match=r"classifier\.weight has shape \(3, 32\), not \(1, 32\)"):
        Checkpoint.load(tmp_path)


@pytest.mark.parametrize("damage", ["missing", "garbage"])
def test_a_damaged_checkpoint_is_one_clear_error(tmp_path: Path, damage: str) -> None:
    tiny_bert.write_checkpoint(tmp_path)
    path = tmp_path / "model.safetensors"
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(b"\x00" * 100)
    with pytest.raises(ReleaseError, match=r"no usable config\.json and model\.safetensors"):
        Checkpoint.load(tmp_path)
