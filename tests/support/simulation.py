"""The batcher at work on an imagined engine: no clock, no thread; time is what a table says a batch takes."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xuankan.candidates import FirstStage
from xuankan.catalogue import Catalogue
from xuankan.catalogue.parquet import read_columns
from xuankan.protocol.keys import Lane
from xuankan.protocol.template import Template, default_directory
from xuankan_worker.engines.tensorrt.shapes import Shape
from xuankan_worker.scheduling.batcher import Batch, Batcher, BatchLimits

Cost = Callable[[int, int], float]
"""What a batch of a bucket and so many padded rows takes, in any unit of time."""
Lengths = NDArray[np.int32]
"""Tokens of the rows of one request."""


@dataclass(eq=False)
class Arrival:
    """A request: `lengths`, int32 [N], tokens of its rows; `number`, its place in the order of arrival."""

    number: int
    lengths: Lengths
    lane: Lane = "bulk"
    remaining: int = 0
    ended: float = 0.0


@dataclass
class Outcome:
    """What a simulation found.

    Attributes:
        batches: in the order in which they were formed.
        padding: share of the tokens run that were no row's.
        busy: share of the contexts' time in which they ran, until the first falls idle for good.
        time: from the start to the end of the last batch.
    """

    batches: list[Batch[Arrival]]
    padding: float
    busy: float
    time: float


def unseen_papers(count: int) -> list[tuple[str, str]]:
    """Title and abstract of papers that no part of the shipped release has seen."""
    columns = read_columns(
        Path(__file__).parents[1] / "data" / "papers.parquet", ("title", "abstract", "split")
    )
    rows = zip(columns["title"], columns["abstract"], columns["split"], strict=True)
    return [(str(title), str(abstract)) for title, abstract, split in rows if split == "test"][:count]


def row_lengths(
    papers: Sequence[tuple[str, str]], journals: int, manuscript_tokens: int, profile_tokens: int
) -> list[Lengths]:
    """For each paper, the tokens of its rows with its best `journals` candidates, under other budgets."""
    shipped = (default_directory() / "tokenizer.json").read_bytes()
    template = Template.build(shipped, manuscript_tokens, profile_tokens)
    catalogue = Catalogue.default()
    first_stage = FirstStage.default().for_catalogue(catalogue)
    profiles = np.array([len(template.encode_profile(j.profile).ids) for j in catalogue], dtype=np.int32)
    lengths: list[Lengths] = []
    for title, abstract in papers:
        best = np.argsort(-first_stage.scores(title, abstract), kind="stable")[:journals]
        tokens = len(template.encode_manuscript(title, abstract).ids)
        lengths.append(profiles[best] + np.int32(tokens + 3))
    return lengths


def shuffled(lengths: Sequence[Lengths], rounds: int) -> list[Lengths]:
    """Every request so many times, each round in an order of its own; always the same."""
    random = np.random.default_rng(0)
    return [lengths[int(place)] for _ in range(rounds) for place in random.permutation(len(lengths))]


def simulate(
    requests: Sequence[Lengths],
    limits: BatchLimits,
    prefetch_rows: int,
    cost: Cost,
    contexts: int = 2,
    depth: int = 2,
) -> Outcome:
    """Feed bulk requests as a worker reads them, until all are scored."""
    batcher: Batcher[Arrival] = Batcher(limits)
    source = [Arrival(number, lengths, remaining=len(lengths)) for number, lengths in enumerate(requests)]
    waiting = source[::-1]
    queues: list[list[float]] = [[] for _ in range(contexts)]  # by context, when its batches end
    ends: list[tuple[float, int]] = []
    batches: list[Batch[Arrival]] = []
    now, worked, real, run = 0.0, 0.0, 0, 0
    while True:
        while waiting and (room := prefetch_rows - batcher.waiting_rows("bulk")) > 0:
            for _ in range(min(len(waiting), 32, max(1, room // len(waiting[-1].lengths)))):
                one = waiting.pop()
                batcher.add(one, one.lane, one.lengths)
        while True:
            context = min(range(contexts), key=lambda c: (len(queues[c]), queues[c][-1:] or [0.0]))
            if len(queues[context]) == depth:
                break
            busy = [queue[-1] - now for queue in queues if queue]
            batch = batcher.take(busy, contexts - len(busy))
            if batch is None:
                break
            seconds = cost(batch.bucket, batch.padded_rows)
            queues[context].append((queues[context] or [now])[-1] + seconds)
            heapq.heappush(ends, (queues[context][-1], context))
            batches.append(batch)
            worked += seconds
            run += batch.tokens
            real += sum(int(part.request.lengths[part.rows].sum()) for part in batch.slices)
        if not ends:
            return Outcome(batches, 1 - real / run, worked / (contexts * now), now)
        now, context = heapq.heappop(ends)
        queues[context].pop(0)


def limits_of(shapes: tuple[Shape, ...]) -> BatchLimits:
    """Limits under which every shape can be filled."""
    return BatchLimits(
        buckets=tuple(sorted({shape.bucket for shape in shapes})),
        max_rows=max(shape.rows for shape in shapes),
        max_tokens=max(shape.tokens for shape in shapes),
        shapes=shapes,
    )


def default_cost(bucket: int, rows: int) -> float:
    """Tokens, and what a batch costs beside them."""
    return rows * bucket + 400
