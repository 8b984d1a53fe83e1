"""The first stage's low-rank softmax: trained with NumPy, in a minute on one core. Needs the `data` extra."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xuankan.catalogue.papers import Progress
from xuankan.catalogue.sparse import Matrix, from_rows

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class FitSettings:
    """Hyper-parameters, chosen on the dev split."""

    minimum: int = 3
    """A term of the vocabulary occurs in at least so many papers."""
    memory_years: float = 6.0
    """A paper this much older than another weighs 1/e of it in a centroid."""
    postings_per_journal: int = 5000
    """Terms kept of a centroid, the heaviest."""
    rank: int = 64
    embedded_terms: int = 60_000
    epochs: int = 3
    batch: int = 256
    rate: float = 0.01
    """Adam's first learning rate; it falls linearly to a fiftieth."""
    term_dropout: float = 0.4
    hidden_dropout: float = 0.2
    training_memory_years: float = 3.0
    """As `memory_years`, for a paper's weight in training."""
    prior_weight: float = 0.4
    prior_memory_years: float = 1.0
    prior_smoothing: float = 30.0
    """Papers added to every journal's recent ones."""


@dataclass(frozen=True, slots=True)
class Correction:
    """The trained low-rank part: E [D, R], the w_j [J, R], and the scale of the centroids' cosines."""

    embedding: Floats
    output: Floats
    bias: Floats
    scale: float


class Adam:
    """Adam (Kingma & Ba, 2015) for one array. A step may be limited to some rows (torch's SparseAdam)."""

    def __init__(self, value: Floats) -> None:
        self.value = value
        self._first = np.zeros_like(value)
        self._second = np.zeros_like(value)
        self._steps = 0

    def step(self, gradient: Floats, rate: float, rows: NDArray[np.integer] | None = None) -> None:
        at = slice(None) if rows is None else rows
        self._steps += 1
        first = self._first[at] * np.float32(0.9) + gradient * np.float32(0.1)
        second = self._second[at] * np.float32(0.999) + np.square(gradient) * np.float32(0.001)
        self._first[at], self._second[at] = first, second
        rate *= np.sqrt(1 - 0.999**self._steps) / (1 - 0.9**self._steps)
        self.value[at] -= np.float32(rate) * first / (np.sqrt(second) + np.float32(1e-8))


def train(
    rows: Matrix,
    labels: NDArray[np.int64],
    centroids: Matrix,
    own: Floats,
    weight: NDArray[np.float64],
    progress: Progress,
    settings: FitSettings,
) -> Correction:
    """Train E, the w_j, the biases and the scale by weighted softmax cross-entropy.

    Args:
        rows: the papers' unit rows [N, V], commonest terms first.
        labels: their journals, int [N].
        centroids: unit rows [J, V].
        own: each paper's cosine to its own journal's centroid without itself, float32 [N].
        weight: each paper's weight in the loss, float64 [N].
        progress: told how far the work is.
        settings: hyper-parameters.
    """
    rng = np.random.default_rng(0)
    papers, journals, rank = len(labels), centroids.shape[0], settings.rank
    cosines = _cosines(rows, centroids, progress)
    cosines[np.arange(papers), labels] = own
    common = rows[:, : settings.embedded_terms].tocsr()
    embedding = Adam(rng.normal(0, rank**-0.5, (common.shape[1], rank)).astype(np.float32))
    output = Adam(rng.uniform(-1, 1, (journals, rank)).astype(np.float32) * np.float32(rank**-0.5))
    bias = Adam(np.zeros(journals, np.float32))
    scale = Adam(np.array([20.0], np.float32))
    steps = settings.epochs * -(-papers // settings.batch)
    for done, batch in enumerate(_batches(rng, papers, settings)):
        size = len(batch)
        cosine = cosines[batch].astype(np.float32)
        part = common[batch]
        used, columns = np.unique(part.indices, return_inverse=True)
        values = part.data * _dropout(rng, (part.nnz,), settings.term_dropout)
        part = from_rows(values, columns, part.indptr, (size, len(used)))
        mask = _dropout(rng, (size, rank), settings.hidden_dropout)
        hidden = (part @ embedding.value[used]) * mask
        logits = hidden @ output.value.T + scale.value[0] * cosine + bias.value
        error = np.exp(logits - logits.max(axis=1, keepdims=True))
        error /= error.sum(axis=1, keepdims=True)
        error[np.arange(size), labels[batch]] -= 1
        error *= (weight[batch] / size)[:, None].astype(np.float32)
        rate = settings.rate * max(0.02, 1 - done / steps)
        back = (error @ output.value) * mask
        output.step(error.T @ hidden, rate / 3)
        bias.step(error.sum(axis=0), rate / 3)
        scale.step(np.array([(error * cosine).sum()], np.float32), rate * 10)
        embedding.step(part.T @ back, rate, used)
        if done % 20 == 0:
            progress("training", done / steps)
    return Correction(embedding.value, output.value, bias.value, float(scale.value[0]))


def _batches(rng: np.random.Generator, papers: int, settings: FitSettings) -> Iterator[NDArray[np.int64]]:
    """Every paper once an epoch, in a new order each time."""
    for _ in range(settings.epochs):
        order = rng.permutation(papers)
        yield from np.split(order, range(settings.batch, papers, settings.batch))


def _cosines(rows: Matrix, centroids: Matrix, progress: Progress) -> NDArray[np.float16]:
    """Every row's cosine to every centroid, float16 [N, J]: kept, as each epoch needs them all."""
    cosines = np.empty((rows.shape[0], centroids.shape[0]), np.float16)
    transposed = centroids.T.tocsr()
    for start in range(0, len(cosines), 1000):
        cosines[start : start + 1000] = (rows[start : start + 1000] @ transposed).toarray()
        progress("comparing with centroids", start / len(cosines))
    return cosines


def _dropout(rng: np.random.Generator, shape: tuple[int, ...], share: float) -> Floats:
    """Zeros for a share of places and 1 / (1 - share) for the others."""
    return ((rng.random(shape) > share) / (1 - share)).astype(np.float32)
