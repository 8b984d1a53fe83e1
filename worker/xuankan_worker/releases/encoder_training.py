# Typed loosely: torch is in the `train` extra only, and its own annotations are not strict.
# pyright: basic, reportMissingImports=false
"""Trains the encoder: journal logits and an embedding, from the manuscript alone. Needs the `train` extra.

Two heads on the mean of the last layer's tokens:

- a linear classifier over the catalogue's journals. Its targets are the paper's own journal and, for a share,
  what a teacher thinks of the paper: by default the first stage, fitted without it.
- a projection of length one, by whose cosines papers find their neighbours. It maximizes the likelihood of
  the own journal among a queue of papers seen lately, `log Σ_own exp(cos/τ) − log Σ_all exp(cos/τ)`
  (neighbourhood components: Goldberger et al. 2004; the queue is that of Wang et al. 2020, "Cross-batch
  memory"): the very kernel density that rankings make of the neighbours, so that a journal may have many
  centres.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from xuankan.protocol.template import Template
from xuankan_worker.releases.optimizing import Processes, Progress, Schedule, optimize
from xuankan_worker.releases.packing import Packed, Packer, Ragged
from xuankan_worker.releases.sampling import Sequence, hide_tokens, recency
from xuankan_worker.releases.training_data import Split
from xuankan_worker.releases.transformer import PackedBatch, Transformer, mean_of_tokens
from xuankan_worker.releases.weights import save_checkpoint


@dataclass(frozen=True, slots=True)
class EncoderSettings:
    """Hyper-parameters; the defaults are what the releases were trained with.

    Attributes:
        epochs: passes over the papers, each drawn with the chance that its recency gives.
        papers: a step.
        rate: see `Schedule`.
        memory_years: see `sampling.recency`.
        dimensions: of the embedding.
        temperature: τ of the neighbours' likelihood.
        neighbours: weight of that loss.
        queue: papers that it remembers.
        taught: share of the target that is the teacher's.
        masked: share of the tokens that are masked.
        within_s: see `Schedule`.
        seed: of everything random.
    """

    epochs: float = 8.0
    papers: int = 128
    rate: float = 2e-4
    memory_years: float = 3.0
    dimensions: int = 128
    temperature: float = 0.05
    neighbours: float = 0.5
    queue: int = 32_768
    taught: float = 0.25
    masked: float = 0.1
    within_s: float = 0.0
    seed: int = 0
    heads: float = 1.0


_NOTHING = Ragged.of([np.empty(0, np.int32)])


class Encoder(nn.Module):
    """A transformer with both heads."""

    def __init__(self, transformer: Transformer, journals: int, dimensions: int) -> None:
        super().__init__()
        self.transformer = transformer
        self.classifier = nn.Linear(transformer.hidden, journals)
        self.projection = nn.Linear(transformer.hidden, dimensions)
        nn.init.normal_(self.classifier.weight, std=0.02)
        nn.init.zeros_(self.classifier.bias)

    @property
    def heads(self) -> dict[str, nn.Linear]:
        """By their names in a checkpoint."""
        return {"encoder.classifier": self.classifier, "encoder.projection": self.projection}

    def forward(self, batch: PackedBatch) -> tuple[Tensor, Tensor]:
        """Logits, float32 [B, J], and embeddings of length one, float32 [B, D]."""
        mean = mean_of_tokens(self.transformer(batch), batch)
        return self.classifier(mean), functional.normalize(self.projection(mean), dim=1)

    def save(self, directory: Path, tokenizer_json: bytes) -> None:
        """Write a checkpoint in Hugging Face's format with the heads `classifier` and `projection`."""
        save_checkpoint(directory, self.transformer, self.heads, tokenizer_json)


class Targets(NamedTuple):
    """What a teacher thinks of papers: journals, int [N, C], and their log-probabilities, [N, C]."""

    journals: NDArray[np.integer]
    scores: NDArray[np.floating]


class ManuscriptStep(NamedTuple):
    """Papers of one step: packed manuscripts and, each [P] or [P, C], what is known of them."""

    packed: Packed
    papers: NDArray[np.int64]
    truth: NDArray[np.int64]
    weight: NDArray[np.float32]
    journals: NDArray[np.int64]
    shares: NDArray[np.float32]


class EncoderObjective:
    """Both losses of an encoder."""

    def __init__(
        self, encoder: Encoder, split: Split, allowed: NDArray[np.bool_], teacher: Targets, template:
        Template,
        settings: EncoderSettings,
    ) -> None:  # fmt: skip
        self.module = encoder
        self._split, self._settings, self._template, self._teacher = split, settings, template, teacher
        self._packer = Packer(split.manuscripts, _NOTHING, template)
        newest = int(np.quantile(split.year[allowed], 0.95)) if allowed.any() else 0
        weight = recency(split.year, newest, settings.memory_years) * allowed
        self.epoch = float(np.sqrt(weight).sum())
        self.count = int(settings.epochs * self.epoch)
        self._sequence = Sequence(weight, self.count + settings.papers, settings.seed)
        device = encoder.classifier.weight.device
        # Buffers, so that they are saved with the state.
        queue = torch.zeros(settings.queue, settings.dimensions, device=device)
        known = torch.full((settings.queue, 2), -1, dtype=torch.long, device=device)
        encoder.register_buffer("queue", queue)
        encoder.register_buffer("known", known)
        encoder.register_buffer("place", torch.zeros((), dtype=torch.long, device=device))
        with torch.no_grad():  # the priors: where a classifier ends in any case
            counts = np.bincount(split.truth, weight, minlength=len(encoder.classifier.bias))
            bias = np.log(counts + 1.0) - np.log(counts + 1.0).mean()
            encoder.classifier.bias.copy_(torch.from_numpy(bias))

    def batch(self, first: int, count: int) -> ManuscriptStep:
        """See `Objective`."""
        papers = self._sequence.order[first : first + count]
        rng = np.random.default_rng([self._settings.seed, first])
        packed = self._packer.pack(papers, np.full(len(papers), -1))
        hide_tokens(packed, self._settings.masked, self._template, rng)
        scores = self._teacher.scores[papers].astype(np.float32)
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        return ManuscriptStep(
            packed=packed,
            papers=papers,
            truth=self._split.truth[papers].astype(np.int64),
            weight=self._sequence.weight[papers],
            journals=self._teacher.journals[papers].astype(np.int64),
            shares=shares / shares.sum(axis=1, keepdims=True),
        )

    def losses(self, batch: ManuscriptStep) -> list[Tensor]:
        """See `Objective`: of the classifier, of the neighbours."""
        settings, device = self._settings, self.module.classifier.weight.device
        logits, embedding = self.module(PackedBatch(batch.packed, device))
        papers, truth, weight, journals, shares = (
            torch.from_numpy(part).to(device, non_blocking=True) for part in batch[1:]
        )
        scores = logits.log_softmax(dim=1)
        hard = scores.gather(1, truth[:, None])[:, 0]
        soft = (scores.gather(1, journals) * shares).sum(dim=1)
        classes = -((1 - settings.taught) * hard + settings.taught * soft)
        return [
            (weight * classes).mean(),
            settings.neighbours * self._neighbours(embedding, papers, truth, weight),
        ]

    def _neighbours(self, embedding: Tensor, papers: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
        encoder: Any = self.module
        known = torch.cat([encoder.known, torch.stack([papers, truth], dim=1)])
        cosines = embedding @ torch.cat([encoder.queue, embedding]).t() / self._settings.temperature
        usable = (known[None, :, 0] != papers[:, None]) & (known[None, :, 0] >= 0)
        own = usable & (known[None, :, 1] == truth[:, None])
        found = own.any(dim=1)
        lowest = torch.finfo(cosines.dtype).min
        every = cosines.masked_fill(~usable, lowest).logsumexp(dim=1)
        mine = cosines.masked_fill(~own, lowest).logsumexp(dim=1)
        with torch.no_grad():
            places = (encoder.place + torch.arange(len(papers), device=papers.device)) % len(encoder.queue)
            encoder.queue[places] = embedding.detach()
            encoder.known[places] = known[-len(papers) :]
            encoder.place.add_(len(papers))
        return (weight * torch.where(found, every - mine, 0.0)).mean()


def train_encoder(
    encoder: Encoder,
    split: Split,
    allowed: NDArray[np.bool_],
    teacher: Targets,
    template: Template,
    settings: EncoderSettings,
    state: Path,
    processes: Processes,
    report: Callable[[Progress], None],
    begin: Callable[[], None] | None = None,
) -> float:
    """Train; see `optimizing.optimize`.

    Args:
        encoder: to train, on its device.
        split: the papers.
        allowed: bool [N], those of them that may be learned from.
        teacher: of all papers.
        template: that the papers were tokenized with.
        settings: hyper-parameters.
        state: file for runs that are interrupted.
        processes: that train together.
        report: told about every tenth step.
        begin: called once the objective has set the heads' first values.

    Returns:
        Seconds that it took.
    """
    objective = EncoderObjective(encoder, split, allowed, teacher, template, settings)
    if begin is not None:
        begin()
    schedule = Schedule(
        max(1, objective.count // settings.papers),
        settings.papers,
        settings.rate,
        within_s=settings.within_s,
        heads=settings.heads,
    )
    return optimize(objective, schedule, state, asdict(settings), processes, report)


class EncodedPapers(NamedTuple):
    """What an encoder says of N papers: logits, float16 [N, J], embeddings, float32 [N, D]."""

    logits: NDArray[np.float16]
    embeddings: NDArray[np.float32]


def encode(encoder: Encoder, manuscripts: Ragged, template: Template, at_once: int = 256) -> EncodedPapers:
    """Read every manuscript."""
    device = encoder.classifier.weight.device
    packer, count = Packer(manuscripts, _NOTHING, template), len(manuscripts)
    logits = np.empty((count, encoder.classifier.out_features), np.float16)
    embeddings = np.empty((count, encoder.projection.out_features), np.float32)
    # Of like lengths together: a family that pads has little to pad then.
    order = np.argsort(manuscripts.lengths, kind="stable")
    encoder.eval()
    with torch.inference_mode():
        for start in range(0, count, at_once):
            papers = order[start : start + at_once]
            packed = packer.pack(papers, np.full(len(papers), -1))
            scores, vectors = encoder(PackedBatch(packed, device))
            logits[papers], embeddings[papers] = scores.half().cpu().numpy(), vectors.cpu().numpy()
    encoder.train()
    return EncodedPapers(logits, embeddings)
