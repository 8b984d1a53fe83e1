"""Whether few journals fit a manuscript: the features, their weights, and when a release has no opinion."""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyarrow ships no types.
from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from tests.support.evidence_release import CATALOGUE, FUSION, TRAINED, write_release
from xuankan.catalogue import Catalogue
from xuankan.protocol.wire import Request
from xuankan_worker.cli.model import model
from xuankan_worker.engines import Encoded
from xuankan_worker.execution.corpus import Corpus
from xuankan_worker.execution.encoder_step import EncoderStep
from xuankan_worker.execution.fit import FEATURES, fit_features, fit_of
from xuankan_worker.manifest import CORPUS, Manifest
from xuankan_worker.releases.fit_signal import OUTSIDE_SHARE, fit_signal

PAPERS = Path(__file__).parents[1] / "data" / "papers.parquet"


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_release(tmp_path_factory.mktemp("fit"))


def test_the_features_are_what_their_names_say() -> None:
    logits = np.log(np.array([[1.0, 1.0, 1.0, 1.0], [9.0, 1e-9, 1e-9, 1e-9]]))
    cosines = np.array([[0.9, 0.5, -np.inf], [-np.inf, -np.inf, -np.inf]])
    found = dict(zip(FEATURES, fit_features(logits, cosines).T, strict=True))
    np.testing.assert_allclose(found["farthest"], [0.5, 0.0])
    np.testing.assert_allclose(found["energy"], np.log([4.0, 9.0]))
    np.testing.assert_allclose(found["entropy"], [np.log(4), 0], atol=1e-6)


def test_weights_give_the_probabilities_that_are_true() -> None:
    rng = np.random.default_rng(0)
    inside, outside = rng.normal(1, 1, (30_000, 3)), rng.normal(0, 1, (30_000, 3))
    weights = fit_signal(inside, outside)
    # Of two normal distributions the log-odds are linear, with slope 1 here.
    np.testing.assert_allclose([weights[name] for name in FEATURES], 1, atol=0.05)
    odds = np.log((1 - OUTSIDE_SHARE) / OUTSIDE_SHARE)
    assert weights["constant"] == pytest.approx(odds - 1.5, abs=0.1)
    assert fit_of(weights, np.zeros((1, 3)))[0] == pytest.approx(1 / (1 + np.exp(1.5 - odds)), abs=0.02)


def test_what_is_separable_is_fitted_too() -> None:
    weights = fit_signal(np.ones((5, 3)) + np.eye(5, 3) / 9, np.zeros((4, 3)) - np.eye(4, 3) / 9)
    assert np.isfinite(list(weights.values())).all()
    assert fit_of(weights, np.array([[1.0, 1, 1], [0, 0, 0]])).round().tolist() == [1, 0]


def encoded(step: EncoderStep, logits: list[float]) -> Encoded:
    """Of a manuscript whose neighbours are the first papers."""
    full = np.zeros((1, step.corpus.logits), np.float32)
    full[0, : len(logits)] = logits
    papers = np.arange(12, dtype=np.int32)[None]
    return Encoded(
        full, np.zeros((1, 8), np.float32), papers, np.linspace(0.9, 0.4, 12, dtype=np.float32)[None]
    )


def asked(journals: int) -> Request:
    candidates = np.arange(journals, dtype=np.uint32)
    return Request(
        id="r", lane="bulk", fingerprint="", catalogue="", tokens=np.ones(5, np.int32), candidates=candidates,
        first_stage=np.linspace(0, -1, journals).astype(np.float32), top_k=5, enqueued_ms=0,
    )  # fmt: skip


def test_the_fit_does_not_depend_on_the_candidates(release: Path) -> None:
    catalogue = Catalogue.load(release.parent / CATALOGUE)
    step = EncoderStep(Corpus.load(release / CORPUS, catalogue), FUSION, None)
    said = encoded(step, [3.0, 1.0])
    few, many = (step.consider([asked(count)], said)[0].fit for count in (3, 30))
    assert few == many
    assert FUSION.fit is not None
    assert few == pytest.approx(fit_of(FUSION.fit, step.features(said))[0])


def test_a_release_has_no_opinion_where_a_journal_leads_that_it_does_not_know(release: Path) -> None:
    catalogue = Catalogue.load(release.parent / CATALOGUE)
    fusion = replace(FUSION, unseen_base=replace(FUSION.unseen_base, constant=99.0))
    step = EncoderStep(Corpus.load(release / CORPUS, catalogue), fusion, None)
    said = encoded(step, [3.0])
    assert step.consider([asked(TRAINED)], said)[0].fit is not None
    assert step.consider([asked(TRAINED + 1)], said)[0].fit is None


def test_a_release_without_weights_has_none_either(release: Path) -> None:
    catalogue = Catalogue.load(release.parent / CATALOGUE)
    step = EncoderStep(Corpus.load(release / CORPUS, catalogue), replace(FUSION, fit=None), None)
    assert step.consider([asked(4)], encoded(step, [3.0]))[0].fit is None


def test_the_command_writes_the_weights_into_the_manifest(release: Path, tmp_path: Path) -> None:
    table = {"title": ["On trade", "On labour", "On schools"], "abstract": ["Of it.", "", "Of them."]}
    pq.write_table(pa.table(table), tmp_path / "outside.parquet")
    arguments = [
        *("fit-signal", str(release), "--papers", str(PAPERS)),
        *("--outside", str(tmp_path / "outside.parquet")),
    ]
    strangers = CliRunner().invoke(model, arguments)
    assert "trained on a journal of this catalogue" in str(strangers.exception)
    before = Manifest.load(release)
    arguments += ["--catalogue", str(release.parent / CATALOGUE)]
    outcome = CliRunner().invoke(model, arguments, catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    after = Manifest.load(release)
    assert after.fusion is not None
    assert after.fusion.fit is not None
    assert set(after.fusion.fit) == {*FEATURES, "constant"}
    assert json.dumps(dict(after.fusion.fit)) in outcome.output
    assert before.fusion is not None
    assert replace(after, fusion=replace(after.fusion, fit=before.fusion.fit)) == before
