"""`xuankan model assemble`: public weights and a delta become a release that is served."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from tests.support import families, tiny_delta
from xuankan.protocol.template import Template
from xuankan_worker.cli.assemble import assemble
from xuankan_worker.engines import Encoded, TokenBatch
from xuankan_worker.engines.runtime import open_session
from xuankan_worker.engines.sequence import sequence_feed
from xuankan_worker.execution.served_model import load_served_model
from xuankan_worker.manifest import CORPUS, GPU_ENCODER, Manifest
from xuankan_worker.releases.delta import compress, expand


@pytest.fixture
def public(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    tiny_delta.write_public(tmp_path / "public", monkeypatch)
    return tmp_path / "public"


@pytest.fixture
def index(tmp_path: Path, public: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What pip finds, and nothing else."""
    tiny_delta.write_packages(tmp_path / "index", public)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    return tmp_path / "index"


@pytest.fixture
def delta(tmp_path: Path, public: Path, index: Path) -> Path:
    return tiny_delta.write_delta(tmp_path / "delta", public, tiny_delta.requirements(index))


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(assemble, [str(argument) for argument in arguments])


def refused(*arguments: str | Path) -> str:
    result = run(*arguments)
    assert result.exit_code != 0
    return result.output + str(result.exception)


def test_a_folder_and_a_delta_become_a_release(tmp_path: Path, public: Path, delta: Path) -> None:
    out = tmp_path / "release"
    result = run(delta, "--out", out, "--public", public)
    assert result.exit_code == 0, result.output
    manifest = Manifest.load(out)
    manifest.verify(out)
    assert manifest.name == "tiny-base"
    assert f"fingerprint {manifest.fingerprint}" in result.output
    assert load_served_model("onnx", out, None, 4).release == manifest.fingerprint
    assert sorted(path.name for path in out.iterdir()) == sorted([CORPUS, GPU_ENCODER, "manifest.json"])

    words = ["journal", "plasma", "species", "[CLS]", "[SEP]", "the"]
    ids = [Template.default().tokenizer.token_to_id(word) for word in words]
    batch = TokenBatch(np.array([ids], np.int32), np.array([len(ids)], np.int32), np.array([2], np.int32))
    names = ("logits", "embedding", "neighbours", "nearness")
    found = Encoded(*open_session((out / GPU_ENCODER).read_bytes()).run(names, sequence_feed(batch)))
    logits, embedding = _expected(words)
    np.testing.assert_allclose(found.logits[0], logits, atol=0.05 * logits.std())
    np.testing.assert_allclose(found.embedding[0], embedding, atol=0.02)
    corpus = np.load(delta / "embeddings.npy").astype(np.float64)
    cosines = corpus @ found.embedding[0] / np.linalg.norm(corpus, axis=1)
    np.testing.assert_allclose(cosines[found.neighbours[0]], found.nearness[0], atol=0.002)
    np.testing.assert_allclose(found.nearness[0], -np.sort(-cosines)[: tiny_delta.NEIGHBOURS], atol=0.002)


def _expected(words: list[str]) -> tuple[families.Floats, families.Floats]:
    """Logits and embedding by the weights that training began with, and the changes that the delta keeps."""
    kept = expand(compress(tiny_delta.changes(tiny_delta.arrays())))
    weights: dict[str, families.Floats] = {}
    for name, value in tiny_delta.arrays().items():
        before = value.astype(np.float64)
        if before.ndim == 2:  # 8 bits with a scale a row
            scale = np.abs(before).max(axis=1, keepdims=True) / 127
            before = np.rint(before / scale) * scale
        weights[f"mpnet.{name}"] = before + kept.pop(f"mpnet.{name}", np.zeros(()))
    weights |= {name: value.astype(np.float64) for name, value in kept.items()}
    rows = tiny_delta.vocabulary()
    special = {"[CLS]": "<s>", "[SEP]": "</s>"}
    ids = np.array([rows[special.get(word, word)] for word in words], np.int32)
    mean = families.hidden_states(weights, "mpnet", ids, len(ids), "gelu_new").mean(axis=0)

    def linear(name: str) -> families.Floats:
        return weights[f"{name}.weight"] @ mean + weights[f"{name}.bias"]

    projected = linear("encoder.projection")
    return linear("encoder.classifier.out_proj"), projected / np.linalg.norm(projected)


def test_packages_of_the_index_give_the_same_release(tmp_path: Path, public: Path, delta: Path) -> None:
    assert run(delta, "--out", tmp_path / "one", "--public", public).exit_code == 0
    result = run(delta, "--out", tmp_path / "other")
    assert result.exit_code == 0, result.output + str(result.exception)
    assert Manifest.load(tmp_path / "one").fingerprint == Manifest.load(tmp_path / "other").fingerprint
    assert not list((tmp_path / "other").glob(".assemble-*"))


def test_a_missing_part_and_a_changed_one_are_told(tmp_path: Path, delta: Path, index: Path) -> None:
    second = index / "tiny_mpnet_part_002-0.0.1-py3-none-any.whl"
    second.write_bytes(second.read_bytes() + b" ")
    told = refused(delta, "--out", tmp_path / "release")
    assert "DO NOT MATCH THE HASHES" in told
    assert "tiny-mpnet-part-002" in told
    second.unlink()
    told = refused(delta, "--out", tmp_path / "release")
    assert "No matching distribution found for tiny-mpnet-part-002==0.0.1" in told
    assert "--public" in told
    assert not (tmp_path / "release" / "manifest.json").exists()


def test_other_public_weights_are_refused(tmp_path: Path, public: Path, delta: Path) -> None:
    weights = public / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert "is not that of tiny-mpnet: its SHA-256" in refused(
        delta, "--out", tmp_path / "release", "--public", public
    )
    weights.unlink()
    assert "has no model.safetensors" in refused(delta, "--out", tmp_path / "release", "--public", public)


def test_a_damaged_delta_is_refused(tmp_path: Path, public: Path, delta: Path) -> None:
    arguments = (delta, "--out", tmp_path / "release", "--public", public)
    manifest = json.loads((delta / "manifest.json").read_text())
    (delta / "manifest.json").write_text(json.dumps({**manifest, "template": "0" * 16}))
    assert "is for template 0000000000000000" in refused(*arguments)
    (delta / "manifest.json").write_text(json.dumps({**manifest, "files": {"corpus.npz": "0" * 64}}))
    assert "corpus.npz is damaged or another" in refused(*arguments)
    (delta / "delta.npz").write_bytes(b"")
    assert "delta.npz is damaged or another" in refused(*arguments)
    (delta / "delta.json").write_text('{"format": "xuankan-delta/9"}')
    assert "format is 'xuankan-delta/9'" in refused(*arguments)


def test_what_a_delta_keeps() -> None:
    """Few directions are kept nearly whole; of noise, the directions and the signs keep most."""
    random = np.random.default_rng(0)
    name = "mpnet.encoder.layer.0.intermediate.dense.weight"
    few = random.standard_normal((96, 5)) @ random.standard_normal((5, 200))
    noise = random.standard_normal((96, 200))
    for change, rank, lost in ((few, 5, 0.0005), (few.T, 5, 0.0005), (noise, 0, 0.38), (noise, 20, 0.27)):
        kept = expand(compress({name: change.astype(np.float32)}, rank))[name]
        assert kept.shape == change.shape
        assert np.sum((kept - change) ** 2) < lost * np.sum(change**2)
    vector, matrix = random.standard_normal(7), random.standard_normal((4, 9))
    kept = expand(compress({"bias": vector, "head.weight": matrix}))
    np.testing.assert_allclose(kept["bias"], vector, rtol=1e-3)
    np.testing.assert_allclose(kept["head.weight"], matrix, atol=0.02)
