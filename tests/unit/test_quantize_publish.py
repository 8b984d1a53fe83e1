"""From a checkpoint to a release that an engine opens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file  # pyright: ignore[reportUnknownVariableType]

from tests.support import tiny_bert
from tests.support.training_world import training_data
from xuankan.errors import ReleaseError
from xuankan_worker.engines import TokenBatch, open_engine
from xuankan_worker.manifest import Manifest
from xuankan_worker.releases.dataset import TrainingData
from xuankan_worker.releases.publish import calibration_pairs, publish


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TrainingData:
    return training_data(tmp_path_factory.mktemp("papers") / "papers.parquet")


@pytest.fixture
def checkpoint(tmp_path: Path, data: TrainingData) -> Path:
    """The tiny model with a vocabulary and positions for real text, as training leaves it."""
    directory = tmp_path / "checkpoint"
    tiny_bert.write_checkpoint(directory, "relu")
    random = np.random.default_rng(0)
    tensors = tiny_bert.tensors()
    for name, rows in (("word", 30522), ("position", 512)):
        table = random.standard_normal((rows, tiny_bert.HIDDEN)).astype(np.float32)
        tensors[f"bert.embeddings.{name}_embeddings.weight"] = table
    save_file(tensors, directory / "model.safetensors")
    config = {**tiny_bert.config("relu"), "vocab_size": 30522, "max_position_embeddings": 512}
    (directory / "config.json").write_text(json.dumps(config))
    quality = {"fused": {"mrr": 0.4}, "model": {"mrr": 0.2}}
    write_training(directory, data=data.about, quality={"dev": quality})
    return directory


def write_training(directory: Path, **changes: Any) -> None:
    training: dict[str, Any] = {
        "base_model": "tiny", "base_sha256": None, "data": {}, "device": "cpu", "fusion_weight": 2.5,
        "quality": {}, "settings": {}, "temperature": 3.0, "torch": "2",
    }  # fmt: skip
    (directory / "training.json").write_text(json.dumps({**training, **changes}))


def test_a_published_release_is_ready_to_serve(checkpoint: Path, data: TrainingData, tmp_path: Path) -> None:
    out = tmp_path / "release"
    manifest = publish("tiny-1", checkpoint, data, out, "abc", samples=60)
    assert Manifest.load(out) == manifest
    assert (manifest.name, manifest.commit) == ("tiny-1", "abc")
    assert (manifest.first_stage_weight, manifest.temperature) == (2.5, 3.0)
    assert manifest.template == data.template.fingerprint
    assert manifest.catalogue == data.about["catalogue"]
    assert manifest.metrics == {"dev": {"mrr": 0.4}}
    assert manifest.quantization is not None
    assert manifest.quantization.samples == 48
    publish("tiny-1", checkpoint, data, tmp_path / "float", "abc", samples=None)
    int8, exact = (score(directory, data) for directory in (out, tmp_path / "float"))
    assert np.sqrt(np.mean(np.square(int8 - exact))) < 0.1 * exact.std()
    assert (out / "model.onnx").stat().st_size < 0.4 * (tmp_path / "float" / "model.onnx").stat().st_size


def score(release: Path, data: TrainingData) -> NDArray[np.float32]:
    pairs = calibration_pairs(data, 16, seed=5)
    input_ids = np.zeros((16, max(len(pair.input_ids) for pair in pairs)), np.int32)
    for row, pair in zip(input_ids, pairs, strict=True):
        row[: len(pair.input_ids)] = pair.input_ids
    lengths = np.array([len(pair.input_ids) for pair in pairs], np.int32)
    first_lengths = np.array([pair.first_length for pair in pairs], np.int32)
    engine = open_engine("onnx", release)
    return engine.open_slot(0).score(TokenBatch(input_ids, lengths, first_lengths))


def test_calibration_pairs_look_like_rows(data: TrainingData) -> None:
    template = data.template
    for pair in calibration_pairs(data, 20):
        assert pair.input_ids[0] == template.cls_id
        assert pair.input_ids[-1] == pair.input_ids[pair.first_length - 1] == template.sep_id
        assert len(pair.input_ids) <= template.max_length


@pytest.mark.parametrize("part", ["catalogue", "template", "papers_sha256"])
def test_other_data_than_it_was_trained_on_are_refused(
    checkpoint: Path, data: TrainingData, tmp_path: Path, part: str
) -> None:
    write_training(checkpoint, data={**data.about, part: "other"})
    with pytest.raises(ReleaseError, match=f"was trained with {part} 'other', the data have"):
        publish("tiny-1", checkpoint, data, tmp_path / "out", "abc", samples=60)


def test_a_checkpoint_without_its_record_is_refused(
    checkpoint: Path, data: TrainingData, tmp_path: Path
) -> None:
    write_training(checkpoint, fusion_weight="heavy")
    with pytest.raises(ReleaseError, match="fusion_weight is 'heavy'"):
        publish("tiny-1", checkpoint, data, tmp_path / "out", "abc")
    (checkpoint / "training.json").unlink()
    with pytest.raises(ReleaseError, match=r"training\.json cannot be read"):
        publish("tiny-1", checkpoint, data, tmp_path / "out", "abc")
