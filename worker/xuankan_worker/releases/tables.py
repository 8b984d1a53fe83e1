"""What an evaluation says: quality by split, field and size of journal, calibration, and the fit. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xuankan.candidates.quality import Quality, quality_of
from xuankan_worker.releases.evaluate import Evaluation
from xuankan_worker.releases.kept import Placed
from xuankan_worker.releases.measures import (
    Interval,
    Reliability,
    auroc,
    auroc_interval,
    intervals_of,
    reliability,
)

_SIZES = (50, 100, 200, 500, 1000)
_FEWEST = 20
"""A group of fewer papers is not shown: its measures are chance."""


@dataclass(frozen=True, slots=True)
class PaperGroup:
    """How well the papers of one kind are ranked.

    Attributes:
        name: of the kind.
        quality: of the ranking.
        intervals: its measures' 95 % intervals, by measure.
        first_stage: quality of the first stage alone.
    """

    name: str
    quality: Quality
    intervals: Mapping[str, Interval]
    first_stage: Quality


@dataclass(frozen=True, slots=True)
class Fit:
    """How well the fit tells papers from those of fields that no journal covers.

    Attributes:
        auroc: probability that a paper's is higher than an outside one's.
        interval: its 95 % interval.
        few_inside, few_outside: share of either whose fit is below one half, and which so are warned of.
        outside: how many there are.
    """

    auroc: float
    interval: Interval
    few_inside: float
    few_outside: float
    outside: int


@dataclass(frozen=True, slots=True)
class SplitTables:
    """What is said of one split.

    Attributes:
        whole: all its papers.
        fields, sizes: of papers by field, and by how many training papers their journals have.
        reliability: of the score of the journal on top.
        rows: of the cross-encoder for a paper, in the mean.
        fit: None unless the release has an opinion and there are papers outside.
    """

    whole: PaperGroup
    fields: list[PaperGroup]
    sizes: list[PaperGroup]
    reliability: Reliability
    rows: float
    fit: Fit | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "whole": _plain(self.whole),
            "fields": [_plain(group) for group in self.fields],
            "sizes": [_plain(group) for group in self.sizes],
            "calibration_error": self.reliability.error,
            "reliability": [part._asdict() for part in self.reliability.bins],
            "rows": self.rows,
            "fit": None if self.fit is None else asdict(self.fit),
        }


def tables(evaluation: Evaluation, training: Mapping[str, int]) -> dict[str, SplitTables]:
    """The tables of each split.

    Args:
        evaluation: what was found.
        training: training papers by journal; empty gives no tables by size.
    """
    papers, placed = evaluation.papers, evaluation.placed
    outside = _fits(evaluation.outside)
    found: dict[str, SplitTables] = {}
    for split in dict.fromkeys(papers.split):
        own = [i for i, name in enumerate(papers.split) if name == split]
        top = np.array([placed[i].score for i in own])
        right = np.array([placed[i].rank == 1 for i in own])
        fits = _fits([placed[i] for i in own])
        found[split or "all"] = SplitTables(
            whole=_group(split or "all", own, placed),
            fields=_grouped(own, placed, papers.field.__getitem__),
            sizes=_grouped(own, placed, lambda i: _size(training[papers.journal[i]])) if training else [],
            reliability=reliability(top, right),
            rows=float(np.mean([placed[i].rows for i in own])),
            fit=_fit(fits, outside) if len(fits) and len(outside) else None,
        )
    return found


def _grouped(
    numbers: Sequence[int], placed: Sequence[Placed], kind: Callable[[int], str]
) -> list[PaperGroup]:
    """Kinds in the order of `_SIZES`, and of their names."""
    kinds: dict[str, list[int]] = {}
    for number in numbers:
        kinds.setdefault(kind(number), []).append(number)
    order = sorted(kinds, key=lambda name: (_ORDER.get(name, 0), name))
    return [_group(name, kinds[name], placed) for name in order if len(kinds[name]) >= _FEWEST]


def _group(name: str, numbers: Sequence[int], placed: Sequence[Placed]) -> PaperGroup:
    ranks = np.array([placed[number].rank for number in numbers], np.int64)
    first_stage = np.array([placed[number].first_stage for number in numbers], np.int64)
    return PaperGroup(name, quality_of(ranks), intervals_of(ranks), quality_of(first_stage))


def _size(papers: int) -> str:
    return next((f"below {size}" for size in _SIZES if papers < size), _LARGEST)


_LARGEST = f"{_SIZES[-1]} and more"
_ORDER = {name: place for place, name in enumerate((*(f"below {size}" for size in _SIZES), _LARGEST))}


def _fits(placed: Sequence[Placed]) -> NDArray[np.float64]:
    return np.array([one.fit for one in placed if one.fit is not None])


def _fit(inside: NDArray[np.float64], outside: NDArray[np.float64]) -> Fit:
    return Fit(
        auroc(inside, outside),
        auroc_interval(inside, outside),
        few_inside=float((inside < 0.5).mean()),
        few_outside=float((outside < 0.5).mean()),
        outside=len(outside),
    )


def _plain(group: PaperGroup) -> dict[str, Any]:
    intervals = {name: [round(limit, 5) for limit in limits] for name, limits in group.intervals.items()}
    return {
        "name": group.name,
        "ranked": group.quality.as_dict(),
        "intervals": intervals,
        "first_stage": group.first_stage.as_dict(),
    }
