"""What an evaluation's figures are made of: intervals, calibration, AUROC, and the file it goes on from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xuankan.candidates.quality import quality_of
from xuankan.errors import InputError
from xuankan_worker.releases.diagram import reliability_svg
from xuankan_worker.releases.kept import Placed, keep
from xuankan_worker.releases.labelled import NO_FIELD, field_of
from xuankan_worker.releases.measures import (
    MEASURES,
    auroc,
    auroc_interval,
    intervals_of,
    reliability,
)


def test_intervals_are_as_wide_as_the_standard_error_says() -> None:
    ranks = np.random.default_rng(0).integers(0, 30, 4000)
    intervals, quality = intervals_of(ranks), quality_of(ranks)
    assert list(intervals) == list(MEASURES)
    for name, (low, high) in intervals.items():
        assert low < getattr(quality, name) < high
    worth = np.where(ranks > 0, 1 / np.maximum(ranks, 1), 0)
    wide = 2 * 1.96 * worth.std() / np.sqrt(len(ranks))
    assert intervals["mrr"].high - intervals["mrr"].low == pytest.approx(wide, rel=0.1)


def test_intervals_hold_the_truth_about_95_times_in_100() -> None:
    rng = np.random.default_rng(1)
    held = 0
    for seed in range(200):
        low, high = intervals_of(np.where(rng.random(300) < 0.4, 1, 7), seed)["top1"]
        held += low <= 0.4 <= high
    assert 180 <= held <= 199


def test_what_is_calibrated_has_no_error() -> None:
    rng = np.random.default_rng(2)
    probability = rng.random(60_000)
    assert reliability(probability, rng.random(60_000) < probability).error < 0.01
    found = reliability(probability, rng.random(60_000) < probability / 2)
    assert found.error == pytest.approx(0.25, abs=0.01)
    assert [part.papers for part in found.bins] == [4000] * 15
    assert all(part.right == pytest.approx(part.probability / 2, abs=0.03) for part in found.bins)


def test_few_predictions_are_few_bins() -> None:
    found = reliability(np.array([0.5, 0.7]), np.array([True, False]))
    assert [part.papers for part in found.bins] == [1, 1]
    assert found.error == pytest.approx((0.5 + 0.7) / 2)


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=30), st.lists(st.integers(0, 5), min_size=1, max_size=30)
)
def test_auroc_counts_pairs(higher: list[int], lower: list[int]) -> None:
    pairs = [(a > b) + (a == b) / 2 for a in higher for b in lower]
    assert auroc(np.array(higher), np.array(lower)) == pytest.approx(sum(pairs) / len(pairs))


def test_auroc_s_interval_holds_it() -> None:
    rng = np.random.default_rng(3)
    higher, lower = rng.normal(1, 1, 400), rng.normal(0, 1, 300)
    low, high = auroc_interval(higher, lower)
    assert low < auroc(higher, lower) < high
    assert 0.03 < high - low < 0.1


def test_a_diagram_has_a_line_for_each_split() -> None:
    found = reliability(np.linspace(0, 1, 60), np.arange(60) % 2 == 0)
    drawn = reliability_svg({"test": found, "dev": found})
    assert drawn.startswith("<svg")
    assert drawn.count("<circle") == 30
    assert f"test: error {found.error:.3f}" in drawn


def test_an_evaluation_goes_on_from_what_was_kept(tmp_path: Path) -> None:
    file, about = tmp_path / "kept", {"release": "a", "candidates": 3}
    with keep(file, about) as kept:
        kept.add(4, Placed(1, 2, 0.5, 0, None))
        kept.add(2, Placed(0, 0, 0.25, 7, 0.75))
    with file.open("a") as torn:
        torn.write("[3, 1, 1")  # the process ended here
    with keep(file, about) as kept:
        assert kept.done == {4: Placed(1, 2, 0.5, 0, None), 2: Placed(0, 0, 0.25, 7, 0.75)}
        kept.add(3, Placed(5, 1, 0.5, 0, None))
    with keep(file, about) as kept:
        assert sorted(kept.done) == [2, 3, 4]


def test_what_was_kept_of_another_evaluation_is_refused(tmp_path: Path) -> None:
    with keep(tmp_path / "kept", {"release": "a"}):
        pass
    refused = pytest.raises(InputError, match=r"keep: .*another evaluation.*name a new file")
    with refused, keep(tmp_path / "kept", {"release": "b"}):
        pass


def test_the_field_of_a_paper_is_its_first_category_s() -> None:
    assert field_of("math.AP,physics.flu-dyn") == "mathematics"
    assert field_of("chao-dyn,nlin") == "nonlinear science"
    assert field_of("quant-ph") == "quantum physics"
    assert field_of(None) == field_of("") == field_of("unheard.of") == NO_FIELD
