from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from xuankan.protocol.template import Template
from xuankan_worker.engines.base import TokenBatch
from xuankan_worker.execution.rows import Profiles, Segment
from xuankan_worker.releases.packing import Packer, Ragged, draw, inclusion_probabilities

TEMPLATE = Template.default()


def ragged(rng: np.random.Generator, count: int, longest: int) -> Ragged:
    return Ragged.of(
        [rng.integers(1000, 30000, rng.integers(1, longest)).astype(np.int32) for _ in range(count)]
    )


def test_ragged_gives_back_what_it_was_made_of() -> None:
    parts = [np.array(ids, dtype=np.int32) for ids in ([5, 6], [], [70000])]
    joined = Ragged.of(parts)
    assert len(joined) == 3
    assert joined.lengths.tolist() == [2, 0, 1]
    assert [joined[i].tolist() for i in range(3)] == [[5, 6], [], [70000]]


@given(st.integers(0, 2**32 - 1))
def test_packed_pairs_are_the_rows_that_the_worker_builds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    manuscripts, profiles = ragged(rng, 3, 40), ragged(rng, 4, 30)
    papers, journals = rng.integers(0, 3, 6), rng.integers(0, 4, 6)
    packed = Packer(manuscripts, profiles, TEMPLATE).pack(papers, journals)
    rows = Profiles([profiles[i] for i in range(4)], TEMPLATE)
    for i, (paper, journal) in enumerate(zip(papers, journals, strict=True)):
        row: TokenBatch = rows.assemble(80, [Segment(manuscripts[int(paper)], np.array([journal]))])
        span = slice(packed.starts[i], packed.starts[i + 1])
        length = int(row.lengths[0])
        assert packed.ids[span].tolist() == row.input_ids[0, :length].tolist()
        assert packed.positions[span].tolist() == list(range(length))
        assert packed.types[span].tolist() == [int(t >= row.first_lengths[0]) for t in range(length)]


def test_a_manuscript_alone_ends_with_its_separator() -> None:
    rng = np.random.default_rng(1)
    manuscripts = ragged(rng, 1, 9)
    packed = Packer(manuscripts, ragged(rng, 1, 9), TEMPLATE).pack(np.array([0]), np.array([-1]))
    assert packed.ids.tolist() == [TEMPLATE.cls_id, *manuscripts[0].tolist(), TEMPLATE.sep_id]
    assert not packed.types.any()


@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.floats(0.0, 6.0))
def test_inclusion_probabilities_sum_to_the_count(seed: int, columns: int, spread: float) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, columns + 1))
    weights = np.exp(spread * rng.normal(size=(5, columns)))
    chances = inclusion_probabilities(weights, count)
    assert (chances <= 1 + 1e-9).all()
    np.testing.assert_allclose(chances.sum(axis=1), count, rtol=1e-9)
    free = chances < 1 - 1e-9
    for row in range(5):
        ratio = chances[row][free[row]] / weights[row][free[row]]
        np.testing.assert_allclose(ratio, ratio[:1].repeat(len(ratio)), rtol=1e-6)


def test_draws_follow_their_probabilities() -> None:
    rng = np.random.default_rng(0)
    chances = inclusion_probabilities(np.array([[8.0, 4.0, 2.0, 1.0, 1.0, 0.0]]), 3)
    rows = draw(np.repeat(chances, 20_000, axis=0), 3, rng)
    assert (np.diff(rows, axis=1) > 0).all()
    share = np.bincount(rows.ravel(), minlength=6) / 20_000
    np.testing.assert_allclose(share, chances[0], atol=0.015)
    assert share[5] == 0
