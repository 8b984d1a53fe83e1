"""From a table of papers to the steps of training, on a small world of three fields and six journals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.training_world import QUOTED, catalogue, training_data
from xuankan.errors import ReleaseError
from xuankan_worker.releases.batches import Steps, negative_probabilities, paper_sequence
from xuankan_worker.releases.dataset import TrainingData, masked_profiles, without_example


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> TrainingData:
    return training_data(tmp_path_factory.mktemp("papers") / "papers.parquet")


def test_training_lists_hold_every_allowed_paper(training: TrainingData) -> None:
    lists = training.splits["train"]
    assert len(lists) == 6 * 30 + 1  # the bioRxiv preprint may not be trained on
    assert lists.candidates.shape == (len(lists), 6)
    assert all(sorted(row) == list(range(6)) for row in lists.candidates.tolist())
    assert lists.weight.mean() == pytest.approx(1.0, rel=1e-5)
    found = np.take_along_axis(
        lists.first_stage, (lists.candidates == lists.truth[:, None]).argmax(axis=1)[:, None], axis=1
    )
    np.testing.assert_allclose(found[:, 0], lists.truth_logit)


def test_first_stage_of_training_papers_finds_their_field(training: TrainingData) -> None:
    lists = training.splits["train"]
    best_two = lists.candidates[:, :2] // 2 == (lists.truth // 2)[:, None]
    assert best_two.mean() > 0.9


def test_a_quoted_title_is_masked_for_its_own_paper_only(training: TrainingData) -> None:
    lists = training.splits["train"]
    own = np.flatnonzero(lists.truth_profile >= training.journals)
    assert len(own) == 1
    words = training.template.tokenizer.decode(training.profiles[int(lists.truth_profile[own[0]])].tolist())
    assert "quoted title" not in words
    assert "another title" in words


def test_masking_leaves_the_rest_of_the_profile() -> None:
    journal = catalogue()[catalogue().index("letters-of-algebra")]
    assert without_example(journal, "another title").endswith(f"Papers: {QUOTED}.")
    assert without_example(journal, QUOTED).endswith("Papers: another title.")
    assert masked_profiles(["something else"], np.array([4]), catalogue()) == {}


def test_saved_data_is_what_was_made(training: TrainingData, tmp_path: Path) -> None:
    training.save(tmp_path / "data.npz")
    again = TrainingData.load(tmp_path / "data.npz")
    assert again.about == training.about
    assert again.template.fingerprint == training.template.fingerprint
    assert list(again.splits) == ["train", "dev"]
    for name, lists in training.splits.items():
        other = again.splits[name]
        assert (lists.candidates == other.candidates).all()
        assert (lists.manuscripts.ids == other.manuscripts.ids).all()
        np.testing.assert_allclose(lists.first_stage, other.first_stage, atol=0.02)


def test_a_file_that_is_no_training_data_says_so(tmp_path: Path) -> None:
    (tmp_path / "data.npz").write_bytes(b"not an archive")
    with pytest.raises(ReleaseError, match="xuankan model prepare"):
        TrainingData.load(tmp_path / "data.npz")


def test_steps_are_the_same_every_time(training: TrainingData) -> None:
    def steps() -> Steps:
        return Steps(training, 64, 3, 0.5, 0.1, seed=5)

    one, two = steps().step(16, 8), steps().step(16, 8)
    assert (one.packed.ids == two.packed.ids).all()
    assert (one.added == two.added).all()
    other = steps().step(24, 8)
    assert one.truth.tolist() != other.truth.tolist() or (one.added != other.added).any()


def test_a_step_pairs_a_paper_with_its_journal_and_with_others(training: TrainingData) -> None:
    step = Steps(training, 8, 3, 0.5, 0.0, seed=1).step(0, 8)
    assert step.added.shape == (8, 4)
    assert len(step.packed.starts) == 8 * 4 + 8 + 1
    assert np.isfinite(step.added).all()
    # Segment 1 of a pair is its profile: the first of four is the paper's own journal, the others are not.
    texts: list[str] = []
    for start, end in zip(step.packed.starts[:-1], step.packed.starts[1:], strict=True):
        ids = step.packed.ids[start:end][step.packed.types[start:end] == 1]
        texts.append(training.template.tokenizer.decode(ids.tolist()))
    journals = [journal.title.lower() for journal in catalogue()]
    for paper in range(8):
        titles = [
            next(j for j, t in enumerate(journals) if text.startswith(t)) for text in texts[4 * paper :][:4]
        ]
        assert titles[0] == step.truth[paper]
        assert len(set(titles)) == 4
    assert texts[32:] == [""] * 8


def test_drawn_negatives_stand_for_all_candidates() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(1, 50)) * 2
    allowed = np.ones((1, 50), dtype=bool)
    allowed[0, 7] = False
    chances = negative_probabilities(logits, allowed, 10)
    assert chances[0, 7] == 0
    assert chances.sum() == pytest.approx(10)
    assert chances[allowed].min() > 0


def test_papers_that_weigh_less_come_less_often() -> None:
    chance = np.array([1.0, 0.5, 0.1] * 100)
    sequence = paper_sequence(chance, 16_000, np.random.default_rng(0))
    share = np.bincount(sequence % 3, minlength=3) / len(sequence)
    np.testing.assert_allclose(share, chance[:3] / chance[:3].sum(), atol=0.02)


def test_masking_spares_the_special_tokens(training: TrainingData) -> None:
    template = training.template
    plain = Steps(training, 8, 3, 0.5, 0.0, seed=1).step(0, 8).packed.ids
    masked = Steps(training, 8, 3, 0.5, 0.3, seed=1).step(0, 8).packed.ids
    changed = plain != masked
    assert 0.2 < changed.mean() < 0.3
    assert (masked[changed] == template.tokenizer.token_to_id("[MASK]")).all()
    assert not np.isin(plain[changed], [template.cls_id, template.sep_id]).any()
