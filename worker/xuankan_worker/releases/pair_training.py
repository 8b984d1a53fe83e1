# Typed loosely: torch is in the `train` extra only, and its own annotations are not strict.
# pyright: basic, reportMissingImports=false
"""Trains the evidence cross-encoder. Needs the `train` extra.

The objective is the softmax over *all* candidates of

    cross-encoder(row) + scale · what the rest of the ranking thinks

estimated from the paper's own journal and a few drawn negatives. A negative drawn with probability π stands
for 1/π journals, so log 1/π is added to its logit (importance sampling of the partition function: Bengio &
Senécal, 2003). What the rest thinks must be honest: it comes from encoders and first stages that have not
seen the paper.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from xuankan.protocol.template import Template
from xuankan_worker.releases.optimizing import Processes, Progress, Schedule, optimize
from xuankan_worker.releases.packing import Packed, draw, inclusion_probabilities
from xuankan_worker.releases.row_packing import RowPacker, RowTexts
from xuankan_worker.releases.sampling import Sequence, hide_tokens, recency
from xuankan_worker.releases.transformer import PackedBatch, Transformer
from xuankan_worker.releases.weights import save_checkpoint

SHARPNESS = 0.6
"""Negatives are drawn by their probability to this power: 1 is greedy, 0 uniform."""
UNIFORM = 0.1
"""And this share of the draw is uniform over the candidates."""


@dataclass(frozen=True, slots=True)
class PairSettings:
    """Hyper-parameters; the defaults are what the releases were trained with.

    Attributes:
        epochs, papers, rate, memory_years, masked, within_s, seed: see `EncoderSettings`.
        negatives: drawn journals a paper.
        scale: of what the rest of the ranking thinks. Below 1 the cross-encoder also learns what that knows.
        unknown: share of the papers whose rows have no tokens of the journals' own.
    """

    epochs: float = 4.0
    papers: int = 64
    rate: float = 2e-4
    memory_years: float = 3.0
    masked: float = 0.1
    within_s: float = 0.0
    seed: int = 0
    negatives: int = 15
    scale: float = 0.7
    unknown: float = 0.2


class Lists(NamedTuple):
    """Papers and their candidates.

    Attributes:
        papers: int64 [N], which manuscripts.
        truth: int64 [N], journal of each.
        year: int [N].
        candidates: int16 [N, C]; of training papers the own journal is one of them.
        base: float32 [N, C], what the rest of the ranking thinks of them: log-probabilities.
        evidence: int32 [N, C, 3], papers that speak for them, −1 where there is none.
    """

    papers: NDArray[np.int64]
    truth: NDArray[np.int64]
    year: NDArray[np.integer]
    candidates: NDArray[np.int16]
    base: NDArray[np.float32]
    evidence: NDArray[np.int32]


class PairEncoder(nn.Module):
    """A transformer with a head of one logit on its first token."""

    def __init__(self, transformer: Transformer) -> None:
        super().__init__()
        self.transformer = transformer
        self.pooler = nn.Linear(transformer.hidden, transformer.hidden)
        self.classifier = nn.Linear(transformer.hidden, 1)
        nn.init.normal_(self.pooler.weight, std=0.02)
        nn.init.zeros_(self.pooler.bias)
        nn.init.zeros_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)

    @property
    def heads(self) -> dict[str, nn.Linear]:
        """By BERT's names."""
        return {"bert.pooler.dense": self.pooler, "classifier": self.classifier}

    def forward(self, batch: PackedBatch) -> Tensor:
        """One logit a row, float32 [B]."""
        first = self.transformer(batch, first_only=True).float()
        pooled = torch.tanh(self.pooler(first))
        rate = self.transformer.dropout
        return self.classifier(functional.dropout(pooled, rate, self.training))[:, 0]

    def save(self, directory: Path, tokenizer_json: bytes) -> None:
        """Write a cross-encoder's checkpoint in Hugging Face's format."""
        save_checkpoint(directory, self.transformer, self.heads, tokenizer_json)


class PairStep(NamedTuple):
    """P papers with M rows each, the own journal first."""

    packed: Packed
    added: NDArray[np.float32]
    weight: NDArray[np.float32]


class PairObjective:
    """The listwise loss."""

    def __init__(
        self, model: PairEncoder, lists: Lists, texts: RowTexts, template: Template, settings: PairSettings
    ) -> None:
        self.module = model
        self._lists, self._template, self._settings = lists, template, settings
        self._packer = RowPacker(texts, template)
        weight = recency(lists.year, int(np.quantile(lists.year, 0.95)), settings.memory_years)
        self.count = int(settings.epochs * np.sqrt(weight).sum())
        self._sequence = Sequence(weight, self.count + settings.papers, settings.seed)
        self._negatives = min(settings.negatives, lists.candidates.shape[1] - 1)

    def batch(self, first: int, count: int) -> PairStep:
        """See `Objective`."""
        lists, settings = self._lists, self._settings
        rows = self._sequence.order[first : first + count]
        rng = np.random.default_rng([settings.seed, first])
        candidates, base = lists.candidates[rows].astype(np.int64), lists.base[rows]
        own = candidates == lists.truth[rows][:, None]
        chance = negative_probabilities(base, ~own, self._negatives)
        columns = draw(chance, self._negatives, rng)
        columns = np.concatenate([own.argmax(axis=1)[:, None], columns], axis=1)
        added = settings.scale * np.take_along_axis(base, columns, axis=1)
        added[:, 1:] -= np.log(np.take_along_axis(chance, columns[:, 1:], axis=1))
        journals = np.take_along_axis(candidates, columns, axis=1)
        evidence = np.take_along_axis(lists.evidence[rows], columns[:, :, None], axis=1)
        known = np.repeat(rng.random(len(rows)) >= settings.unknown, columns.shape[1])
        manuscripts = np.repeat(lists.papers[rows], columns.shape[1])
        packed = self._packer.pack(
            manuscripts, journals.ravel(), evidence.reshape(-1, evidence.shape[2]), known
        )
        hide_tokens(packed, settings.masked, self._template, rng)
        return PairStep(packed, added.astype(np.float32), self._sequence.weight[rows])

    def losses(self, batch: PairStep) -> list[Tensor]:
        """See `Objective`."""
        device = self.module.classifier.weight.device
        added, weight = (torch.from_numpy(part).to(device, non_blocking=True) for part in batch[1:])
        logits = self.module(PackedBatch(batch.packed, device)).view(added.shape) + added
        return [-(weight * logits.log_softmax(dim=1)[:, 0]).mean()]


def negative_probabilities(
    logits: NDArray[np.floating], allowed: NDArray[np.bool_], count: int
) -> NDArray[np.float64]:
    """How likely each candidate is to be drawn, float64 [P, C], rows summing to `count`.

    Args:
        logits: [P, C], what is known of each candidate before the model.
        allowed: bool [P, C], False for the paper's own journal.
        count: negatives a paper.
    """
    hard = np.where(allowed, SHARPNESS * (logits - logits.max(axis=1, keepdims=True)), -np.inf)
    hard = np.exp(hard.astype(np.float64))
    hard /= hard.sum(axis=1, keepdims=True)
    even = allowed / allowed.sum(axis=1, keepdims=True)
    return inclusion_probabilities((1 - UNIFORM) * hard + UNIFORM * even, count)


def train_pairs(
    model: PairEncoder,
    lists: Lists,
    texts: RowTexts,
    template: Template,
    settings: PairSettings,
    state: Path,
    processes: Processes,
    report: Callable[[Progress], None],
) -> float:
    """Train a cross-encoder; see `train_encoder`."""
    objective = PairObjective(model, lists, texts, template, settings)
    schedule = Schedule(
        max(1, objective.count // settings.papers), settings.papers, settings.rate, within_s=settings.within_s
    )
    return optimize(objective, schedule, state, asdict(settings), processes, report)


def score_pairs(
    model: PairEncoder, lists: Lists, texts: RowTexts, template: Template, at_once: int = 1024
) -> NDArray[np.float32]:
    """The model's logit of every candidate, float32 [N, C]."""
    packer, count = RowPacker(texts, template), lists.candidates.shape[1]
    device = model.classifier.weight.device
    scores = np.empty(lists.candidates.shape, np.float32)
    model.eval()
    with torch.inference_mode():
        for start in range(0, len(lists.papers), max(1, at_once // count)):
            rows = slice(start, start + max(1, at_once // count))
            journals = lists.candidates[rows].astype(np.int64).ravel()
            evidence = lists.evidence[rows].reshape(len(journals), -1)
            manuscripts = np.repeat(lists.papers[rows], count)
            packed = packer.pack(manuscripts, journals, evidence, np.ones(len(journals), bool))
            scores[rows] = model(PackedBatch(packed, device)).cpu().numpy().reshape(-1, count)
    model.train()
    return scores
