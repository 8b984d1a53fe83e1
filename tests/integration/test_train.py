"""Training at tiny size: every step of the recipe, on the CPU."""

# Typed loosely: torch is not among what developing needs.
# pyright: basic, reportMissingImports=false
from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from tests.support.training_world import catalogue, training_data, write_papers
from xuankan import Manuscript
from xuankan.candidates.first_stage import FirstStage
from xuankan.candidates.fit import fit
from xuankan.catalogue.papers import read_papers
from xuankan.client.options import RankingOptions
from xuankan.client.prepare import Preparer
from xuankan.errors import ReleaseError
from xuankan_worker.cli.model import model as commands
from xuankan_worker.engines.runtime import open_session
from xuankan_worker.execution.alone import rank_alone
from xuankan_worker.execution.served_model import load_served_model
from xuankan_worker.manifest import Manifest
from xuankan_worker.releases.checkpoint import Checkpoint
from xuankan_worker.releases.labelled import read_labelled
from xuankan_worker.releases.random_checkpoint import random_checkpoint
from xuankan_worker.releases.retrieval_graph import write_retrieval_graph
from xuankan_worker.releases.training_data import TrainingData

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")
# More threads than cores wait for each other by spinning, and other tests run beside these.
torch.set_num_threads(1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TrainingData:
    return training_data(tmp_path_factory.mktemp("papers") / "papers.parquet")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, data: TrainingData) -> Path:
    directory = tmp_path_factory.mktemp("base") / "checkpoint"
    return random_checkpoint(directory, 2, 32, 2, 64, data.template.tokenizer.get_vocab_size(), 320, seed=1)


def recipe(data: TrainingData, base: Path, out: Path, told: list[Any]) -> Any:
    from xuankan_worker.releases.optimizing import Processes
    from xuankan_worker.releases.recipe import Recipe

    out.mkdir(exist_ok=True)
    return Recipe(
        data, base, out, torch.device("cpu"), Processes(), lambda name, now: told.append((name, now.losses))
    )


def settings() -> Any:
    from xuankan_worker.releases.encoder_training import EncoderSettings

    return EncoderSettings(epochs=5.0, papers=16, rate=3e-3, queue=64, dimensions=16)


def test_every_step_leaves_what_the_next_one_needs(data: TrainingData, base: Path, tmp_path: Path) -> None:
    from xuankan_worker.releases.honest import Honest
    from xuankan_worker.releases.pair_training import PairSettings

    told: list[Any] = []
    run = recipe(data, base, tmp_path / "run", told)
    for number in (0, 1):
        run.half(number, settings())
    run.judge()
    honest = Honest.load(tmp_path / "run" / "honest.npz")
    train = data.splits["train"]
    older = train.year[np.maximum(honest.evidence, 0)] < train.year[:, None, None]
    assert np.all(older | (honest.evidence < 0)), "evidence of a training paper is older than the paper"
    run.encoder(settings())
    run.late(replace(settings(), epochs=1.0))
    run.cross_encoder(PairSettings(epochs=1.0, papers=4, negatives=3))
    run.score(["dev"], pairs=tmp_path / "run" / "cross-encoder")
    with np.load(tmp_path / "run" / "scores-dev.npz") as stored:
        scored = dict(stored)
    own = scored["candidates"] == scored["truth"][:, None]
    best = scored["parts"][:, :, 1].argmax(axis=1)
    field = scored["candidates"][np.arange(len(best)), best] // 2 == scored["truth"] // 2
    assert field.mean() > 0.7, "the encoder tells the three fields apart"
    assert own.any(axis=1).all()
    assert np.isfinite(scored["row_logits"]).all()
    checkpoint = Checkpoint.load(tmp_path / "run" / "cross-encoder")
    assert checkpoint.vocabulary_size == data.template.tokenizer.get_vocab_size() + 2 * data.journals
    losses = [parts[0] for name, parts in told if name == "encoder"]
    assert losses[-1] < losses[0]


def model(*arguments: object) -> str:
    """What `xuankan model` prints."""
    done = CliRunner().invoke(commands, [str(argument) for argument in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.timeout(300)
def test_the_commands_lead_from_papers_to_a_release_that_ranks(base: Path, tmp_path: Path) -> None:
    papers = write_papers(tmp_path / "papers.parquet")
    listed, first_stage = tmp_path / "catalogue.json.gz", tmp_path / "first_stage.npz"
    catalogue().save(listed)
    fit(read_papers(papers, "train"), catalogue()).save(first_stage)
    made, run, out = tmp_path / "data.npz", tmp_path / "run", tmp_path / "release"
    chosen = ("--papers", papers, "--catalogue", listed)
    model("prepare", *chosen, "--first-stage", first_stage, "--splits", "dev,late", "--out", made)
    training = ("train", "--data", made, "--base", base, "--out", run, "--papers", 16, "--rate", 3e-3)
    model(*training, "--epochs", 2, "--late", "--device", "cpu")
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*.*")}
    model(*training, "--epochs", 2, "--late", "--device", "cpu")
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*.*")} == before, "nothing is done twice"
    assert "MRR on dev without first_stage" in model("fuse", run)
    told = json.loads(model("fuse", run, "--json"))
    assert told["unseen"]["encoder"] == 0
    assert told["metrics"]["dev"]["top3"] > 0.7
    publishing = ("publish", run, "--data", made, *chosen, "--name", "tiny", "--samples", 60)
    model(*publishing, "--out", out)
    manifest = Manifest.load(out)
    assert manifest.quantization is not None
    assert manifest.metrics == told["metrics"]
    assert manifest.training["base_model"] == "checkpoint"

    served = load_served_model("onnx", out, listed, 4)
    slot = served.engine.open_slot(0)
    prepared = Preparer(served.template, served.catalogue, FirstStage.load(first_stage))
    dev, right = read_labelled(papers, ("dev",), None, 0), 0
    for title, abstract, journal in zip(dev.title, dev.abstract, dev.journal, strict=True):
        asked = prepared.request(
            Manuscript(title, abstract),
            RankingOptions(),
            request_id="id",
            reply="r",
            now_ms=0,
        )
        best = rank_alone(served, slot, asked).journals[0]
        right += best.journal.split("-")[-1] == journal.split()[-1].lower()
        assert best.evidence
        assert {paper.link[:21] for paper in best.evidence if paper.link} <= {"https://doi.org/10.1/"}
        assert best.journal in best.evidence[0].title, "evidence is of the journal's own papers"
    assert right > 0.7 * len(dev.journal), "INT8 tells the fields apart"
    slot.close()
    served.engine.close()

    other = tmp_path / "other.parquet"
    other.write_bytes(papers.read_bytes() + b"x")
    with pytest.raises(ReleaseError, match="papers_sha256"):
        model(*publishing, "--papers", other, "--out", out)
    (run / "fusion.json").unlink()
    with pytest.raises(ReleaseError, match="xuankan model fuse"):
        model(*publishing, "--out", out)


def test_a_run_goes_on_where_it_stopped(
    data: TrainingData, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xuankan_worker.releases import optimizing

    monkeypatch.setattr(optimizing, "SAVE_EVERY_S", 0.0)
    whole = recipe(data, base, tmp_path / "whole", [])
    whole.half(0, replace(settings(), papers=8))

    told: list[Any] = []
    broken = recipe(data, base, tmp_path / "broken", told)

    def stop(_name: str, now: Any) -> None:
        if now.step == 20:
            raise KeyboardInterrupt

    object.__setattr__(broken, "report", stop)
    with pytest.raises(KeyboardInterrupt):
        broken.half(0, replace(settings(), papers=8))
    recipe(data, base, tmp_path / "broken", told).half(0, replace(settings(), papers=8))
    assert told, "the second run had steps left"
    first, second = (
        Checkpoint.load(tmp_path / name / "half-0", scores=False).tensors for name in ("whole", "broken")
    )
    for name, tensor in first.items():
        np.testing.assert_allclose(second[name], tensor, atol=2e-2, err_msg=name)


def test_the_graph_computes_what_the_encoder_computes(data: TrainingData, base: Path, tmp_path: Path) -> None:
    run = recipe(data, base, tmp_path / "run", [])
    run.half(0, replace(settings(), epochs=0.5))
    train = data.splits["train"]
    encoded = run.encode(run.load_encoder("half-0"), train)
    checkpoint = Checkpoint.load(tmp_path / "run" / "half-0", scores=False)
    graph = write_retrieval_graph(checkpoint, encoded.embeddings, 7)
    session = open_session(graph.SerializeToString())
    t, rows = data.template, [3, 11, 40]
    longest = max(len(train.manuscripts[row]) for row in rows) + 2
    ids = np.full((len(rows), longest), t.pad_id, np.int32)
    lengths = np.array([len(train.manuscripts[row]) + 2 for row in rows], np.int32)
    for place, row in enumerate(rows):
        ids[place, : lengths[place]] = [t.cls_id, *train.manuscripts[row].tolist(), t.sep_id]
    feed = {"input_ids": ids, "lengths": lengths, "first_lengths": lengths}
    logits, vectors, papers, cosines = session.run(["logits", "embedding", "neighbours", "nearness"], feed)
    np.testing.assert_allclose(logits, encoded.logits[rows], atol=5e-3)
    np.testing.assert_allclose(vectors, encoded.embeddings[rows], atol=2e-3)
    assert papers[:, 0].tolist() == rows
    assert np.all(np.diff(cosines, axis=1) <= 0)
