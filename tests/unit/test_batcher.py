from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.scheduling import Ask, drain, queue, rows_of
from xuankan_worker.scheduling.batcher import Batcher, BatchLimits

LIMITS = BatchLimits(buckets=(64, 128, 192, 256), max_rows=16, max_tokens=2048, max_padding=0.1, bulk_every=4)
LANES = st.sampled_from(["interactive", "bulk"])


ASKS = st.builds(Ask, LANES, st.lists(st.integers(1, 256), min_size=1, max_size=40))


def bucket_of(length: int) -> int:
    return next(bucket for bucket in LIMITS.buckets if bucket >= length)


@given(st.lists(ASKS, max_size=12), st.integers(1, 4))
def test_every_row_comes_out_once_within_the_bounds(asks: list[Ask], idle: int) -> None:
    batcher: Batcher[Ask] = Batcher(LIMITS)
    for ask in asks:
        queue(batcher, ask)
    batches = drain(batcher, idle)
    taken = Counter(row for batch in batches for row in rows_of(batch))
    assert taken == Counter((ask, row) for ask in asks for row in range(len(ask.lengths)))
    for batch in batches:
        assert 1 <= batch.rows <= LIMITS.max_rows
        assert batch.tokens <= LIMITS.max_tokens
        for ask, row in rows_of(batch):
            length = ask.lengths[row]
            assert length <= batch.bucket
            own = bucket_of(length) == batch.bucket
            assert own or length >= batch.bucket * (1 - LIMITS.max_padding)
    assert batcher.waiting_rows("interactive") == batcher.waiting_rows("bulk") == 0


@st.composite
def scripts(draw: st.DrawFn) -> list[tuple[str, Ask | int]]:
    """Arrivals, batches and drops in any order."""
    steps: list[tuple[str, Ask | int]] = []
    for _ in range(draw(st.integers(0, 60))):
        kind = draw(st.sampled_from(["add", "take", "take", "drop"]))
        steps.append((kind, draw(ASKS) if kind == "add" else draw(st.integers(0, 100))))
    return steps


@settings(max_examples=200)
@given(scripts())
def test_arrivals_batches_and_drops_in_any_order_agree_with_a_plain_model(
    steps: list[tuple[str, Ask | int]],
) -> None:
    batcher: Batcher[Ask] = Batcher(LIMITS)
    waiting: dict[Ask, set[int]] = {}  # in order of arrival
    passed_over = 0
    for kind, value in steps:
        if isinstance(value, Ask):
            queue(batcher, value)
            waiting[value] = set(range(len(value.lengths)))
        elif kind == "drop" and waiting:
            ask = list(waiting)[value % len(waiting)]
            assert batcher.drop(ask) == len(waiting.pop(ask))
        elif kind == "take":
            by_lane = {lane: [ask for ask in waiting if ask.lane == lane] for lane in ("interactive", "bulk")}
            batch = batcher.take(idle=1 + value % 3)
            if batch is None:
                assert not waiting
                passed_over = 0
                continue
            # The batch belongs to the oldest request of a lane ...
            leader = batch.slices[0].request
            assert leader is by_lane[leader.lane][0]
            # ... of the interactive lane, but for bulk's share.
            if leader.lane == "interactive" and by_lane["bulk"]:
                passed_over += 1
                assert passed_over < LIMITS.bulk_every
            else:
                passed_over = 0
            for ask, row in rows_of(batch):
                # Fails on a row that was never there, was dropped or came out before.
                waiting[ask].remove(row)
                if not waiting[ask]:
                    del waiting[ask]
        for lane in ("interactive", "bulk"):
            assert batcher.waiting_rows(lane) == sum(
                len(rows) for a, rows in waiting.items() if a.lane == lane
            )


@given(st.lists(ASKS, min_size=2, max_size=12))
def test_rows_of_one_lane_and_bucket_keep_the_order_of_their_requests(asks: list[Ask]) -> None:
    batcher: Batcher[Ask] = Batcher(LIMITS)
    for number, ask in enumerate(asks):
        ask.number = number
        queue(batcher, ask)
    order: dict[tuple[str, int], list[int]] = {}
    for batch in drain(batcher):
        for ask, row in rows_of(batch):
            order.setdefault((ask.lane, bucket_of(ask.lengths[row])), []).append(ask.number)
    for numbers in order.values():
        assert numbers == sorted(numbers)


def test_rows_of_other_requests_fill_a_batch_up() -> None:
    batcher: Batcher[Ask] = Batcher(LIMITS)
    first, second = Ask("interactive", [100] * 5), Ask("bulk", [110] * 20)
    queue(batcher, first)
    queue(batcher, second)
    batch = batcher.take()
    assert batch is not None
    assert Counter(ask for ask, _ in rows_of(batch)) == {first: 5, second: 11}


def test_rows_of_a_shorter_bucket_fill_up_only_where_little_is_wasted() -> None:
    batcher: Batcher[Ask] = Batcher(LIMITS)
    ask = Ask("interactive", [128, 120, 116, 115, 64])
    queue(batcher, Ask("interactive", [129]))
    queue(batcher, ask)
    batches = drain(batcher)
    # 129 needs 192, where 128 would be padded by a third; 128, 120, 116 and 115 share a batch; 64 fits in 64.
    assert [(batch.bucket, batch.rows) for batch in batches] == [(192, 1), (128, 4), (64, 1)]
    close: Batcher[Ask] = Batcher(BatchLimits(buckets=(112, 128)))
    queue(close, Ask("interactive", [113, 112, 111]))
    # 112 is cut 12.5 % short of 128, more than a tenth.
    assert [(batch.bucket, batch.rows) for batch in drain(close)] == [(128, 1), (112, 2)]
    closer: Batcher[Ask] = Batcher(BatchLimits(buckets=(120, 128)))
    queue(closer, Ask("interactive", [121, 116, 115]))
    assert [(batch.bucket, batch.rows) for batch in drain(closer)] == [(128, 2), (120, 1)]


def test_bulk_leads_one_batch_in_every_few_however_much_is_interactive() -> None:
    batcher: Batcher[Ask] = Batcher(LIMITS)
    queue(batcher, Ask("bulk", [200] * 300))
    leaders: list[str] = []
    for _ in range(40):
        queue(batcher, Ask("interactive", [60] * 16))
        batch = batcher.take()
        assert batch is not None
        leaders.append(batch.slices[0].request.lane)
    assert leaders == (["interactive"] * 3 + ["bulk"]) * 10


class Contexts:
    """Contexts whose time is the tokens that they run; what they take is decided when they fall idle."""

    def __init__(self, count: int) -> None:
        self.free_at = [0.0] * count

    def run(self, batcher: Batcher[Ask]) -> list[int]:
        sizes: list[int] = []
        while True:
            now = min(self.free_at)
            idle = [index for index, free in enumerate(self.free_at) if free <= now]
            busy = [free - now for free in self.free_at if free > now]
            batch = batcher.take(busy, len(idle))
            if batch is None:
                return sizes
            sizes.append(batch.rows)
            self.free_at[idle[0]] += batch.tokens


def test_a_request_ends_on_all_contexts_at_once() -> None:
    batcher: Batcher[Ask] = Batcher(BatchLimits(buckets=(256,)))
    queue(batcher, Ask("interactive", [250] * 100))
    contexts = Contexts(2)
    sizes = contexts.run(batcher)
    assert sizes == [16] * 6 + [2] * 2
    assert contexts.free_at[0] == contexts.free_at[1] == 50 * 256


@given(st.lists(st.integers(1, 60), min_size=1, max_size=8), st.integers(1, 5))
def test_no_context_idles_while_another_has_more_than_a_row_too_much(sizes: list[int], count: int) -> None:
    batcher: Batcher[Ask] = Batcher(BatchLimits(buckets=(256,), max_rows=16))
    for size in sizes:
        queue(batcher, Ask("interactive", [250] * size))
    contexts = Contexts(count)
    contexts.run(batcher)
    assert max(contexts.free_at) - min(contexts.free_at) <= 256


def test_a_busy_context_is_reckoned_with() -> None:
    batcher: Batcher[Ask] = Batcher(BatchLimits(buckets=(256,), max_rows=64, max_tokens=64 * 256))
    queue(batcher, Ask("interactive", [250] * 20))
    batch = batcher.take([4 * 256.0], idle=1)
    assert batch is not None
    assert batch.rows == 12  # the other will take 8 more after its 4


def test_a_row_beyond_the_token_bound_still_runs_alone() -> None:
    batcher: Batcher[Ask] = Batcher(BatchLimits(buckets=(512,), max_tokens=100))
    queue(batcher, Ask("bulk", [500, 400]))
    assert [batch.rows for batch in drain(batcher)] == [1, 1]


def test_dropping_what_never_came_or_has_gone_is_harmless() -> None:
    batcher: Batcher[Ask] = Batcher(LIMITS)
    ask = Ask("bulk", [10])
    assert batcher.drop(ask) == 0
    queue(batcher, ask)
    drain(batcher)
    assert batcher.drop(ask) == 0
    assert batcher.take() is None


def test_a_batch_says_why_it_is_no_larger() -> None:
    batcher: Batcher[Ask] = Batcher(LIMITS)
    queue(batcher, Ask("bulk", [100] * 40))
    batches = drain(batcher, idle=2)
    # A whole one; then 24 rows are for two contexts, 12 for two of the next two, and so on.
    assert [(batch.rows, batch.reason) for batch in batches[:2]] == [(16, "full"), (12, "shared")]
    assert batches[-1].reason == "drained"
    queue(batcher, Ask("bulk", [100] * 3 + [250]))
    longest, rest = drain(batcher)
    assert (longest.rows, longest.reason) == (1, "drained")  # the others are too short to fill it up
    assert (rest.rows, rest.reason) == (3, "drained")
