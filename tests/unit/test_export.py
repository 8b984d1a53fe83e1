"""`xuankan model export`: from a checkpoint or a release to a release that a worker serves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from safetensors.numpy import load_file, save_file  # pyright: ignore[reportUnknownVariableType]
from tokenizers import Tokenizer, models, processors

from tests.support import families
from tests.support.checkpoints import WORDS, mark_special, roberta_tokenizer, run, write_checkpoint
from xuankan.catalogue import Catalogue
from xuankan.errors import ReleaseError
from xuankan.protocol.template import Template, default_directory
from xuankan_worker.engines import TokenBatch
from xuankan_worker.execution.rows import Profiles, Segment
from xuankan_worker.execution.served_model import load_served_model
from xuankan_worker.manifest import GPU_MODEL, Manifest, default_release
from xuankan_worker.releases import export as exporting
from xuankan_worker.releases import numerics
from xuankan_worker.releases.checkpoint import Checkpoint
from xuankan_worker.releases.encoder_graph import OPSET
from xuankan_worker.releases.export import ExportSettings, export_release


@pytest.fixture(autouse=True)
def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in an installation without the `train` extra; test_export_torch.py has the other."""
    monkeypatch.setattr(numerics, "find_spec", dict[str, Any]().get)


def test_a_checkpoint_becomes_a_release_that_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = write_checkpoint(tmp_path / "my-reranker", monkeypatch)
    out = tmp_path / "release"
    result = run(checkpoint, "--out", out, "--max-manuscript-tokens", "80", "--max-profile-tokens", "40")
    assert result.exit_code == 0, result.output
    manifest = Manifest.load(out)
    manifest.verify(out)
    assert f"release my-reranker, fingerprint {manifest.fingerprint}, opset {OPSET}" in result.output
    assert sorted(manifest.files) == [GPU_MODEL, "template.json", "tokenizer.json"]
    assert (manifest.first_stage_weight, manifest.temperature) == (0.0, 1.0)
    assert manifest.cross_encoder.max_length == 80 + 40 + 3
    assert manifest.catalogue == Catalogue.default().version
    record = manifest.export
    assert record is not None
    assert (record.writer, record.opset, record.activation, record.pairs) == (
        "xuankan",
        OPSET,
        "gelu_tanh",
        72,
    )
    assert record.reference.startswith("ONNX Runtime")
    assert record.rms_error <= record.max_error < 0.02
    assert record.spread > 0.05
    served = load_served_model("onnx", out, None, 8)
    assert served.template.fingerprint == manifest.template
    slot = served.engine.open_slot(0)
    batch = served.profiles.assemble(123, [Segment(np.arange(1000, 1080, dtype=np.int32), np.arange(8))])
    np.testing.assert_allclose(slot.score(batch), families.expected_scores(batch, "bert"), atol=0.02)
    slot.close()
    served.engine.close()


def test_a_release_that_has_only_an_encoder_is_refused(tmp_path: Path) -> None:
    result = run(default_release(), "--out", tmp_path / "gpu")
    assert isinstance(result.exception, ReleaseError)
    assert "has no model.onnx" in str(result.exception)
    assert not (tmp_path / "gpu").exists()


def test_options_say_what_a_checkpoint_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", monkeypatch)
    result = run(
        checkpoint,
        "--out",
        tmp_path / "out",
        "--name",
        "mine",
        "--first-stage-weight",
        "2.5",
        "--temperature",
        "3",
    )
    assert result.exit_code == 0, result.output
    manifest = Manifest.load(tmp_path / "out")
    assert (manifest.name, manifest.first_stage_weight, manifest.temperature) == ("mine", 2.5, 3.0)
    template = Template.load(tmp_path / "out")
    assert (template.max_manuscript_tokens, template.max_profile_tokens) == (93, 32)
    assert template.max_length == families.POSITIONS


def test_what_training_wrote_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", monkeypatch)
    tokenizer = (default_directory() / "tokenizer.json").read_bytes()
    trained = Template.build(tokenizer, 70, 40)
    training: dict[str, Any] = {"base_model": "tiny", "fusion_weight": 4, "temperature": 6.5, "device": "cpu"}
    training["data"] = {"template": trained.fingerprint, "catalogue": "c" * 16}
    (checkpoint / "training.json").write_text(json.dumps(training))
    with pytest.raises(
        ReleaseError, match=f"trained with tokenizer and template '{trained.fingerprint}'; with"
    ):
        export_release(checkpoint, tmp_path / "out")
    manifest, loss = export_release(checkpoint, tmp_path / "out", ExportSettings(None, 70, 40))
    assert not loss
    assert (manifest.base_model, manifest.first_stage_weight, manifest.temperature) == ("tiny", 4.0, 6.5)
    assert (manifest.template, manifest.catalogue) == (trained.fingerprint, "c" * 16)
    assert manifest.training["device"] == "cpu"
    (checkpoint / "training.json").write_text("{}")
    with pytest.raises(ReleaseError, match=r"training\.json was not written by `xuankan model train`"):
        export_release(checkpoint, tmp_path / "out")


def test_two_separators_where_the_tokenizer_has_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", monkeypatch, "roberta", roberta_tokenizer())
    export_release(checkpoint, tmp_path / "out", ExportSettings(None, 60, 40))
    served = load_served_model("onnx", tmp_path / "out", None, 4)
    template = served.template
    assert (template.separators, template.max_length) == (2, 104)
    tokens = template.encode_manuscript("the model", "we study a journal").ids
    profiles = Profiles.encode(["learning and data for physics", "paper"], template)
    batch = profiles.assemble(104, [Segment(tokens, np.arange(2))])
    pairs = [("the model. we study a journal", text) for text in ("learning and data for physics", "paper")]
    assert rows(batch) == [template.tokenizer.encode(*pair).ids for pair in pairs]
    slot = served.engine.open_slot(0)
    np.testing.assert_allclose(slot.score(batch), families.expected_scores(batch, "roberta"), atol=0.02)
    slot.close()
    served.engine.close()


def test_rows_are_the_packages_tokenizers_pairs() -> None:
    template = Template.default()
    batch = Profiles.encode(["physics of data"], template).assemble(
        32, [Segment(template.encode_manuscript("A title", "An abstract").ids, np.arange(1))]
    )
    assert rows(batch) == [template.tokenizer.encode("A title. An abstract", "physics of data").ids]


def rows(batch: TokenBatch) -> list[list[int]]:
    return [ids[:length].tolist() for ids, length in zip(batch.input_ids, batch.lengths, strict=True)]


def test_separators_are_part_of_the_fingerprint(tmp_path: Path) -> None:
    tokenizer = roberta_tokenizer().encode()
    one, two = (Template.build(tokenizer, 60, 40, separators) for separators in (1, 2))
    assert one.fingerprint != two.fingerprint
    for template in (one, two):
        template.save(tmp_path, tokenizer)
        assert Template.load(tmp_path).fingerprint == template.fingerprint
    with pytest.raises(ValueError, match="separators must be 1 or 2, not 3"):
        Template.build(tokenizer, 60, 40, 3)


def test_special_tokens_are_those_that_the_tokenizer_callsmark_special() -> None:
    """MPNet's vocabulary holds [CLS] and [SEP] too, from BERT, and never uses them."""
    names = ("<s>", "<pad>", "</s>", "<unk>", "[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS)
    tokenizer = Tokenizer(
        models.WordLevel({name: index for index, name in enumerate(names)}, unk_token="[UNK]")
    )
    mark_special(tokenizer, "<s>", "<pad>", "</s>", "[UNK]")
    template = Template.build(tokenizer.to_str().encode(), 16, 16)
    assert (template.cls_id, template.pad_id, template.sep_id, template.unknown_id) == (0, 1, 2, 5)


def pair_tokenizer(pair: str) -> str:
    document = json.loads(roberta_tokenizer())
    tokenizer = Tokenizer.from_str(json.dumps(document))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair=pair, special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer.to_str()


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("<s> $A </s> </s> </s> $B </s>", "makes pairs like <s> journal </s> </s> </s>"),
        ("<s> $A </s> <s> $B </s>", "templates know"),
        ("<s> <s> $A </s> $B </s>", "templates know"),
        ("$A </s> $B </s>", "templates know"),
        ("<s> $A $B </s>", "templates know"),
    ],
)
def test_other_layouts_of_pairs_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pair: str, message: str
) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", monkeypatch, "roberta", pair_tokenizer(pair))
    with pytest.raises(ReleaseError, match=message):
        export_release(checkpoint, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pairs_longer_than_the_positions_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", monkeypatch)
    result = run(checkpoint, "--out", tmp_path / "out", "--max-manuscript-tokens", "100")
    assert isinstance(result.exception, ReleaseError)
    assert "--max-manuscript-tokens 100" in str(result.exception)
    assert "the model's 128 positions" in str(result.exception)


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", monkeypatch, tokenizer=roberta_tokenizer())
    (checkpoint / "tokenizer.json").write_bytes((default_directory() / "tokenizer.json").read_bytes())
    with pytest.raises(ReleaseError, match="the tokenizer has 30522 tokens, the model knows 20"):
        export_release(checkpoint, tmp_path / "out")


@pytest.mark.parametrize("content", [None, "no tokenizer"])
def test_a_checkpoint_needs_its_tokenizer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", monkeypatch)
    (checkpoint / "tokenizer.json").unlink()
    if content is not None:
        (checkpoint / "tokenizer.json").write_text(content)
    with pytest.raises(ReleaseError, match=r"tokenizer\.json"):
        export_release(checkpoint, tmp_path / "out")


def test_without_pytorch_other_models_are_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", monkeypatch)
    (checkpoint / "config.json").write_text(json.dumps(families.config("bert", model_type="deberta-v2")))
    with pytest.raises(ReleaseError, match=r"model_type is 'deberta-v2'.*pip install 'xuankan\[train\]'"):
        export_release(checkpoint, tmp_path / "out")


def test_without_pytorch_a_family_with_no_other_reference_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", monkeypatch, "mpnet", roberta_tokenizer())
    with pytest.raises(ReleaseError, match=r"family mpnet.*must be compared.*pip install 'xuankan\[train\]'"):
        export_release(checkpoint, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def corrupted(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    constant = next(value for value in model.graph.initializer if value.name == name)
    value = onnx.numpy_helper.to_array(constant)
    constant.CopyFrom(onnx.numpy_helper.from_array(np.roll(value, 1, axis=0), name))
    return model


def test_a_graph_that_computes_something_else_is_not_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", monkeypatch)
    write = exporting.write_encoder_graph

    def write_wrongly(loaded: Checkpoint) -> onnx.ModelProto:
        return corrupted(write(loaded), "layer.1.query.bias")

    monkeypatch.setattr(exporting, "write_encoder_graph", write_wrongly)
    with pytest.raises(ReleaseError, match=r"logits of 72 real pairs differ by .* more than 3% of"):
        export_release(checkpoint, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_activations_beyond_fp16_are_not_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", monkeypatch)
    tensors = load_file(checkpoint / "model.safetensors")
    for part in ("intermediate", "output"):
        tensors[f"bert.encoder.layer.0.{part}.dense.weight"] *= 500
    save_file(tensors, checkpoint / "model.safetensors")
    with pytest.raises(ReleaseError, match="72 of 72 logits in FP16 are not finite"):
        export_release(checkpoint, tmp_path / "out")


def test_a_release_is_not_written_over_itself(tmp_path: Path, release: Path) -> None:
    export_release(release, tmp_path / "gpu")
    with pytest.raises(ReleaseError, match="choose another directory"):
        export_release(tmp_path / "gpu", tmp_path / "gpu")
    with pytest.raises(ReleaseError, match=r"has no model\.onnx: export the checkpoint"):
        export_release(tmp_path / "gpu", tmp_path / "other")


def test_progress_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", monkeypatch)
    told: list[float] = []

    def note(_what: str, part: float) -> None:
        told.append(part)

    export_release(checkpoint, tmp_path / "out", progress=note)
    assert told == sorted(told)
    assert told[-1] == 1.0
