"""What `xuankan model fuse` makes of a run's scores, and what `publish` refuses; no PyTorch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file  # pyright: ignore[reportUnknownVariableType]

from tests.support.training_world import catalogue, training_data
from xuankan.errors import ReleaseError
from xuankan_worker.engines import TokenBatch, open_engine
from xuankan_worker.execution.nearness import Kernel
from xuankan_worker.manifest import Manifest, Weights
from xuankan_worker.releases.publish import calibration_rows, publish
from xuankan_worker.releases.random_checkpoint import random_checkpoint
from xuankan_worker.releases.run_fusion import RunFusion, fuse
from xuankan_worker.releases.training_data import TrainingData
from xuankan_worker.releases.vectors import CorpusVectors

SEEN = np.array([0.6, 0.5, 2.0, 0.3])
UNSEEN = {"first_stage": 1.0, "mean": 1.5, "density": 0.8, "constant": -1.0}
HELD = 3
"""Journals from this one on were not trained on."""


def write_scores(path: Path, papers: int, seed: int, *, held: bool = False) -> None:
    """Papers whose journals are drawn by a fusion of known weights."""
    rng = np.random.default_rng(seed)
    parts = rng.normal(size=(papers, 5, 4)) * [1.0, 1.0, 0.4, 1.0]
    candidates = rng.permuted(np.tile(np.arange(6), (papers, 1)), axis=1)[:, :5]
    fused = parts @ SEEN
    if held:
        unseen = candidates >= HELD
        other = parts[:, :, [0, 2, 3]] @ [UNSEEN[name] for name in ("first_stage", "mean", "density")]
        fused = np.where(unseen, other + UNSEEN["constant"], fused)
        parts[:, :, 1] = np.where(unseen, np.nan, parts[:, :, 1])
    own = (fused + rng.gumbel(size=fused.shape)).argmax(axis=1)
    truth = candidates[np.arange(papers), own]
    truth[::10] = 99  # the first stage did not list it
    np.savez(path, parts=parts, candidates=candidates, truth=truth)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    run = tmp_path / "run"
    run.mkdir()
    write_scores(run / "scores-dev.npz", 6000, 0)
    write_scores(run / "held-dev.npz", 20_000, 1, held=True)
    write_scores(run / "scores-test.npz", 3000, 2)
    return run


def test_weights_are_those_that_the_papers_were_drawn_by(run: Path) -> None:
    found = fuse(run)
    seen = [found.seen.first_stage, found.seen.encoder, found.seen.mean, found.seen.density]
    np.testing.assert_allclose(seen, SEEN, atol=0.1)
    for name, value in UNSEEN.items():
        assert getattr(found.unseen, name) == pytest.approx(value, abs=0.15), name
    assert found.unseen.encoder == 0
    assert set(found.metrics) == {"dev", "test"}
    assert found.metrics["test"]["recall"] == pytest.approx(0.9)
    assert found.metrics["test"]["calibration_error"] < 0.1
    assert max(found.ablation.values()) < found.metrics["dev"]["mrr"]
    found.save(run)
    assert RunFusion.load(run) == found


def test_a_run_that_did_not_finish_is_refused(run: Path) -> None:
    with pytest.raises(ReleaseError, match=r"fusion\.json is not of a run .`xuankan model fuse` makes it"):
        RunFusion.load(run)
    (run / "held-dev.npz").write_bytes(b"PK")
    with pytest.raises(ReleaseError, match=r"held-dev\.npz has no scores"):
        fuse(run)
    (run / "scores-dev.npz").unlink()
    with pytest.raises(ReleaseError, match=r"no scores-dev\.npz: `xuankan model train` did not finish"):
        fuse(run)
    with pytest.raises(ReleaseError, match=r"corpus-vectors\.npz holds no embeddings"):
        CorpusVectors.load(run)


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("world") / "papers.parquet"


@pytest.fixture(scope="module")
def data(papers: Path) -> TrainingData:
    return training_data(papers)


def finished(run: Path, data: TrainingData) -> Path:
    """The run with an encoder of random weights and embeddings of its papers."""
    size, journals, rng = 32, data.journals, np.random.default_rng(5)
    directory = random_checkpoint(
        run / "encoder", 2, size, 2, 64, data.template.tokenizer.get_vocab_size(), 320, seed=1
    )
    tensors: dict[str, NDArray[np.float32]] = load_file(directory / "model.safetensors")
    for name, rows in (("classifier", journals), ("projection", 8)):
        tensors[f"encoder.{name}.weight"] = rng.normal(size=(rows, size)).astype(np.float32)
        tensors[f"encoder.{name}.bias"] = np.zeros(rows, np.float32)
    save_file(tensors, directory / "model.safetensors")
    about = {"base_model": "random", "data": data.about, "settings": {}, "torch": "2"}
    (directory / "training.json").write_text(json.dumps(about))
    vectors = rng.normal(size=(len(data.splits["train"]), 8)).astype(np.float16)
    CorpusVectors(vectors, ("train",), "encoder", Kernel(0.05, 6.0, 2016)).save(run)
    RunFusion(Weights(0.3, 0.2), Weights(0.5, constant=0.1), {"dev": {"mrr": 0.5}}, {}).save(run)
    return run


def test_a_release_in_int8_says_what_it_says_in_float(
    run: Path, papers: Path, data: TrainingData, tmp_path: Path
) -> None:
    finished(run, data)
    said: list[tuple[NDArray[np.float32], NDArray[np.int32]]] = []
    for name, samples in (("int8", 60), ("float", None)):
        out = tmp_path / name
        manifest = publish("tiny", run, data, papers, catalogue(), out, "abc", samples)
        assert Manifest.load(out) == manifest
        assert (manifest.architecture, manifest.commit) == (None, "abc")
        assert (manifest.quantization is None) == (samples is None)
        assert manifest.fusion is not None
        assert (manifest.fusion.base.encoder, manifest.fusion.unseen_base.constant) == (0.2, 0.1)
        engine = open_engine("onnx", out)
        slot = engine.open_slot(0)
        logits: list[NDArray[np.float32]] = []
        nearest: list[NDArray[np.int32]] = []
        for row in calibration_rows(data, 12, seed=5):
            length = np.array([row.first_length], np.int32)
            encoded = slot.encode(TokenBatch(row.input_ids[None], length, length))
            logits.append(encoded.logits[0])
            nearest.append(encoded.neighbours[0])
        said.append((np.stack(logits), np.stack(nearest)))
        slot.close()
        engine.close()
    (int8, near), (exact, exactly_near) = said
    assert np.sqrt(np.mean(np.square(int8 - exact))) < 0.2 * exact.std()
    assert (near[:, 0] == exactly_near[:, 0]).mean() > 0.7
    sizes = [(tmp_path / name / "encoder.onnx").stat().st_size for name in ("int8", "float")]
    assert sizes[0] < 0.4 * sizes[1]


def test_other_papers_data_or_catalogues_are_refused(
    run: Path, papers: Path, data: TrainingData, tmp_path: Path
) -> None:
    finished(run, data)
    arguments = ("tiny", run, data)
    other = tmp_path / "other.parquet"
    other.write_bytes(papers.read_bytes() + b"\0")
    with pytest.raises(ReleaseError, match="was trained with papers_sha256"):
        publish(*arguments, other, catalogue(), tmp_path / "out", "")
    fewer = type(catalogue())(catalogue().journals[:5])
    with pytest.raises(ReleaseError, match="was trained with catalogue"):
        publish(*arguments, papers, fewer, tmp_path / "out", "")
    vectors = CorpusVectors.load(run)
    CorpusVectors(vectors.embeddings[1:], ("train",), "encoder", vectors.kernel).save(run)
    with pytest.raises(ReleaseError, match="180 embeddings, but the table has 181 papers"):
        publish(*arguments, papers, catalogue(), tmp_path / "out", "")
    (run / "encoder" / "training.json").write_text("{}")
    with pytest.raises(ReleaseError, match="was not written by `xuankan model train`"):
        publish(*arguments, papers, catalogue(), tmp_path / "out", "")
    assert not (tmp_path / "out").exists()
