"""Which papers training reads, in which order, and how much each counts. NumPy only.

Every step is a pure function of the seed and the paper's number, so that a run resumes where it stopped.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xuankan.protocol.template import Template
from xuankan_worker.releases.packing import Packed


def recency(year: NDArray[np.integer], newest: int, memory_years: float) -> NDArray[np.float64]:
    """Weights of papers, float64 [N]: 1 for the newest, 1/e for `memory_years` older, 0.02 at least."""
    return np.exp(-np.clip((newest - year.astype(np.float64)) / memory_years, 0, -np.log(0.02)))


class Sequence:
    """Papers epoch by epoch, each with the chance and the weight that its recency gives.

    Half of a weight's logarithm goes into the chance of being drawn, the other half into the loss.

    Attributes:
        order: int64 [count], the papers.
        weight: float32 [N], how much each drawn paper counts; mean 1 over what is drawn.
    """

    def __init__(self, weight: NDArray[np.float64], count: int, seed: int) -> None:
        chance = np.sqrt(weight / weight.max())
        rest = np.divide(weight, chance, out=np.zeros_like(weight), where=chance > 0)
        self.weight = (rest * chance.sum() / (chance * rest).sum()).astype(np.float32)
        self.order = paper_sequence(chance, count, np.random.default_rng(seed))


def paper_sequence(chance: NDArray[np.floating], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """`count` papers, epoch by epoch; each holds paper i with probability `chance[i]`, shuffled."""
    epochs: list[NDArray[np.int64]] = [np.empty(0, dtype=np.int64)]
    total = 0
    while total < count:
        epochs.append(rng.permutation(np.flatnonzero(rng.random(len(chance)) < chance)))
        total += len(epochs[-1])
    return np.concatenate(epochs)[:count]


def hide_tokens(packed: Packed, share: float, template: Template, rng: np.random.Generator) -> None:
    """Replace a share of the tokens by `[MASK]`, so that papers are not learned by heart."""
    hidden = rng.random(len(packed.ids), dtype=np.float32) < share
    hidden &= (packed.ids != template.cls_id) & (packed.ids != template.sep_id)
    packed.ids[hidden] = mask_id(template)


def mask_id(template: Template) -> int:
    """Id of `[MASK]` (`<mask>`), or of the unknown token in a vocabulary without one."""
    for name in ("[MASK]", "<mask>"):
        if (token := template.tokenizer.token_to_id(name)) is not None:
            return token
    return template.unknown_id
