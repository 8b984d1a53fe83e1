"""Fuses a training run: the weights of its ranking's parts, and how good the fused ranking is. NumPy only.

Weights are fitted on dev, from what the encoder says that had not seen dev. Those of journals that an encoder
was not trained on come from `held-dev.npz`: there a tenth of the journals was kept out of training and came
back by some papers in the corpus, as an imported journal does. Such a journal gets no logit, so its score has
a constant instead, and other weights of the rest.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xuankan.candidates.quality import Quality, quality_of, ranks_of
from xuankan.errors import ReleaseError
from xuankan_worker.execution.fusion import log_softmax
from xuankan_worker.manifest import Weights
from xuankan_worker.releases.fusion import fit_weights
from xuankan_worker.releases.measures import reliability

FUSION = "fusion.json"
"""What `fuse` writes into a run's directory."""
PARTS = ("first_stage", "encoder", "mean", "density")
_SPLITS = ("dev", "test", "transfer")


@dataclass(frozen=True, slots=True)
class RunFusion:
    """What `fuse` found.

    Attributes:
        seen, unseen: weights for journals that the encoder was trained on, and for others.
        metrics: by split, the fused ranking's quality, and `calibration_error` of its first place.
        ablation: by part, the MRR on dev without it, all weights fitted anew.
    """

    seen: Weights
    unseen: Weights
    metrics: Mapping[str, Mapping[str, float]]
    ablation: Mapping[str, float]

    def save(self, run: Path) -> None:
        """Write `fusion.json`."""
        (run / FUSION).write_text(json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def load(cls, run: Path) -> RunFusion:
        """Read what `save` wrote.

        Raises:
            ReleaseError: it is not there, or not what `save` wrote.
        """
        path = run / FUSION
        try:
            content = json.loads(path.read_bytes())
            weights = {name: Weights(**content.pop(name)) for name in ("seen", "unseen")}
            return cls(**weights, **content)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ReleaseError(f"{path} is not of a run (`xuankan model fuse` makes it): {error}") from error


@dataclass(frozen=True, slots=True)
class _Scores:
    """Of a split's papers: parts, float64 [N, C, 4]; candidates, int64 [N, C]; own journals, int64 [N]."""

    parts: NDArray[np.float64]
    candidates: NDArray[np.int64]
    truth: NDArray[np.int64]

    @classmethod
    def load(cls, path: Path) -> _Scores:
        try:
            with np.load(path, allow_pickle=False) as stored:
                return cls(
                    stored["parts"].astype(np.float64),
                    stored["candidates"].astype(np.int64),
                    stored["truth"].astype(np.int64),
                )
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise ReleaseError(f"{path} has no scores (`xuankan model train` makes them): {error}") from error

    @property
    def listed(self) -> NDArray[np.intp]:
        """Papers whose own journal is a candidate."""
        return np.flatnonzero((self.candidates == self.truth[:, None]).any(axis=1))

    @property
    def column(self) -> NDArray[np.intp]:
        """Of these, which candidate it is."""
        rows = self.listed
        return (self.candidates[rows] == self.truth[rows, None]).argmax(axis=1)

    def quality(self, fused: NDArray[np.float64]) -> Quality:
        """Of fused scores, [N, C]."""
        return quality_of(ranks_of(fused, self.candidates, self.truth))


def fuse(run: Path) -> RunFusion:
    """Fit weights on the scores of a run and measure every split that it has scored.

    Raises:
        ReleaseError: the run has no scores of dev, or none with journals held out.
    """
    scored = {split: _Scores.load(run / f"scores-{split}.npz") for split in _SPLITS if _is_there(run, split)}
    if "dev" not in scored:
        raise ReleaseError(f"{run} has no scores-dev.npz: `xuankan model train` did not finish there")
    dev = scored["dev"]
    weights = _fit(dev, list(range(len(PARTS))))
    ablation: dict[str, float] = {}
    for left_out, name in enumerate(PARTS):
        others = [part for part in range(len(PARTS)) if part != left_out]
        ablation[name] = round(dev.quality(dev.parts[:, :, others] @ _fit(dev, others)).mrr, 4)
    metrics: dict[str, dict[str, float]] = {}
    for split, scores in scored.items():
        fused = scores.parts @ weights
        metrics[split] = scores.quality(fused).as_dict()
        metrics[split]["calibration_error"] = round(_calibration(scores, fused), 5)
    return RunFusion(
        seen=Weights(**dict(zip(PARTS, weights.round(6).tolist(), strict=True))),
        unseen=_unseen(_Scores.load(run / "held-dev.npz"), weights),
        metrics=metrics,
        ablation=ablation,
    )


def _is_there(run: Path, split: str) -> bool:
    return (run / f"scores-{split}.npz").exists()


def _fit(scores: _Scores, parts: list[int]) -> NDArray[np.float64]:
    return fit_weights(scores.parts[scores.listed][:, :, parts], scores.column)


def _unseen(held: _Scores, seen: NDArray[np.float64]) -> Weights:
    """Weights of journals without a logit, beside those of journals with one, which stay as they are."""
    missing = np.isnan(held.parts[:, :, 1])
    known = np.where(missing, 0.0, np.nan_to_num(held.parts) @ seen)
    own = np.where(missing[:, :, None], held.parts[:, :, [0, 2, 3]], 0.0)
    features = np.concatenate([known[:, :, None], own, missing[:, :, None]], axis=2)
    scale, *weights = fit_weights(features[held.listed], held.column).tolist()
    if scale <= 0:
        raise ReleaseError("held-dev.npz: the scores of known journals tell nothing: train for longer")
    first_stage, mean, density, constant = (round(float(weight / scale), 6) for weight in weights)
    return Weights(first_stage=first_stage, mean=mean, density=density, constant=constant)


def _calibration(scores: _Scores, fused: NDArray[np.float64]) -> float:
    """Expected calibration error of the first place, which is wrong if the journal is no candidate."""
    shares: NDArray[np.float64] = np.exp(log_softmax(fused))
    first = shares.argmax(axis=1)
    right = scores.candidates[np.arange(len(first)), first] == scores.truth
    return reliability(shares.max(axis=1), right).error


def shown(fusion: RunFusion) -> list[str]:
    """Lines for people."""
    lines = [
        f"{split}: "
        + ", ".join(f"{name} {value:.4f}" for name, value in measured.items() if name != "papers")
        for split, measured in fusion.metrics.items()
    ]
    without = ", ".join(f"{name} {mrr:.4f}" for name, mrr in fusion.ablation.items())
    return [*lines, f"MRR on dev without {without}"]
