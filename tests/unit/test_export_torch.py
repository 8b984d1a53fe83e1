"""Export beside PyTorch and transformers: the reference itself, and the way of all other families."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import families, tiny_bert
from tests.support.checkpoints import roberta_tokenizer, run, write_checkpoint
from xuankan.errors import ReleaseError
from xuankan_worker.engines import TokenBatch, open_engine
from xuankan_worker.manifest import Manifest
from xuankan_worker.releases.export import ExportSettings, export_release
from xuankan_worker.releases.numerics import reference_logits
from xuankan_worker.releases.traced import TorchModel

pytestmark = pytest.mark.torch
torch: Any = pytest.importorskip("torch")
transformers: Any = pytest.importorskip("transformers")

SETTINGS = ExportSettings("random", 80, 40)
SMALL = {
    "vocab_size": 97,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 128,
    "num_labels": 1,
}


def batch_of(rows: int) -> TokenBatch:
    """Ids from 4 on: transformers takes padding tokens among the real ones for padding."""
    batch = tiny_bert.random_batch(rows, tokens=families.POSITIONS)
    batch.input_ids[batch.input_ids < 4] = 4
    return batch


@pytest.mark.parametrize("family", sorted(families.NAMES))
def test_the_float64_reference_is_transformers(tmp_path: Path, family: str) -> None:
    """What the other tests call right is what transformers computes of the same files."""
    families.write_checkpoint(tmp_path, family)
    batch = batch_of(9)
    version, logits = reference_logits(tmp_path, [batch])
    assert version.startswith(f"PyTorch {torch.__version__}")
    np.testing.assert_allclose(next(logits), families.expected_scores(batch, family), atol=1e-4)


@pytest.mark.parametrize("family", ["bert", "roberta", "mpnet", "electra", "distilbert"])
def test_a_family_is_exported_and_compared_with_pytorch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    tokenizer = None if family in ("bert", "electra", "distilbert") else roberta_tokenizer()
    checkpoint = write_checkpoint(tmp_path / "checkpoint", monkeypatch, family, tokenizer)
    manifest, loss = export_release(checkpoint, tmp_path / "out", SETTINGS)
    assert not loss
    assert manifest.export is not None
    assert manifest.export.reference.startswith("PyTorch")
    assert manifest.export.rms_error < 0.01


def random_model(directory: Path, config: Any) -> Path:
    """A model of transformers' own with random weights, which differ more than at the start of training."""
    torch.manual_seed(0)
    model = transformers.AutoModelForSequenceClassification.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    model.save_pretrained(directory)
    (directory / "tokenizer.json").write_text(roberta_tokenizer())
    return directory


@pytest.mark.parametrize(
    "config",
    [
        transformers.AlbertConfig(**SMALL, embedding_size=16),
        transformers.ModernBertConfig(
            **SMALL, pad_token_id=1, global_attn_every_n_layers=2, local_attention=16
        ),
    ],
    ids=["albert", "modernbert"],
)
def test_other_families_go_through_pytorchs_exporter(tmp_path: Path, config: Any) -> None:
    checkpoint = random_model(tmp_path / "checkpoint", config)
    arguments = ("--max-manuscript-tokens", "80", "--max-profile-tokens", "40")
    result = run(checkpoint, "--out", tmp_path / "out", *arguments)
    assert result.exit_code == 0, result.exception
    assert f"model_type is '{config.model_type}'; supported are bert" in result.output
    assert "expect it to be slower on a GPU" in result.output
    manifest = Manifest.load(tmp_path / "out")
    assert manifest.export is not None
    assert (manifest.export.writer, manifest.export.opset) == ("torch.onnx", 17)
    batch = batch_of(5)
    _, wanted = reference_logits(checkpoint, [batch])
    engine = open_engine("onnx", tmp_path / "out", 8)
    slot = engine.open_slot(0)
    np.testing.assert_allclose(slot.score(batch), next(wanted), atol=0.05)
    slot.close()
    engine.close()


def test_what_pytorch_cannot_export_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = random_model(tmp_path / "checkpoint", transformers.AlbertConfig(**SMALL, embedding_size=16))
    forward = torch.nn.Linear.forward

    def transformed(layer: Any, values: Any) -> Any:
        return torch.fft.fft(forward(layer, values).float()).real.half()

    monkeypatch.setattr(torch.nn.Linear, "forward", transformed)
    with pytest.raises(ReleaseError, match=r"does not export AlbertForSequenceClassification.*aten::fft_fft"):
        TorchModel(checkpoint).export(batch_of(3))


def test_decoders_are_refused(tmp_path: Path) -> None:
    config = transformers.GPT2Config(n_embd=32, n_layer=2, n_head=4, num_labels=1, pad_token_id=1)
    checkpoint = random_model(tmp_path / "checkpoint", config)
    with pytest.raises(ReleaseError, match=r"config\.json: intermediate_size is missing"):
        export_release(checkpoint, tmp_path / "out", SETTINGS)


@pytest.mark.parametrize(("changes", "message"), [({"num_labels": 3}, "3 labels"), ({}, "does not load")])
def test_models_that_are_no_cross_encoders_are_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    checkpoint = random_model(
        tmp_path / "checkpoint", transformers.AlbertConfig(**{**SMALL, **changes}, embedding_size=16)
    )
    if not changes:
        (checkpoint / "model.safetensors").write_bytes(b"\x00" * 100)
    with pytest.raises(ReleaseError, match=message):
        export_release(checkpoint, tmp_path / "out", SETTINGS)
