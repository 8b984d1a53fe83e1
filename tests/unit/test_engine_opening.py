"""Opening engines and releases, and what goes wrong there."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support import tiny_bert
from xuankan.errors import EngineError, EngineUnavailable, InputError, ReleaseError
from xuankan_worker.engines import open_engine
from xuankan_worker.manifest import MANIFEST, MODEL, Manifest, Quantization, file_sha256


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return tiny_bert.write_release(tmp_path)


def edit(release: Path, **changes: Any) -> None:
    path = release / MANIFEST
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({name: value for name, value in content.items() if value is not ...}))


def test_auto_finds_an_engine(release: Path) -> None:
    engine = open_engine("auto", release)
    assert engine.info.name == "onnx"
    assert engine.info.max_batch == 16
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.open_slot(0)


def test_a_missing_onnxruntime_says_what_to_install(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def find_spec(name: str) -> None:
        assert name == "onnxruntime"

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    with pytest.raises(EngineUnavailable, match=r"pip install 'xuankan\[cpu\]'"):
        open_engine("auto", release)


@pytest.mark.parametrize(
    ("kind", "max_batch", "message"), [("cuda", 16, "engine: 'cuda'"), ("onnx", 0, "max_b")]
)
def test_senseless_options_are_refused(release: Path, kind: Any, max_batch: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_engine(kind, release, max_batch)


def test_a_damaged_model_is_refused(release: Path) -> None:
    with (release / MODEL).open("r+b") as file:
        file.seek(1000)
        file.write(b"damage")
    with pytest.raises(ReleaseError, match=r"model\.onnx is damaged or was changed"):
        open_engine("onnx", release)


def test_a_missing_model_is_refused(release: Path) -> None:
    (release / MODEL).unlink()
    with pytest.raises(ReleaseError, match=r"model\.onnx cannot be read"):
        open_engine("onnx", release)


def test_a_file_that_is_no_model_is_refused(release: Path) -> None:
    (release / MODEL).write_bytes(b"not a model")
    edit(release, files={MODEL: file_sha256(release / MODEL)})
    with pytest.raises(EngineError, match=r"does not load .*model\.onnx"):
        open_engine("onnx", release)


def test_a_release_without_an_onnx_model_is_refused(release: Path) -> None:
    edit(release, files={})
    with pytest.raises(EngineError, match=r"has neither model\.onnx nor model\.fp16\.onnx for engine onnx"):
        open_engine("onnx", release)


def test_a_manifest_is_read_as_it_was_written(release: Path) -> None:
    manifest = Manifest.load(release)
    changed = replace(
        manifest,
        quantization=Quantization("min-max", 500, {"min-max": 0.01}),
        metrics={"test": {"mrr": 0.4}},
        training={"papers": 52569},
        commit="abc",
    )
    changed.save(release)
    assert Manifest.load(release) == changed
    assert changed.fingerprint == manifest.fingerprint  # notes do not change scores


def test_whatever_changes_scores_changes_the_fingerprint(release: Path) -> None:
    before = Manifest.load(release).fingerprint
    edit(release, first_stage_weight=0.75)
    assert Manifest.load(release).fingerprint != before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "xuankan-release/9"}, "format is 'xuankan-release/9'"),
        ({"template": ...}, "template is missing"),
        ({"colour": 1}, "colour is not a field"),
        ({"architecture": {"family": "bert"}}, "missing"),
        ({"first_stage_weight": "much"}, "could not convert"),
        ({"files": ["model.onnx"]}, "items"),
    ],
)
def test_a_manifest_that_is_wrong_says_where(release: Path, changes: dict[str, Any], message: str) -> None:
    edit(release, **changes)
    with pytest.raises(ReleaseError, match=message):
        Manifest.load(release)


@pytest.mark.parametrize("content", [b"", b"\xff\x00", b"[]", b'{"format": '])
def test_a_manifest_of_garbage_is_one_clear_error(release: Path, content: bytes) -> None:
    (release / MANIFEST).write_bytes(content)
    with pytest.raises(ReleaseError, match=MANIFEST):
        Manifest.load(release)


def test_a_directory_without_manifest_is_no_release(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="is not a model release"):
        open_engine("onnx", tmp_path)
