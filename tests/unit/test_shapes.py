from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xuankan.errors import InputError
from xuankan_worker.engines.tensorrt.shapes import Shape, choose_buckets, default_shapes, parse_shapes


@given(st.integers(1, 2048), st.integers(1, 128), st.integers(512, 32768))
def test_the_default_shapes_hold_every_row_within_the_limits(length: int, rows: int, tokens: int) -> None:
    shapes = default_shapes(length, rows, tokens)
    buckets = [shape.bucket for shape in shapes]
    assert list(shapes) == sorted(set(shapes))
    assert length <= buckets[-1] < length + 8
    for shape in shapes:
        assert shape.bucket % 8 == 0
        assert 1 <= shape.rows <= rows
        assert shape.tokens <= tokens or shape.rows == 1


def test_the_default_buckets_pad_pairs_of_usual_length_by_little() -> None:
    buckets = [shape.bucket for shape in default_shapes(512)]
    assert buckets == [64, 128, 192, *range(208, 513, 16)]
    assert [shape.bucket for shape in default_shapes(291)][-3:] == [272, 288, 296]
    assert default_shapes(64) == (Shape(64, 16),)


def test_long_rows_come_in_smaller_batches() -> None:
    shapes = dict(default_shapes(2048, max_batch=64))  # the largest of each bucket
    assert shapes[128] == 64
    assert shapes[256] == 32
    assert shapes[352] == 16  # 23 would fit; kernels like multiples of eight
    assert shapes[2048] == 4


def test_large_batches_come_beside_small_ones() -> None:
    assert parse_shapes("128,256", 256, max_batch=32) == (
        Shape(128, 16), Shape(128, 32), Shape(256, 16), Shape(256, 32),
    )  # fmt: skip
    assert parse_shapes("256", 256, max_batch=24) == (Shape(256, 24),)
    assert default_shapes(20_000)[-1] == Shape(20_000, 1)


def test_buckets_are_read_with_and_without_rows() -> None:
    assert parse_shapes("256x4, 128,256x16,512x11", 512) == (
        Shape(128, 16), Shape(256, 4), Shape(256, 16), Shape(512, 11),
    )  # fmt: skip
    assert parse_shapes("296", 291) == (Shape(296, 16),)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "'' is not a bucket"),
        ("128,long", "'long' is not a bucket: write tokens, or tokens x rows, such as 256 or 256x16"),
        ("128,513", "513 tokens; rows of this release have 1 to 512"),
        ("0x4,512", "0 tokens"),
        ("512x17", "512x17: 17 rows; a batch has 1 to 16 (--max-batch)"),
        ("512x0", "512x0: 0 rows"),
        ("128,256", "the longest is 256, but rows have up to 512 tokens: add 512"),
        (",".join(str(bucket) for bucket in range(384, 513)), "129 shapes; a plan holds at most 128"),
    ],
)
def test_buckets_that_make_no_sense_are_refused(text: str, says: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_shapes(text, 512)
    assert caught.value.field == "buckets"
    assert says in str(caught.value)


def test_a_shape_of_too_many_tokens_is_refused_with_the_rows_that_fit() -> None:
    with pytest.raises(InputError, match=r"512x17: 8704 tokens; .* at most 8192, that is 16 rows of 512"):
        parse_shapes("512x17", 512, max_batch=32)


@given(st.lists(st.integers(0, 50), min_size=2, max_size=100), st.integers(1, 4))
def test_the_chosen_buckets_pad_the_least_of_all_choices(counts: list[int], buckets: int) -> None:
    chosen, share = choose_buckets(counts, buckets, step=16)
    edges = list(range(16, -(-(len(counts) - 1) // 16) * 16 + 1, 16))

    def padded(choice: tuple[int, ...]) -> int:
        return sum(count * min(b for b in choice if b >= length) for length, count in enumerate(counts))

    every = [
        (*some, edges[-1]) for n in range(min(buckets, len(edges))) for some in combinations(edges[:-1], n)
    ]
    assert chosen in every
    assert padded(chosen) == min(map(padded, every))
    tokens, total = int(np.arange(len(counts)) @ counts), padded(chosen)
    assert share == pytest.approx(1 - tokens / total if total else 0.0)


def test_no_bucket_is_spent_where_no_row_is() -> None:
    counts = np.zeros(513, np.int64)
    counts[250] = counts[510] = 10
    assert choose_buckets(counts, 8)[0] == (256, 512)
