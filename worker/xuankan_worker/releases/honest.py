# Typed loosely: torch is in the `train` extra only, and its own annotations are not strict.
# pyright: basic, reportMissingImports=false
"""What a ranking thinks of its own training papers, had it not seen them. Needs the `train` extra.

An encoder knows its training papers by heart: what it says of them is no guide to what it says of new ones.
So the papers are dealt into two halves, an encoder is trained on each, and speaks of the other half only.
Together with cross-fitted first stages and with neighbours that are older than the paper, that gives every
training paper the candidates, scores and evidence that a new paper has. The final encoder learns from them
as from a teacher; the cross-encoder learns what they leave unexplained, from the half that its own weights
have not seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from xuankan_worker.execution.fusion import log_softmax
from xuankan_worker.execution.nearness import Kernel, Nearness, nearness
from xuankan_worker.releases.encoder_training import EncodedPapers, Targets
from xuankan_worker.releases.fusion import fit_weights
from xuankan_worker.releases.training_data import Split

NEIGHBOURS = 512
LISTED = 32
KERNEL = Kernel(temperature=0.05, memory_years=6.0, now=0)
_UNLISTED = 1.0
"""A journal beyond a first-stage list scores this much less than the list's last."""


def halves(papers: int, seed: int = 0) -> NDArray[np.int64]:
    """Which half each paper is dealt to, 0 or 1."""
    return np.random.default_rng([seed, 2]).permutation(papers) % 2


@dataclass(frozen=True, slots=True)
class Honest:
    """Candidates of training papers.

    Attributes:
        journals: int16 [N, C], best first.
        scores: float32 [N, C], fused log-probabilities over them.
        evidence: int32 [N, C, 3], papers of the split, older than the paper; −1 where there is none.
        weights: of the first stage, the encoder, the mean and the density of neighbours.
        known: bool [N], whether the own journal is among the candidates.
    """

    journals: NDArray[np.int16]
    scores: NDArray[np.float32]
    evidence: NDArray[np.int32]
    weights: NDArray[np.float64]
    known: NDArray[np.bool_]

    @property
    def targets(self) -> Targets:
        """As a teacher of encoders."""
        return Targets(self.journals, self.scores)

    def save(self, path: Path) -> None:
        """Write an `.npz` file."""
        np.savez(path, **{name: getattr(self, name) for name in self.__slots__})

    @classmethod
    def load(cls, path: Path) -> Honest:
        """Read one."""
        with np.load(path, allow_pickle=False) as stored:
            return cls(**{name: stored[name] for name in cls.__slots__})


def listed_scores(split: Split, rows: NDArray[np.int64] | slice, journals: int) -> NDArray[np.float32]:
    """First-stage scores of all journals, float32 [B, J]."""
    candidates, scores = split.candidates[rows].astype(np.int64), split.first_stage[rows]
    full = np.repeat(scores.min(axis=1, keepdims=True) - _UNLISTED, journals, axis=1)
    np.put_along_axis(full, candidates, scores, axis=1)
    return full.astype(np.float32)


def nearest_older(
    encoded: NDArray[np.float32],
    year: NDArray[np.integer],
    queries: NDArray[np.int64],
    device: torch.device,
    count: int = NEIGHBOURS,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The papers nearest to some of them that appeared in earlier years.

    Args:
        encoded: float32 [N, D].
        year: int [N].
        queries: int [Q], which papers ask.
        device: that computes.
        count: K.

    Returns:
        Cosines, float32 [Q, K], descending, −inf where there are fewer; papers, int64 [Q, K].
    """
    cosines = np.full((len(queries), count), -np.inf, np.float32)
    papers = np.zeros((len(queries), count), np.int64)
    order = np.argsort(year, kind="stable")
    corpus = torch.from_numpy(encoded[order]).to(device)
    ends = np.searchsorted(year[order], year[queries], side="left")
    for end in np.unique(ends):
        asking = np.flatnonzero(ends == end)
        few = min(count, int(end))
        if not few:
            continue
        for start in range(0, len(asking), 1024):
            rows = asking[start : start + 1024]
            found = torch.from_numpy(encoded[queries[rows]]).to(device) @ corpus[:end].t()
            best = found.topk(few, dim=1)
            cosines[rows, :few] = best.values.cpu().numpy()
            papers[rows, :few] = order[best.indices.cpu().numpy()]
    return cosines, papers


def judge_training(
    split: Split,
    encoded: tuple[EncodedPapers, EncodedPapers],
    journals: int,
    device: torch.device,
    seed: int = 0,
) -> Honest:
    """Put the honest parts together.

    Args:
        split: training papers.
        encoded: what the encoder of each half says of all of them.
        journals: of the catalogue.
        device: that computes neighbours.
        seed: of the halves.
    """
    half = halves(len(split), seed)
    count = len(split)
    listed = min(LISTED, journals)
    chosen = np.empty((count, listed), np.int16)
    parts = np.empty((count, listed, 4), np.float32)
    evidence = np.empty((count, listed, 3), np.int32)
    for number in (0, 1):
        queries = np.flatnonzero(half == number)
        other = encoded[1 - number]
        cosines, papers = nearest_older(other.embeddings, split.year, queries, device)
        for start in range(0, len(queries), 1000):
            part = slice(start, start + 1000)
            rows = queries[part]
            of = split.truth[papers[part]]
            near = nearness(cosines[part], papers[part], of, split.year, journals, KERNEL, split.year[rows])
            every = all_parts(listed_scores(split, rows, journals), other.logits[rows], near)
            rough = every @ np.array([0.3, 0.7, 0.0, 0.3])
            best = np.argsort(-rough, axis=1, kind="stable")[:, :listed]
            chosen[rows] = best
            parts[rows] = np.take_along_axis(every, best[:, :, None], axis=1)
            evidence[rows] = np.take_along_axis(near.evidence, best[:, :, None], axis=1)
    own = chosen == split.truth[:, None]
    known = own.any(axis=1)
    fitting = np.flatnonzero(known & (split.year >= np.quantile(split.year, 0.75)))[:20_000]
    weights = fit_weights(parts[fitting].astype(np.float64), own[fitting].argmax(axis=1))
    scores = log_softmax(parts @ weights)
    order = np.argsort(-scores, axis=1, kind="stable")
    return Honest(
        journals=np.take_along_axis(chosen, order, axis=1),
        scores=np.take_along_axis(scores, order, axis=1).astype(np.float32),
        evidence=np.take_along_axis(evidence, order[:, :, None], axis=1),
        weights=weights,
        known=known,
    )


def all_parts(
    first_stage: NDArray[np.float32], logits: NDArray[np.floating], near: Nearness
) -> NDArray[np.float32]:
    """The parts of a ranking that need no rows, float32 [B, J, 4]."""
    encoder = log_softmax(logits.astype(np.float32))
    return np.stack([first_stage, encoder.astype(np.float32), near.mean, near.density], axis=2)
