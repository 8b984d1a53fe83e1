"""What training reads: tokens, years and first-stage scores of papers, made once, without a GPU.

Needs the `data` extra (pyarrow, scikit-learn). First-stage scores of training papers must be honest: they
come from first stages that were fitted without the paper (k-fold cross-fitting).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from xuankan.candidates.first_stage import FirstStage
from xuankan.candidates.fit import FitSettings, fit_rows
from xuankan.catalogue.model import Catalogue
from xuankan.catalogue.papers import Papers, Progress, TermMatrix, read_papers
from xuankan.catalogue.sparse import Matrix, from_rows
from xuankan.errors import InputError
from xuankan.protocol.template import Template
from xuankan_worker.releases.packing import Ragged
from xuankan_worker.releases.training_data import Split, TrainingData

EXCLUDED_SOURCES = frozenset({"biorxiv_preprint"})
"""Sources whose terms allow evaluation only."""
FOLDS = 5
TRAINING_CANDIDATES = 32
"""First-stage scores kept of a training paper."""
CANDIDATES = 100
"""And of another, as requests carry them."""


def prepare(
    path: Path,
    catalogue: Catalogue,
    first_stage: FirstStage,
    template_directory: Path,
    other_splits: Sequence[str],
    progress: Progress,
    seed: int = 0,
) -> TrainingData:
    """Make training data from a table of papers (see `xuankan.catalogue.papers.read_papers`).

    Raises:
        CatalogueError: the table cannot be read or lacks a column or a split.
        ReleaseError: there is no template in `template_directory`.
        InputError: a training paper's journal is not in the catalogue.
    """
    template = Template.load(template_directory)
    positions = {journal.title: i for i, journal in enumerate(catalogue)}
    papers = read_papers(path, "train")
    papers = papers.take(np.flatnonzero([source not in EXCLUDED_SOURCES for source in papers.source]))
    if unknown := sorted(set(papers.journal) - set(positions)):
        raise InputError("papers", f"{unknown[0]!r} is not a journal of catalogue {catalogue.version}")
    labels = np.array([positions[title] for title in papers.journal])
    splits = {
        "train": _split(papers, labels, *cross_fit(papers, labels, catalogue, progress, seed), template)
    }
    for name in other_splits:
        others = read_papers(path, name)
        others = others.take(np.flatnonzero([title in positions for title in others.journal]))
        truth = np.array([positions[title] for title in others.journal], dtype=np.int64)
        scored = _scored(others, first_stage, progress)
        splits[name] = _split(others, truth, *scored, template)
    return TrainingData(
        splits=splits,
        names=Ragged.of([template.encode_profile(journal.title).ids for journal in catalogue]),
        profiles=Ragged.of([template.encode_profile(journal.profile).ids for journal in catalogue]),
        about={
            "papers_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "catalogue": catalogue.version,
            "template": template.fingerprint,
            "papers": {name: len(split) for name, split in splits.items()},
            "folds": FOLDS,
            "seed": seed,
        },
        template=template,
        tokenizer_json=(template_directory / "tokenizer.json").read_bytes(),
    )


def _split(
    papers: Papers,
    truth: NDArray[np.int64],
    candidates: NDArray[np.int16],
    first_stage: NDArray[np.float32],
    template: Template,
) -> Split:
    manuscripts: list[NDArray[np.int32]] = []
    titles: list[int] = []
    for title, abstract in zip(papers.title, papers.abstract, strict=True):
        ids = template.encode_manuscript(title, abstract or "").ids
        manuscripts.append(ids)
        # A manuscript begins with its title: its tokens need no copy.
        titles.append(min(template.encode_manuscript(title, "").total, len(ids), 255))
    return Split(
        manuscripts=Ragged.of(manuscripts),
        title_lengths=np.array(titles, dtype=np.uint8),
        truth=truth.astype(np.int16),
        year=papers.year.astype(np.int16),
        candidates=candidates,
        first_stage=first_stage,
    )


def _scored(
    papers: Papers, first_stage: FirstStage, progress: Progress
) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
    """First-stage lists of papers that it has not seen: journals and log-probabilities, each [N, C]."""
    count = min(CANDIDATES, len(first_stage.journals))
    candidates = np.empty((len(papers), count), dtype=np.int16)
    scores = np.empty((len(papers), count), dtype=np.float32)
    for i, (title, abstract) in enumerate(zip(papers.title, papers.abstract, strict=True)):
        row = first_stage.scores(title, abstract or "")
        candidates[i] = np.argsort(-row, kind="stable")[:count]
        scores[i] = row[candidates[i]]
        if i % 200 == 0:
            progress("first stage", i / len(papers))
    return candidates, scores


def cross_fit(
    papers: Papers, labels: NDArray[np.int64], catalogue: Catalogue, progress: Progress, seed: int
) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
    """First-stage lists of training papers, each from a first stage that has not seen the paper.

    Returns:
        Journals, best first, and their log-probabilities, each [N, `TRAINING_CANDIDATES`].
    """
    settings = FitSettings()
    matrix = TermMatrix(papers, settings.minimum, progress)
    fold_of = np.random.default_rng(seed).permutation(len(papers)) % FOLDS
    count = min(TRAINING_CANDIDATES, len(catalogue))
    candidates = np.empty((len(papers), count), dtype=np.int16)
    scores = np.empty((len(papers), count), dtype=np.float32)
    for number in range(FOLDS):
        kept, held = np.flatnonzero(fold_of != number), np.flatnonzero(fold_of == number)

        def told(what: str, part: float, number: int = number) -> None:
            progress(f"cross-fitting, {what}", (number + part) / FOLDS)

        fitted = fit_rows(matrix.take(kept), labels[kept], papers.take(kept), catalogue, told, settings)
        for start in range(0, len(held), 1000):
            chosen = held[start : start + 1000]
            logits = fit_logits(fitted, matrix.rows[chosen]) + fitted.prior
            logits -= logits.max(axis=1, keepdims=True)
            logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
            candidates[chosen] = np.argsort(-logits, axis=1, kind="stable")[:, :count]
            scores[chosen] = np.take_along_axis(logits, candidates[chosen].astype(np.int64), axis=1)
    return candidates, scores


def fit_logits(first_stage: FirstStage, rows: Matrix) -> NDArray[np.float32]:
    """The first stage's logits without its prior, float32 [N, J], of unit term rows [N, V]."""
    shape = (len(first_stage.idf), len(first_stage.journals))
    by_term = from_rows(first_stage.weights, first_stage.posted, first_stage.starts, shape)
    common = cast("Any", rows[:, : len(first_stage.embedding)] @ first_stage.embedding)
    logits = (rows @ by_term).toarray() + common @ first_stage.output.T + first_stage.bias
    return logits.astype(np.float32)
