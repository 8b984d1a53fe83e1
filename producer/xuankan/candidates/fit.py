"""Fits the first stage to training papers. Needs the `data` extra.

Three parts, each fitted on top of the one before:

1. Centroids of TF-IDF rows, recent papers weighing more. For training the rest, a paper's similarity to its
   own journal is computed without the paper itself (leave-one-out), so that it looks like an unseen paper's.
2. A low-rank softmax on what the centroids leave unexplained, with a bias for each journal.
3. A prior: how much a journal publishes lately, as far as the papers tell.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from xuankan.candidates import newcomers
from xuankan.candidates.first_stage import FirstStage
from xuankan.candidates.softmax import FitSettings, Floats, train
from xuankan.catalogue.model import Catalogue
from xuankan.catalogue.papers import Papers, Progress, TermMatrix
from xuankan.catalogue.sparse import Matrix, from_places, row_lengths, unit_rows
from xuankan.errors import CatalogueError

ARXIV = "arxiv_archive"
"""The source whose papers a journal are a sample of what it publishes, year by year."""


def ignore_progress(what: str, part: float) -> None:
    """The `Progress` of a caller that wants none."""


def fit(
    papers: Papers,
    catalogue: Catalogue,
    progress: Progress = ignore_progress,
    settings: FitSettings | None = None,
) -> FirstStage:
    """Fit a first stage for `catalogue` to `papers`, which are of its journals.

    Raises:
        CatalogueError: a paper's journal is not in the catalogue.
    """
    settings = settings or FitSettings()
    positions = {journal.title: i for i, journal in enumerate(catalogue)}
    if unknown := sorted(set(papers.journal) - set(positions)):
        raise CatalogueError(f"papers name {unknown[0]!r}, which catalogue {catalogue.version} does not hold")
    labels = np.array([positions[title] for title in papers.journal])
    matrix = TermMatrix(papers, settings.minimum, progress)
    return fit_rows(matrix, labels, papers, catalogue, progress, settings)


def fit_rows(
    matrix: TermMatrix,
    labels: NDArray[np.int64],
    papers: Papers,
    catalogue: Catalogue,
    progress: Progress,
    settings: FitSettings,
) -> FirstStage:
    """`fit` given the papers' terms and journals."""
    weight = recency(papers, settings.memory_years)
    centroids, own = leave_one_out(matrix.rows, labels, len(catalogue), weight)
    weight = recency(papers, settings.training_memory_years)
    correction = train(matrix.rows, labels, centroids, own, weight, progress, settings)
    pruned = prune(centroids, settings.postings_per_journal).T.tocsr()
    pruned.sort_indices()
    fitted = FirstStage(
        catalogue_version=catalogue.version,
        journals=tuple(journal.id for journal in catalogue),
        columns={term: number for number, term in enumerate(matrix.terms)},
        idf=matrix.idf,
        starts=pruned.indptr.astype(np.int64),
        posted=pruned.indices.astype(np.int64),
        weights=(pruned.data * correction.scale).astype(np.float32),
        embedding=correction.embedding,
        output=correction.output,
        bias=correction.bias,
        prior=prior(papers, labels, len(catalogue), settings),
        newcomer=(correction.scale, 0.0),
    )
    few = newcomers.sample(papers, catalogue)
    some, truth = papers.take(few), labels[few]
    logits = np.stack([fitted.logits(*texts) for texts in zip(some.title, some.abstract, strict=True)])
    # These papers are part of their journal's centroid: look at it without them, as in training.
    with_itself = products(matrix.rows[few], truth, centroids)
    logits[np.arange(len(few)), truth] += correction.scale * (own[few] - with_itself)
    cosines, rest = newcomers.as_new(fitted, catalogue, some)
    return replace(fitted, newcomer=newcomers.calibrate(logits, cosines, rest, truth))


def recency(papers: Papers, memory_years: float) -> NDArray[np.float64]:
    """Weights of papers, float64 [N]: 1 for arXiv's newest, less for its older ones, 1 for other sources'."""
    arxiv = np.array([source == ARXIV for source in papers.source])
    newest = papers.year[arxiv].max(initial=0)
    return np.where(arxiv, np.exp((papers.year - newest) / memory_years), 1.0)


def leave_one_out(
    rows: Matrix, labels: NDArray[np.int64], journals: int, weight: NDArray[np.float64]
) -> tuple[Matrix, Floats]:
    """Unit centroids [J, V], and each paper's cosine to its own journal's centroid without itself, [N]."""
    papers = rows.shape[0]
    sums = from_places(weight, labels, np.arange(papers), (journals, papers)) @ rows
    lengths = row_lengths(sums)[labels]
    dot = products(rows, labels, sums)
    rest = np.sqrt(np.maximum(lengths**2 - 2 * weight * dot + weight**2, 1e-9))
    own = np.where(rest > 1e-3, (dot - weight) / rest, 0.0)
    return unit_rows(sums).astype(np.float32), own.astype(np.float32)


def products(rows: Matrix, labels: NDArray[np.int64], others: Matrix) -> NDArray[np.float64]:
    """The scalar product of row i with row `labels[i]` of another matrix, float64 [N].

    Label by label: large journals' rows hold most of the vocabulary, and a copy for each paper would not fit.
    """
    result = np.zeros(rows.shape[0])
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        result[members] = rows[members] @ others[label].toarray()[0]
    return result


def prior(papers: Papers, labels: NDArray[np.int64], journals: int, settings: FitSettings) -> Floats:
    """What is added to each journal's logit for how much it publishes lately, float32 [J], zero on average.

    The share of recent papers is not the world's (arXiv is no mirror of medicine), so it counts for less than
    its logarithm and is smoothed.
    """
    recent = np.bincount(labels, weights=recency(papers, settings.prior_memory_years), minlength=journals)
    log_rate = np.log(recent + settings.prior_smoothing)
    return (settings.prior_weight * (log_rate - log_rate.mean())).astype(np.float32)


def prune(centroids: Matrix, keep: int) -> Matrix:
    """The `keep` heaviest entries of each row; others are dropped, lengths left as they are."""
    pruned = centroids.copy()
    for row in range(pruned.shape[0]):
        span = slice(pruned.indptr[row], pruned.indptr[row + 1])
        data = pruned.data[span]
        if len(data) > keep:
            data[data < np.partition(data, -keep)[-keep]] = 0
    pruned.eliminate_zeros()
    return pruned
