"""The first stage: the shipped artefact, its file, other catalogues, fitting."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xuankan.candidates import FirstStage
from xuankan.candidates.quality import measure
from xuankan.catalogue import Catalogue, Journal
from xuankan.catalogue.parquet import read_columns
from xuankan.errors import CatalogueError

SAMPLE = Path(__file__).parents[1] / "data" / "papers.parquet"


def test_the_shipped_first_stage_finds_the_journal_of_unseen_papers() -> None:
    papers = read_columns(SAMPLE, ("title", "abstract", "journal"))
    catalogue, first_stage = Catalogue.default(), FirstStage.default()
    positions = {journal.title: position for position, journal in enumerate(catalogue)}
    truth = np.array([positions[title] for title in papers["journal"]])
    quality = measure(first_stage.score_many(papers["title"], papers["abstract"]), truth)
    assert quality.papers == 360
    assert quality.recall >= 0.95
    assert quality.mrr >= 0.33


def test_the_artefact_is_small_and_belongs_to_the_shipped_catalogue() -> None:
    assert Path(str(files("xuankan") / "data" / "first_stage.npz")).stat().st_size <= 11e6
    first_stage, catalogue = FirstStage.default(), Catalogue.default()
    assert first_stage.catalogue_version == catalogue.version
    assert first_stage.journals == tuple(journal.id for journal in catalogue)
    assert first_stage.for_catalogue(catalogue) is first_stage


@given(st.text(max_size=300), st.text(max_size=300))
def test_scores_are_log_probabilities_whatever_the_text(title: str, abstract: str) -> None:
    scores = FirstStage.default().scores(title, abstract)
    assert scores.dtype == np.float32
    assert scores.shape == (632,)
    assert np.exp(scores.astype(np.float64)).sum() == pytest.approx(1, abs=1e-3)


def test_saving_again_loses_nothing(tmp_path: Path) -> None:
    first_stage = FirstStage.default()
    first_stage.save(tmp_path / "again.npz")
    again = FirstStage.load(tmp_path / "again.npz")
    text = ("Bose-Einstein condensates in optical lattices", "We study solitons.")
    np.testing.assert_allclose(again.scores(*text), first_stage.scores(*text), atol=1e-3)
    assert again.newcomer == first_stage.newcomer


@given(st.binary(max_size=100))
def test_any_bytes_are_at_worst_a_clear_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "f.npz"
    path.write_bytes(data)
    with pytest.raises(CatalogueError, match="cannot be read as a first stage"):
        FirstStage.load(path)
    np.savez(path, format=np.array("something else"))
    with pytest.raises(CatalogueError, match="its format is 'something else'"):
        FirstStage.load(path)


def test_another_catalogue_keeps_known_journals_and_reads_the_profiles_of_new_ones() -> None:
    tea = Journal(
        id="journal-of-tea",
        title="Journal of Tea",
        profile="Journal of Tea. camellia sinensis, tea polyphenols, tea leaves, fermentation of oolong tea.",
    )
    shipped = Catalogue.default()
    fewer = Catalogue((tea, *reversed(shipped.journals[::2])))
    first_stage = FirstStage.default().for_catalogue(fewer)
    assert first_stage.catalogue_version == fewer.version
    assert first_stage.journals[0] == "journal-of-tea"
    scores = first_stage.scores("Polyphenols of oolong tea", "Camellia sinensis leaves after fermentation.")
    assert np.argmax(scores) == 0
    elsewhere = first_stage.scores("Spectral gaps of Schrödinger operators", "We prove a theorem.")
    assert np.sum(elsewhere > elsewhere[0]) > 20
    whole = FirstStage.default().logits("Spectral gaps of Schrödinger operators", "We prove a theorem.")
    kept = [shipped.index(journal) for journal in first_stage.journals[1:]]
    logits = first_stage.logits("Spectral gaps of Schrödinger operators", "We prove a theorem.")
    np.testing.assert_allclose(logits[1:], whole[kept], atol=1e-3)


def test_journals_treated_as_new_are_still_found_and_do_not_flood_the_others() -> None:
    papers = read_columns(SAMPLE, ("title", "abstract", "journal"))
    shipped = Catalogue.default()
    renewed = Catalogue(
        tuple(replace(j, id=f"new-{j.id}") if i % 10 == 0 else j for i, j in enumerate(shipped))
    )
    positions = {journal.title: position for position, journal in enumerate(renewed)}
    truth = np.array([positions[title] for title in papers["journal"]])
    scores = FirstStage.default().for_catalogue(renewed).score_many(papers["title"], papers["abstract"])
    new = truth % 10 == 0
    assert measure(scores[new], truth[new]).recall >= 0.9
    assert measure(scores[~new], truth[~new]).recall >= 0.94
