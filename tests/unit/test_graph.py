"""The ONNX graph computes what the checkpoint computes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from safetensors.numpy import save_file  # pyright: ignore[reportUnknownVariableType]

from tests.support import tiny_bert
from xuankan.errors import ReleaseError
from xuankan_worker.engines.runtime import open_session
from xuankan_worker.releases.checkpoint import Checkpoint
from xuankan_worker.releases.graph import OPSET, write_graph


def run(model: onnx.ModelProto, input_ids: Any, first_lengths: Any) -> Any:
    session = open_session(model.SerializeToString())
    return session.run(["scores"], {"input_ids": input_ids, "first_lengths": first_lengths})[0]


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
def test_scores_are_the_checkpoints(tmp_path: Path, activation: str) -> None:
    model = write_graph(Checkpoint.load(tiny_bert.write_checkpoint(tmp_path, activation)))
    for length in (3, 17, tiny_bert.POSITIONS):
        batch = tiny_bert.random_batch(5, seed=length, tokens=length, lengths=[length] * 5)
        scores = run(model, batch.input_ids, batch.first_lengths)
        assert scores.dtype == np.float32
        assert np.abs(scores - tiny_bert.expected_scores(batch, activation)).max() < 1e-5


def test_the_graph_is_valid_and_pins_its_opset(tmp_path: Path) -> None:
    model = write_graph(Checkpoint.load(tiny_bert.write_checkpoint(tmp_path)))
    onnx.checker.check_model(model, full_check=True)  # pyright: ignore[reportUnknownMemberType]
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": OPSET, "com.microsoft": 1}


@pytest.mark.parametrize(
    ("key", "value"),
    [("model_type", "roberta"), ("hidden_act", "swish"), ("position_embedding_type", "relative_key")],
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
