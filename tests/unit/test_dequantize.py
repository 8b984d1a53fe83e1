"""The checkpoint of a release computes what the release computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support import tiny_bert
from tests.support.calibration import make_pairs, scores
from xuankan_worker.manifest import MODEL
from xuankan_worker.releases.checkpoint import Checkpoint
from xuankan_worker.releases.dequantize import read_checkpoint
from xuankan_worker.releases.graph import write_graph
from xuankan_worker.releases.quantize import Pair, quantize


@pytest.mark.parametrize("activation", ["relu", "gelu_new"])
def test_the_checkpoint_of_an_int8_release_scores_as_the_release(tmp_path: Path, activation: str) -> None:
    release = tiny_bert.write_release(tmp_path)
    trained = write_graph(Checkpoint.load(tiny_bert.write_checkpoint(tmp_path / "trained", activation)))
    shipped = quantize(trained, make_pairs(200, seed=1)).model
    (release / MODEL).write_bytes(shipped.SerializeToString())
    read_checkpoint(release, tmp_path / "back")
    back = write_graph(Checkpoint.load(tmp_path / "back"))
    pairs = make_pairs(100, seed=2)
    wanted, found, original = scores(shipped, pairs), scores(back, pairs), scores(trained, pairs)
    # Activations are not rounded on the way back, so it lies between the release and the trained model.
    assert np.sqrt(np.mean(np.square(found - wanted))) < 0.05 * wanted.std()
    assert np.sqrt(np.mean(np.square(found - original))) < 0.05 * wanted.std()


def test_the_checkpoint_of_a_float_release_is_exact(tmp_path: Path) -> None:
    release = tiny_bert.write_release(tmp_path)
    # The way back knows GELU in its tanh form only, which the quantizer writes; hence the tolerance.
    read_checkpoint(release, tmp_path / "back")
    batch = tiny_bert.random_batch(20)
    rows = zip(batch.input_ids, batch.lengths, batch.first_lengths, strict=True)
    pairs = [Pair(ids[:length], int(first)) for ids, length, first in rows]
    back = scores(write_graph(Checkpoint.load(tmp_path / "back")), pairs)
    np.testing.assert_allclose(back, tiny_bert.expected_scores(batch), atol=5e-3)
