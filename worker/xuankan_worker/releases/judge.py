"""Papers to calibrate with and to judge by, and what a changed graph loses on the latter.

Needs the `data` extra (pyarrow).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xuankan.candidates.first_stage import FirstStage
from xuankan.candidates.quality import quality_of, ranks_of
from xuankan.catalogue import Catalogue
from xuankan.catalogue.papers import Progress
from xuankan.catalogue.parquet import read_columns
from xuankan.errors import InputError
from xuankan.protocol.template import Template
from xuankan_worker.execution.rows import Profiles, Segment
from xuankan_worker.releases.quantize import Pair
from xuankan_worker.releases.scores import fused, kendall_tau

CANDIDATES = 20
"""Journals that are ranked for each paper that judges, the best of the first stage."""
_CALIBRATED_ON = 100
"""Best journals of the first stage that calibration pairs are drawn from: what requests carry by default."""
_COLUMNS = ("title", "abstract", "journal", "split")


@dataclass(frozen=True, slots=True, eq=False)
class Rankings:
    """The papers that judge.

    Attributes:
        pairs: N · C of them, paper by paper.
        candidates: int64 [N, C], catalogue positions.
        first_stage: float32 [N, C], its scores.
        truth: int64 [N], where each paper appeared.
    """

    pairs: list[Pair]
    candidates: NDArray[np.int64]
    first_stage: NDArray[np.float32]
    truth: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Loss:
    """What one scoring loses against another.

    Attributes:
        papers, candidates: how many papers judged, and how many journals each ranked.
        top1, mrr: of the reference.
        top1_loss, mrr_loss: percent of the reference's that is lost; negative if it is better.
        top1_error, mrr_error: standard errors of these losses, by the papers' own changes.
        kendall_tau: mean τ-b between both rankings of each paper.
    """

    papers: int
    candidates: int
    top1: float
    mrr: float
    top1_loss: float
    mrr_loss: float
    top1_error: float
    mrr_error: float
    kendall_tau: float

    @property
    def largest(self) -> float:
        """The greater of both losses, percent."""
        return max(self.top1_loss, self.mrr_loss)


class Material:
    """Papers of a table with their candidate journals, split into those that judge and those that calibrate.

    Papers of the split `train` judge only if there are too few others, as the model knows them; they are the
    first to calibrate. No paper does both.
    """

    def __init__(self, path: Path, judging: int, template: Template, catalogue: Catalogue) -> None:
        """Read the table.

        Args:
            path: Parquet, with the columns title, abstract, journal and split.
            judging: how many papers shall judge; half of the table's at most.
            template: makes the pairs.
            catalogue: whose journals are ranked.

        Raises:
            CatalogueError: it cannot be read, or lacks a column.
            InputError: it has too few papers, or none of a journal of the catalogue.
        """
        rows = read_columns(path, _COLUMNS)
        self._title, self._abstract = rows["title"], rows["abstract"]
        positions = {j.title: p for p, j in enumerate(catalogue)} | {j.id: p for p, j in enumerate(catalogue)}
        self._truth = np.array([positions.get(str(name), -1) for name in rows["journal"]], np.int64)
        order = np.random.default_rng(0).permutation(len(self._truth))
        trained = np.array([name == "train" for name in rows["split"]], bool)[order]
        order = order[np.argsort(trained, kind="stable")]
        known = order[self._truth[order] >= 0]
        if not len(known) or len(order) < 2:
            raise InputError(
                "calibration",
                f"{path} holds {len(order)} papers, {len(known)} of them of journals in catalogue "
                f"{catalogue.version}: some are needed for evaluation, others for calibration",
            )
        self._judging = known[: min(judging, max(1, len(order) // 2))]
        rest = order[~np.isin(order, self._judging)]
        kept = rest[::-1] if not trained.any() else rest[~np.isin(rest, order[: np.count_nonzero(~trained)])]
        self._calibrating = kept if len(kept) else rest
        self._template = template
        self._first_stage = FirstStage.default().for_catalogue(catalogue)
        self._profiles = Profiles.encode((journal.profile for journal in catalogue), template)

    def calibration(self, samples: int, progress: Progress) -> list[Pair]:
        """Pairs as a worker sees them: papers, each with one of its candidates."""
        random = np.random.default_rng(1)
        again = samples > len(self._calibrating)
        result: list[Pair] = []
        for paper in random.choice(self._calibrating, samples, replace=again):
            journals, _ = self._candidates(paper, _CALIBRATED_ON)
            result += self._pairs(paper, random.choice(journals, 1))
            progress("choosing pairs", len(result) / samples)
        return result

    def rankings(self, progress: Progress) -> Rankings:
        """The papers that judge, with their candidates."""
        pairs: list[Pair] = []
        found: list[tuple[NDArray[np.int64], NDArray[np.float32]]] = []
        for number, paper in enumerate(self._judging):
            found.append(self._candidates(paper, CANDIDATES))
            pairs += self._pairs(paper, found[-1][0])
            progress("choosing candidates", (number + 1) / len(self._judging))
        journals, scores = (np.stack(part) for part in zip(*found, strict=True))
        return Rankings(pairs, journals, scores, self._truth[self._judging])

    def _candidates(self, paper: int, count: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        scores = self._first_stage.scores(str(self._title[paper] or ""), str(self._abstract[paper] or ""))
        best = np.argsort(-scores, kind="stable")[:count]
        return best, scores[best]

    def _pairs(self, paper: int, journals: NDArray[np.int64]) -> list[Pair]:
        title, abstract = str(self._title[paper] or ""), str(self._abstract[paper] or "")
        tokens = self._template.encode_manuscript(title, abstract).ids
        longest = int(self._profiles.row_lengths(len(tokens), journals).max())
        batch = self._profiles.assemble(longest, [Segment(tokens, journals)])
        rows = zip(batch.input_ids, batch.lengths, batch.first_lengths, strict=True)
        return [Pair(ids[:length], int(first)) for ids, length, first in rows]


def loss(
    rankings: Rankings, reference: NDArray[np.float32], found: NDArray[np.float32], first_stage_weight: float
) -> Loss:
    """Compare logits, float32 [N · C], as rankings by the fused score."""
    shape = rankings.candidates.shape
    before, after = (
        fused(logits.reshape(shape), rankings.first_stage, first_stage_weight)
        for logits in (reference, found)
    )
    ranks = [ranks_of(scores, rankings.candidates, rankings.truth) for scores in (before, after)]
    quality = quality_of(ranks[0])
    top1_loss, top1_error = _lost(*(rank == 1 for rank in ranks))
    mrr_loss, mrr_error = _lost(*(np.where(rank > 0, 1 / np.maximum(rank, 1), 0.0) for rank in ranks))
    return Loss(
        papers=shape[0],
        candidates=shape[1],
        top1=round(quality.top1, 5),
        mrr=round(quality.mrr, 5),
        top1_loss=top1_loss,
        mrr_loss=mrr_loss,
        top1_error=top1_error,
        mrr_error=mrr_error,
        kendall_tau=round(float(np.nanmean(kendall_tau(before, after))), 5),
    )


def _lost(before: NDArray[np.generic], after: NDArray[np.generic]) -> tuple[float, float]:
    """Percent of the mean that is lost, and its standard error. What was 0 before counts as one paper's."""
    was = before.astype(np.float64)
    change = was - after.astype(np.float64)
    unit = max(float(was.mean()), 1 / len(was))
    error = float(change.std()) / math.sqrt(len(change))
    return round(100 * float(change.mean()) / unit, 3), round(100 * error / unit, 3)
