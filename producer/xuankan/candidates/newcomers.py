"""How a journal that no training paper names is scored, calibrated on journals that are known.

`FirstStage.for_catalogue` makes such a journal's centroid of its profile and the rest of its logit of the
journals that its profile is like. What remains is a scale for the centroid and a constant. Some known
journals are treated as if they were new, and the two numbers are those that make the truth likeliest.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xuankan.candidates.first_stage import FirstStage
from xuankan.catalogue.model import Catalogue, fold, quoted_titles
from xuankan.catalogue.papers import Papers

Floats = NDArray[np.float32]
PAPERS, SHARE, DRAWS, STEPS = 2000, 0.1, 5, 30
"""How many papers, what share of the journals plays the new ones, how often these are drawn, Newton steps."""


def sample(papers: Papers, catalogue: Catalogue) -> NDArray[np.int64]:
    """Positions of the papers to calibrate on: a random few that no profile quotes."""
    quoted = quoted_titles(catalogue)
    free = np.array([i for i, title in enumerate(papers.title) if fold(title) not in quoted], dtype=np.int64)
    return np.random.default_rng(1).permutation(free)[:PAPERS]


def as_new(first_stage: FirstStage, catalogue: Catalogue, papers: Papers) -> tuple[Floats, Floats]:
    """The parts of every journal's logit if it were new: its profile's cosine to each paper, and the rest.

    Both are float32 [N, J]. A journal is like others here, never like itself.
    """
    profiles = np.zeros((len(first_stage.idf), len(catalogue)), np.float32)
    alike = np.empty((len(catalogue), len(catalogue)), np.float32)
    for position, journal in enumerate(catalogue):
        terms, weights = first_stage.vector(journal.title, journal.profile)
        profiles[terms, position] = weights
        alike[position] = np.exp(first_stage.scores(journal.title, journal.profile))
    np.fill_diagonal(alike, 0)
    alike /= np.maximum(alike.sum(axis=1, keepdims=True), 1e-9)
    output, bias = alike @ first_stage.output, alike @ (first_stage.bias + first_stage.prior)
    cosines = np.empty((len(papers), len(catalogue)), np.float32)
    rest = np.empty_like(cosines)
    for i in range(len(papers)):
        terms, weights = first_stage.vector(papers.title[i], papers.abstract[i])
        cosines[i] = weights @ profiles[terms]
        rest[i] = output @ first_stage.embed(terms, weights) + bias
    return cosines, rest


def calibrate(
    logits: NDArray[np.float64], cosines: Floats, rest: Floats, truth: NDArray[np.int64]
) -> tuple[float, float]:
    """The scale of the cosines and the constant.

    Args:
        logits: of the journals as they are known, float64 [N, J].
        cosines: see `as_new`.
        rest: see `as_new`.
        truth: the papers' journals, int [N].
    """
    rng = np.random.default_rng(2)
    journals = logits.shape[1]
    draws = [rng.permutation(journals)[: max(1, round(SHARE * journals))] for _ in range(DRAWS)]
    fitted = np.array([20.0, 0.0])
    for _ in range(STEPS):
        gradient, curvature = np.zeros(2), 1e-6 * np.eye(2)
        for new in draws:
            scored = logits.copy()
            scored[:, new] = fitted[0] * cosines[:, new] + fitted[1] + rest[:, new]
            scored = np.exp(scored - scored.max(axis=1, keepdims=True))
            likely = scored[:, new] / scored.sum(axis=1, keepdims=True)
            inputs = np.stack([cosines[:, new], np.ones_like(likely)])
            gradient += ((likely - (truth[:, None] == new)) * inputs).sum(axis=(1, 2))
            curvature += np.einsum("aij,bij,ij->ab", inputs, inputs, likely * (1 - likely))
        fitted -= np.clip(np.linalg.solve(curvature, gradient), -3, 3)
    return float(fitted[0]), float(fitted[1])
