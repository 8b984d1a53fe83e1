"""Fits the weights by which a release says how probable it is that the catalogue covers a manuscript's field.

A logistic regression tells papers of the catalogue's journals from papers of fields that none of them covers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xuankan.catalogue.papers import Progress
from xuankan.errors import ReleaseError
from xuankan_worker.engines import Slot
from xuankan_worker.execution.alone import encode_alone
from xuankan_worker.execution.fit import FEATURES
from xuankan_worker.execution.served_model import ServedModel, load_served_model
from xuankan_worker.manifest import Manifest
from xuankan_worker.releases.slots import on_slots

OUTSIDE_SHARE = 0.2
"""Of manuscripts, those of other fields, as assumed. The higher, the more warnings, right and wrong."""


def fit_signal(inside: NDArray[np.float64], outside: NDArray[np.float64]) -> dict[str, float]:
    """The weights of the features and their constant.

    Args:
        inside: float [N, F], of papers of the catalogue's journals.
        outside: float [M, F], of papers of other fields.
    """
    every = np.concatenate([inside, outside])
    middle, spread = every.mean(axis=0), every.std(axis=0)
    x = np.column_stack([(every - middle) / spread, np.ones(len(every))])
    right = np.arange(len(every)) < len(inside)
    each = np.where(right, (1 - OUTSIDE_SHARE) / len(inside), OUTSIDE_SHARE / len(outside))
    ridge = np.full(x.shape[1], 1e-6)
    weights = np.zeros(x.shape[1])
    for _ in range(50):
        shares = 1 / (1 + np.exp(-np.clip(x @ weights, -30.0, 30.0)))
        gradient = x.T @ (each * (shares - right)) + ridge * weights
        second = (x * (each * shares * (1 - shares))[:, None]).T @ x + np.diag(ridge)
        step = np.linalg.solve(second, gradient)
        weights -= step
        if np.abs(step).max() < 1e-9:
            break
    slopes = weights[:-1] / spread
    named = dict(zip(FEATURES, slopes.tolist(), strict=True))
    return {**named, "constant": float(weights[-1] - slopes @ middle)}


def fit_release(
    release: Path,
    catalogue: Path | None,
    inside: tuple[Sequence[str], Sequence[str]],
    outside: tuple[Sequence[str], Sequence[str]],
    progress: Progress,
) -> dict[str, float]:
    """Fit a release's signal and write it into its manifest.

    Args:
        release: its directory.
        catalogue: file of the journals that are ranked; None takes the packaged ones.
        inside: titles and abstracts of papers of the catalogue's journals, none of them in its corpus.
        outside: of papers of fields that none of the journals covers.
        progress: told as papers are read.

    Raises:
        ReleaseError: the release cannot be read, or has no encoder that knows a journal of the catalogue.
        EngineError: the engine cannot run or fails.
    """
    served = load_served_model("onnx", release, catalogue, 1)
    try:
        if (step := served.encoder_step) is None or not step.has_known:
            raise ReleaseError(f"{release} has no encoder that was trained on a journal of this catalogue")
        found = _features(served, [*inside[0], *outside[0]], [*inside[1], *outside[1]], progress)
    finally:
        served.engine.close()
    weights = fit_signal(found[: len(inside[0])], found[len(inside[0]) :])
    weights = {name: round(weight, 4) for name, weight in weights.items()}
    manifest = Manifest.load(release)
    assert manifest.fusion is not None
    replace(manifest, fusion=replace(manifest.fusion, fit=weights)).save(release)
    return weights


def _features(
    served: ServedModel, titles: Sequence[str], abstracts: Sequence[str], progress: Progress
) -> NDArray[np.float64]:
    """Of each text, float64 [N, F]."""
    step = served.encoder_step
    assert step is not None
    found = np.empty((len(titles), len(FEATURES)))

    def read(slot: Slot, number: int) -> NDArray[np.float64]:
        tokens = served.template.encode_manuscript(titles[number], abstracts[number]).ids
        return step.features(encode_alone(served, slot, tokens))[0]

    for done, (number, features) in enumerate(on_slots(served.engine, range(len(titles)), read), start=1):
        found[number] = features
        progress("reading", done / len(titles))
    return found
