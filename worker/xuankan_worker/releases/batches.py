"""From training lists to the steps of training: which papers, which negatives, what is added to their logits.

Every step is a pure function of the seed and the step's number, so that a run resumes where it stopped.

The objective is the softmax over *all* candidates of

    cross-encoder(paper, journal) + scale · first-stage logit(paper, journal)

estimated from the paper's own journal and a few drawn negatives. A negative drawn with probability π stands
for 1/π journals, so log 1/π is added to its logit (importance sampling of the partition function: Bengio &
Senécal, 2003). Papers that weigh little are also drawn less often: half of a weight's logarithm goes into the
chance of being drawn, the other half into the loss. Some tokens are masked, so that papers are not learned by
heart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xuankan.protocol.template import Template
from xuankan_worker.releases.dataset import TrainingData
from xuankan_worker.releases.packing import Packed, Packer, draw, inclusion_probabilities

SHARPNESS = 0.5
"""Negatives are drawn by their first-stage probability to this power: 1 is greedy, 0 uniform."""
UNIFORM = 0.1
"""And this share of the draw is uniform over the candidates."""


@dataclass(frozen=True, slots=True)
class Step:
    """One pass: P papers with M pairs each, the paper's own journal first, then P manuscripts alone.

    Attributes:
        packed: the P·M pairs, paper by paper, then the P manuscripts.
        added: float32 [P, M], what is added to the model's logits.
        weight: float32 [P], how much each paper counts.
        truth: int64 [P], its journal.
    """

    packed: Packed
    added: NDArray[np.float32]
    weight: NDArray[np.float32]
    truth: NDArray[np.int64]


class Steps:
    """The passes of training.

    Args:
        data: what to train on.
        papers: how many the passes of all steps take, in all.
        negatives: drawn journals a paper.
        first_stage_scale: factor of the first stage's logits.
        masked: share of the tokens that are replaced by `[MASK]`.
        seed: of everything random here.
    """

    def __init__(
        self,
        data: TrainingData,
        papers: int,
        negatives: int,
        first_stage_scale: float,
        masked: float,
        seed: int,
    ) -> None:
        self._lists = data.splits["train"]
        self._packer = Packer(self._lists.manuscripts, data.profiles, data.template)
        self._scale = first_stage_scale
        self._masked = masked
        self._template = data.template
        self._mask_id = mask_id(data.template)
        self._seed = seed
        self._negatives = min(negatives, self._lists.candidates.shape[1] - 1)
        chance = np.sqrt(self._lists.weight / self._lists.weight.max())
        self._weight = self._lists.weight / chance
        self._weight *= chance.sum() / (chance * self._weight).sum()
        self._sequence = paper_sequence(chance, papers, np.random.default_rng(seed))

    def step(self, first: int, count: int) -> Step:
        """The pass over papers number `first` to `first + count` of all."""
        lists, papers = self._lists, self._sequence[first : first + count]
        rng = np.random.default_rng([self._seed, first])
        truth = lists.truth[papers].astype(np.int64)
        candidates = lists.candidates[papers].astype(np.int64)
        base = self._scale * lists.first_stage[papers]
        own = self._scale * lists.truth_logit[papers]
        probabilities = negative_probabilities(
            lists.first_stage[papers], candidates != truth[:, None], self._negatives
        )
        columns = draw(probabilities, self._negatives, rng)
        drawn = np.take_along_axis(candidates, columns, axis=1)
        chance = np.take_along_axis(probabilities, columns, axis=1)
        added = np.take_along_axis(base, columns, axis=1) - np.log(chance)
        profiles = np.concatenate([lists.truth_profile[papers][:, None], drawn], axis=1)
        manuscripts = np.repeat(papers, profiles.shape[1])
        packed = self._packer.pack(
            np.concatenate([manuscripts, papers]), np.concatenate([profiles.ravel(), np.full(count, -1)])
        )
        hidden = rng.random(len(packed.ids), dtype=np.float32) < self._masked
        hidden &= (packed.ids != self._template.cls_id) & (packed.ids != self._template.sep_id)
        packed.ids[hidden] = self._mask_id
        return Step(
            packed=packed,
            added=np.concatenate([own[:, None], added], axis=1).astype(np.float32),
            weight=self._weight[papers].astype(np.float32),
            truth=truth,
        )


def mask_id(template: Template) -> int:
    """Id of `[MASK]` (`<mask>`), or of the unknown token in a vocabulary without one."""
    for name in ("[MASK]", "<mask>"):
        if (token := template.tokenizer.token_to_id(name)) is not None:
            return token
    return template.unknown_id


def paper_sequence(chance: NDArray[np.floating], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """`count` papers, epoch by epoch; each holds paper i with probability `chance[i]`, shuffled."""
    epochs: list[NDArray[np.int64]] = [np.empty(0, dtype=np.int64)]
    total = 0
    while total < count:
        epochs.append(rng.permutation(np.flatnonzero(rng.random(len(chance)) < chance)))
        total += len(epochs[-1])
    return np.concatenate(epochs)[:count]


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
