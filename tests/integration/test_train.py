"""Training for real, on the CPU, with a tiny BERT: only where torch is installed."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.training_world import training_data
from xuankan.errors import ReleaseError
from xuankan_worker.releases.dataset import TrainingData

pytestmark = pytest.mark.torch
torch: Any = pytest.importorskip("torch")
transformers: Any = pytest.importorskip("transformers")
torch.set_num_threads(1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TrainingData:
    return training_data(tmp_path_factory.mktemp("papers") / "papers.parquet")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=30522,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=512,
    )
    path = tmp_path_factory.mktemp("base")
    transformers.BertModel(config).save_pretrained(path)
    return path


def settings(**changes: Any) -> Any:
    from xuankan_worker.releases.train import TrainSettings

    tiny = TrainSettings(
        steps=20, papers=8, pass_papers=4, negatives=3, rate=3e-3, activation="relu", layers=2, dropout=0.0
    )
    return dataclasses.replace(tiny, **changes)


def run(data: TrainingData, base: Path, out: Path, chosen: Any) -> tuple[dict[str, Any], list[Any]]:
    from xuankan_worker.releases.train import train

    reports: list[Any] = []
    document = train(
        data, base, out, chosen, "cpu", reports.append, lambda _text: None, {"base_model": "tiny"}
    )
    return document, reports


def test_twenty_steps_learn_and_leave_a_checkpoint(data: TrainingData, base: Path, tmp_path: Path) -> None:
    document, reports = run(data, base, tmp_path, settings())
    assert [report.step for report in reports] == [10, 20]
    assert reports[-1].auxiliary_loss < reports[0].auxiliary_loss
    assert json.loads((tmp_path / "training.json").read_bytes()) == document
    assert document["base_model"] == "tiny"
    assert document["data"]["papers_sha256"] == data.about["papers_sha256"]
    assert set(document["quality"]["dev"]) == {"first_stage", "model", "fused"}
    assert not (tmp_path / "state.pt").exists()

    model = transformers.BertForSequenceClassification.from_pretrained(tmp_path, dtype=torch.float32).eval()
    assert (model.config.num_hidden_layers, model.config.hidden_act) == (2, "relu")
    dev, template = data.splits["dev"], data.template
    scores = np.load(tmp_path / "scores-dev.npy")
    for paper in (0, 5):
        for column in (0, 3):
            first = [template.cls_id, *dev.manuscripts[paper].tolist(), template.sep_id]
            profile = data.profiles[int(dev.candidates[paper, column])].tolist()
            second = [*profile, template.sep_id]
            with torch.inference_mode():
                logit = model(
                    input_ids=torch.tensor([first + second]),
                    token_type_ids=torch.tensor([[0] * len(first) + [1] * len(second)]),
                ).logits.item()
            # The checkpoint is float16, the training's own scores are not.
            assert scores[paper, column] == pytest.approx(logit, abs=5e-3)


def test_an_interrupted_run_ends_where_an_uninterrupted_one_does(
    data: TrainingData, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xuankan_worker.releases import train as training

    whole, _ = run(data, base, tmp_path / "whole", settings())
    monkeypatch.setattr(training, "SAVE_EVERY_S", 0.0)

    def interrupt(report: Any) -> None:
        if report.step == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.train(data, base, tmp_path / "parts", settings(), "cpu", interrupt, lambda _text: None, {})
    with pytest.raises(ReleaseError, match="other settings"):
        run(data, base, tmp_path / "parts", settings(rate=1e-3))
    resumed, reports = run(data, base, tmp_path / "parts", settings())
    assert [report.step for report in reports] == [20]
    assert resumed["quality"] == whole["quality"]


def test_a_base_that_is_no_bert_is_refused(data: TrainingData, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ReleaseError, match="gpt2"):
        run(data, tmp_path, tmp_path / "out", settings())
    with pytest.raises(ReleaseError, match="no checkpoint"):
        run(data, tmp_path / "nowhere", tmp_path / "out", settings())
