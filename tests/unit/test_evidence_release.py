"""The manifest of a release with an encoder, and which engine opens it."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.evidence_release import CATALOGUE, FUSION, NEIGHBOURS, TRAINED, write_release
from xuankan.errors import EngineUnavailable, ReleaseError
from xuankan_worker.engines import open_engine
from xuankan_worker.engines.tensorrt import library
from xuankan_worker.engines.tensorrt.library import GpuIdentity
from xuankan_worker.execution.served_model import load_served_model
from xuankan_worker.manifest import Manifest


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return write_release(tmp_path)


def test_the_manifest_is_read_as_it_was_written(release: Path) -> None:
    manifest = Manifest.load(release)
    assert manifest.fusion == FUSION
    assert manifest.encoder is not None
    assert (manifest.encoder.journals, manifest.encoder.neighbours) == (TRAINED, NEIGHBOURS)
    manifest.save(release)
    assert Manifest.load(release) == manifest


def test_what_decides_rankings_changes_the_fingerprint(release: Path) -> None:
    manifest = Manifest.load(release)
    others = [
        replace(FUSION, most_rows=3),
        replace(FUSION, full=replace(FUSION.full, mean=0.5)),
        replace(FUSION, prior=None),
    ]
    fingerprints = {replace(manifest, fusion=fusion).fingerprint for fusion in (FUSION, *others)}
    assert len(fingerprints) == 4


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"fusion": None}, "encoder and fusion go together"),
        ({"encoder": {"journals": 3}}, "architecture"),
        ({"encoder": {"colour": 3}}, "architecture"),
    ],
)
def test_a_manifest_that_is_wrong_says_where(release: Path, changes: dict[str, Any], says: str) -> None:
    path = release / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ReleaseError, match=says):
        Manifest.load(release)


def test_an_encoder_of_other_journals_than_the_corpus_is_refused(release: Path) -> None:
    manifest = Manifest.load(release)
    assert manifest.encoder is not None
    replace(manifest, encoder=replace(manifest.encoder, journals=7)).save(release)
    with pytest.raises(ReleaseError, match="7 logits, but the corpus names 36 journals"):
        load_served_model("onnx", release, release.parent / CATALOGUE, 16)


def test_on_a_gpu_auto_falls_back_and_says_why(
    release: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(library, "find_gpu", lambda: GpuIdentity("NVIDIA Made-up", "9.0", "580.95.05"))
    with pytest.raises(EngineUnavailable, match="use --engine onnx"):
        open_engine("tensorrt", release)
    with caplog.at_level(logging.WARNING):
        engine = open_engine("auto", release)
    assert engine.info.name == "onnx"
    assert engine.info.encoder is not None
    assert [record.message for record in caplog.records] == ["the GPU is not used"]
    engine.close()
