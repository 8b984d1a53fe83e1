"""Our worker through the queue beside `sentence_transformers.CrossEncoder.predict`, on one CPU, interleaved.

Both use all cores, the same fine-tuned weights (ours in INT8, theirs in float32) and the same pairs. The
rounds alternate which goes first, and the ratio is taken within each, because a shared host's speed drifts.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from xuankan import Manuscript, Producer
from xuankan.client.prepare import Preparer
from xuankan.embedded.servers import EmbeddedServer, EmbeddedWorker, free_port
from xuankan.errors import EngineUnavailable
from xuankan_worker.bench.pairs import Work, make_work
from xuankan_worker.bench.usage import Usage, read_usage
from xuankan_worker.engines.host import processor

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Round:
    """One round: pairs per second of both."""

    worker_pairs_per_s: float
    reference_pairs_per_s: float

    @property
    def ratio(self) -> float:
        """How many times faster the worker was."""
        return self.worker_pairs_per_s / self.reference_pairs_per_s


@dataclass(frozen=True, slots=True)
class CpuBench:
    """What `xuankan bench cpu` measured.

    Attributes:
        processor, versions: where and with what.
        pairs_per_round: pairs that both scored in each round.
        mean_tokens: of a pair, special tokens included; neither system sees padding of the other.
        rounds: in their order.
        latency_s: seconds from `rank` to the ranking for one manuscript alone, with all its candidates.
        usage: where the worker's processor time went while it was loaded.
    """

    processor: str
    versions: dict[str, str]
    pairs_per_round: int
    mean_tokens: float
    rounds: tuple[Round, ...]
    latency_s: tuple[float, ...]
    usage: Usage

    @property
    def ratio(self) -> float:
        """Median of the rounds' ratios."""
        return statistics.median(each.ratio for each in self.rounds)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"ratio": self.ratio, "own_cost_share": self.usage.own_share}


def bench_cpu(
    release: Path,
    checkpoint: Path,
    manuscripts: Sequence[Manuscript],
    candidates: int,
    rounds: int,
    report: Report,
) -> CpuBench:
    """Measure; takes about a minute for each round of 400 pairs on two cores.

    Args:
        release: the model release that the worker serves.
        checkpoint: its weights in float32, as Hugging Face saves them, with the tokenizer.
        manuscripts: what each round ranks; each is scored with `candidates` journals.
        candidates: the first stage's best for each manuscript.
        rounds: how often to measure.
        report: called with a line for each step.

    Raises:
        EngineUnavailable: sentence-transformers or torch is not installed.
    """
    preparer = Preparer.load(None, None, None)
    work = make_work(preparer, manuscripts, candidates)
    texts = [pair for item in work for pair in item.texts]
    report(f"{len(texts)} pairs a round; loading CrossEncoder")
    predict = _reference(checkpoint, preparer.template.max_length)
    predict(texts[:32])
    port = free_port()
    options = ("--model", str(release), "--metrics-port", str(port))
    with EmbeddedServer() as server, EmbeddedWorker(server.url, options=options):
        measured: list[Round] = []
        usage = Usage(0.0, 0.0)
        with asyncio.Runner() as runner:
            runner.run(_rank(server.url, work[:1]))
            for number in range(rounds):
                seconds: dict[str, float] = {}
                for system in ("worker", "reference") if number % 2 == 0 else ("reference", "worker"):
                    if system == "worker":
                        before = read_usage(port)
                        seconds[system] = runner.run(_rank(server.url, work))
                        usage += read_usage(port) - before
                    else:
                        started_s = time.perf_counter()
                        predict(texts)
                        seconds[system] = time.perf_counter() - started_s
                each = Round(len(texts) / seconds["worker"], len(texts) / seconds["reference"])
                measured.append(each)
                report(
                    f"round {number + 1} of {rounds}: worker {each.worker_pairs_per_s:.1f}, "
                    f"CrossEncoder {each.reference_pairs_per_s:.1f} pairs/s, ratio {each.ratio:.2f}"
                )
            latency_s = tuple(runner.run(_rank(server.url, [item])) for item in work)
    return CpuBench(
        processor=processor(),
        versions={name: version(name) for name in ("onnxruntime", "sentence-transformers", "torch")},
        pairs_per_round=len(texts),
        mean_tokens=float(np.concatenate([item.lengths for item in work]).mean()),
        rounds=tuple(measured),
        latency_s=latency_s,
        usage=usage,
    )


async def _rank(url: str, work: Sequence[Work]) -> float:
    """Rank all manuscripts at once; seconds from the first submission to the last ranking."""
    async with Producer(url) as producer:
        started_s = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for item in work:
                tasks.create_task(producer.rank(item.manuscript, candidates=item.journals))
        return time.perf_counter() - started_s


def _reference(checkpoint: Path, max_length: int) -> Callable[[Sequence[tuple[str, str]]], object]:
    try:
        # By name: the package is an extra that checking the types does without.
        package: Any = import_module("sentence_transformers")
    except ImportError as error:
        raise EngineUnavailable(
            "sentence-transformers is not installed: pip install 'xuankan[bench]'"
        ) from error
    model = package.CrossEncoder(str(checkpoint), device="cpu", max_length=max_length)

    def predict(texts: Sequence[tuple[str, str]]) -> object:
        return model.predict(list(texts), batch_size=16, show_progress_bar=False)

    return predict
