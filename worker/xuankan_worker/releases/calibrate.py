"""Chooses the ranges of activations: what they hold on real pairs, and where to clip it.

Ranges are symmetric, so all that counts are magnitudes: a histogram for each activation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from xuankan_worker.engines.base import TokenBatch
from xuankan_worker.engines.host import cores
from xuankan_worker.engines.runtime import Session, open_session
from xuankan_worker.engines.sequence import sequence_feed
from xuankan_worker.releases.qdq import QuantizedPrecision, Ranges, Site, constants_of, divisors, float_twin
from xuankan_worker.releases.quantize import Pair

Progress = Callable[[str, float], None]
BINS = 2048
_LEVELS = 128
_BATCH_TOKENS = 2048
"""Bounds what the taps of one batch take."""
_BALANCE = 0.7
"""The best of 0.4 to 0.7 in a trial with the shipped model: 64 pairs measured, divisors from 0.01 on."""
_BALANCED_BY = 4
"""Every fourth batch shows which channels are large."""


class Histogram:
    """Counts of magnitudes in `BINS` bins of one width, which doubles when a larger value comes."""

    def __init__(self) -> None:
        self.counts = np.zeros(BINS, np.int64)
        self.width = 0.0

    def add(self, values: NDArray[np.float32]) -> None:
        magnitudes = np.abs(values).ravel()
        largest = float(magnitudes.max(initial=0.0))
        if not self.width:
            self.width = max(largest, 1e-6) / (BINS - 1)
        while largest >= self.width * BINS:
            self.counts = np.concatenate(
                [self.counts.reshape(-1, 2).sum(axis=1), np.zeros(BINS // 2, np.int64)]
            )
            self.width *= 2
        places = np.minimum((magnitudes * np.float32(1 / self.width)).astype(np.int32), BINS - 1)
        self.counts += np.bincount(places, minlength=BINS)


def min_max(histogram: Histogram) -> float:
    """Nothing is clipped."""
    return (int(np.flatnonzero(histogram.counts)[-1]) + 1) * histogram.width


def percentile(histogram: Histogram, percent: float = 99.99) -> float:
    """The smallest edge of a bin that so many percent of the values are below."""
    below: NDArray[np.int64] = np.cumsum(histogram.counts)
    return (int(np.searchsorted(below, percent / 100 * int(below[-1]))) + 1) * histogram.width


def entropy(histogram: Histogram) -> float:
    """The threshold whose clipped and rounded distribution tells the most of the real one.

    TensorRT's calibrator (Migacz 2017, "8-bit Inference with TensorRT", GTC, slides 25–39): for each number
    of bins from 128 on, P is the histogram up to there, with all beyond in its last bin, and Q the same
    without it, rounded to 128 levels, each level's count spread evenly over those of its bins that are not
    empty. The least Kullback-Leibler divergence of Q from P wins.
    """
    counts = histogram.counts.astype(np.float64)
    used = int(np.flatnonzero(counts)[-1]) + 1
    beyond = counts.sum() - np.cumsum(counts)
    best, chosen = np.inf, used
    for bins in range(_LEVELS, used + 1):
        p = counts[:bins].copy()
        starts = np.arange(_LEVELS) * bins // _LEVELS
        filled = p > 0
        sizes = np.add.reduceat(filled, starts, dtype=np.int64)
        level = np.add.reduceat(p, starts) / np.maximum(sizes, 1)
        q = np.where(filled, np.repeat(level, np.diff(starts, append=bins)), 0.0)
        p[-1] += beyond[bins - 1]
        if (found := _divergence(p, q)) < best:
            best, chosen = found, bins
    return chosen * histogram.width


def _divergence(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    """Kullback-Leibler divergence of q from p, both not normalized; infinite where q lacks what p has."""
    some = p > 0
    if not (q[some] > 0).all():
        return np.inf
    share, told = p[some] / p.sum(), q[some] / q.sum()
    return float(np.sum(share * np.log(share / told)))


class RangeMethod(NamedTuple):
    """A way to choose ranges: what balances channels (see `qdq.divisors`; None: nothing), and what clips."""

    name: str
    balance: float | None
    clip: Callable[[Histogram], float]


def methods(precision: QuantizedPrecision) -> tuple[RangeMethod, ...]:
    """What is tried. FP8 is a floating grid: entropy, which is about an even one, is nothing for it."""
    plain = [RangeMethod("min-max", None, min_max), RangeMethod("percentile 99.99", None, percentile)]
    if precision == "fp8":
        return tuple(plain)
    plain.append(RangeMethod("entropy", None, entropy))
    balanced = [RangeMethod(f"balanced, {name}", _BALANCE, clip) for name, _, clip in plain]
    return (*plain, *balanced)


def batches(pairs: Sequence[Pair]) -> Iterator[tuple[NDArray[np.int64], TokenBatch]]:
    """Pairs of like length together; the places of a batch's rows among the pairs, and the batch."""
    order = np.argsort([-len(pair.input_ids) for pair in pairs], kind="stable")
    start = 0
    while start < len(order):
        longest = len(pairs[int(order[start])].input_ids)
        rows = order[start : start + max(1, _BATCH_TOKENS // longest)]
        ids = np.zeros((len(rows), longest), np.int32)
        members: list[Pair] = [pairs[place] for place in rows.tolist()]
        for row, pair in zip(ids, members, strict=True):
            row[: len(pair.input_ids)] = pair.input_ids
        lengths = np.array([len(pair.input_ids) for pair in members], np.int32)
        firsts = np.array([pair.first_length for pair in members], np.int32)
        yield rows, TokenBatch(ids, lengths, firsts)
        start += len(rows)


def score(
    model: onnx.ModelProto, pairs: Sequence[Pair], told: Callable[[float], None] = lambda _part: None
) -> NDArray[np.float32]:
    """A graph's logits of pairs, float32 [N]; `told` hears which part is done."""
    session = _session(model)
    result, done = np.empty(len(pairs), np.float32), 0
    for rows, batch in batches(pairs):
        result[rows] = session.run(["scores"], sequence_feed(batch))[0]
        done += len(rows)
        told(done / len(pairs))
    return result


def _session(model: onnx.ModelProto) -> Session:
    return open_session(model.SerializeToString(), cores(), as_written=True)


class ObservedActivations:
    """What activations hold, for every way to balance their channels."""

    def __init__(
        self,
        model: onnx.ModelProto,
        sites: Sequence[Site],
        balances: Sequence[float | None],
        pairs: Sequence[Pair],
        told: Callable[[float], None] = lambda _part: None,
    ) -> None:
        """Run pairs through the FP16 graph `model`; `told` hears which part is done."""
        self._sources = list(dict.fromkeys(site.source for site in sites))
        tapped = float_twin(model)
        tapped.graph.output.extend(
            helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in self._sources
        )
        session, work = _session(tapped), list(batches(pairs))
        largest: dict[str, NDArray[np.float32]] = {}
        for _, batch in work[::_BALANCED_BY]:
            for name, values in self._run(session, batch):
                found = np.abs(values).max(axis=0)
                largest[name] = np.maximum(largest[name], found) if name in largest else found
        weights = constants_of(model)
        self._divisors: dict[float | None, dict[str, NDArray[np.float32]]] = {
            balance: {}
            if balance is None
            else {
                name: divisors(largest[name], [weights[s.weight] for s in sites if s.source == name], balance)
                for name in self._sources
            }
            for balance in balances
        }
        self._histograms = {balance: {name: Histogram() for name in self._sources} for balance in balances}
        for index, (_, batch) in enumerate(work):
            for name, values in self._run(session, batch):
                for balance, by_name in self._histograms.items():
                    divisor = self._divisors[balance].get(name)
                    by_name[name].add(values if divisor is None else values / divisor)
            told((index + 1) / len(work))

    def ranges(self, method: RangeMethod) -> Ranges:
        """What the method makes of it."""
        histograms: Mapping[str, Histogram] = self._histograms[method.balance]
        return Ranges(
            {name: method.clip(histogram) for name, histogram in histograms.items()},
            self._divisors[method.balance],
        )

    def _run(self, session: Session, batch: TokenBatch) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """Values [real tokens, K] of every source."""
        columns = np.arange(batch.input_ids.shape[1], dtype=np.int32)
        real = np.less(columns[:, None], batch.lengths).ravel()
        for name, values in zip(self._sources, session.run(self._sources, sequence_feed(batch)), strict=True):
            yield name, values.reshape(len(real), -1)[real]
