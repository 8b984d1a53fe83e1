"""What training reads: tokens, cross-fitted first-stage lists and weights, made once, without a GPU.

Needs the `data` extra (pyarrow, scikit-learn). The model builds on what the first stage knows, so the first
stage's logits of a training paper must be honest: they come from a first stage that was fitted without the
paper (k-fold cross-fitting). A training paper's own title, where its journal's profile quotes it, is masked.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from xuankan.candidates.first_stage import FirstStage
from xuankan.candidates.fit import FitSettings as FitSettings
from xuankan.candidates.fit import fit_rows, recency
from xuankan.catalogue.model import Catalogue, Journal, fold
from xuankan.catalogue.papers import Papers, Progress, TermMatrix, read_papers
from xuankan.catalogue.sparse import Matrix, from_rows
from xuankan.errors import InputError, ReleaseError
from xuankan.protocol.template import Template
from xuankan_worker.releases.packing import Ragged

FORMAT = "xuankan-training-data/1"
EXCLUDED_SOURCES = frozenset({"biorxiv_preprint"})
"""Sources whose terms allow evaluation only."""
FOLDS = 5
CANDIDATES = 100


@dataclass(frozen=True, slots=True)
class Lists:
    """Papers of one split and their first-stage lists.

    Attributes:
        manuscripts: token sequences of the N papers.
        truth: int16 [N], catalogue position of the journal where each appeared.
        candidates: int16 [N, C], catalogue positions, best first.
        first_stage: float32 [N, C]. Evaluation splits: log-probabilities as requests carry them. Training:
            logits of a first stage fitted without the paper, without the prior (which is no knowledge of the
            manuscript, and is added when ranking), less the row's largest.
        truth_logit: float32 [N], the same for `truth`, which need not be among the candidates.
        weight: float32 [N], how much each paper counts; mean 1.
        truth_profile: int32 [N], the profile that stands for `truth` in the paper's own pair.
    """

    manuscripts: Ragged
    truth: NDArray[np.int16]
    candidates: NDArray[np.int16]
    first_stage: NDArray[np.float32]
    truth_logit: NDArray[np.float32]
    weight: NDArray[np.float32]
    truth_profile: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.truth)


@dataclass(frozen=True, slots=True)
class TrainingData:
    """All that `train` needs beside the base model.

    Attributes:
        splits: `train` and the evaluation splits.
        profiles: token sequences: the catalogue's journals, then masked variants.
        journals: how many the catalogue has.
        about: plain values that say where this came from (hashes, versions, counts).
        template, tokenizer_json: what the tokens were made with.
    """

    splits: dict[str, Lists]
    profiles: Ragged
    journals: int
    about: dict[str, Any]
    template: Template
    tokenizer_json: bytes

    def save(self, path: Path) -> None:
        """Write everything into one `.npz` file."""
        arrays: dict[str, Any] = {
            "about": np.array(json.dumps({"format": FORMAT, **self.about})),
            "tokenizer": np.frombuffer(self.tokenizer_json, np.uint8),
            "budgets": np.array([self.template.max_manuscript_tokens, self.template.max_profile_tokens]),
            "journals": np.array(self.journals),
            "profiles.ids": self.profiles.ids,
            "profiles.offsets": self.profiles.offsets,
        }
        for name, lists in self.splits.items():
            arrays[f"{name}/manuscripts.ids"] = lists.manuscripts.ids
            arrays[f"{name}/manuscripts.offsets"] = lists.manuscripts.offsets
            arrays[f"{name}/truth"] = lists.truth
            arrays[f"{name}/candidates"] = lists.candidates
            half = name == "train"  # the bulk of the file; a draw of negatives needs no more digits
            arrays[f"{name}/first_stage"] = lists.first_stage.astype(np.float16 if half else np.float32)
            arrays[f"{name}/truth_logit"] = lists.truth_logit
            arrays[f"{name}/weight"] = lists.weight
            arrays[f"{name}/truth_profile"] = lists.truth_profile
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, **arrays)

    @classmethod
    def load(cls, path: Path) -> TrainingData:
        """Read a file written by `save`.

        Raises:
            ReleaseError: the file cannot be read or is not training data of this format.
        """
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            about = cast("dict[str, Any]", json.loads(str(arrays["about"])))
            if (found := about.pop("format")) != FORMAT:
                raise ValueError(f"its format is {found!r}, not {FORMAT!r}")
            manuscript, profile = (int(budget) for budget in arrays["budgets"])
            tokenizer_json = arrays["tokenizer"].tobytes()
            return cls(
                splits={
                    name: _lists(arrays, name)
                    for name in dict.fromkeys(key.split("/")[0] for key in arrays if "/" in key)
                },
                profiles=Ragged(arrays["profiles.ids"], arrays["profiles.offsets"]),
                journals=int(arrays["journals"]),
                about=about,
                template=Template.build(tokenizer_json, manuscript, profile),
                tokenizer_json=tokenizer_json,
            )
        except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise ReleaseError(
                f"{path} cannot be read as training data (make it with `xuankan model prepare`): {error}"
            ) from error


def _lists(arrays: dict[str, NDArray[Any]], name: str) -> Lists:
    def get(key: str) -> NDArray[Any]:
        return arrays[f"{name}/{key}"]

    return Lists(
        manuscripts=Ragged(get("manuscripts.ids"), get("manuscripts.offsets")),
        truth=get("truth"),
        candidates=get("candidates"),
        first_stage=get("first_stage").astype(np.float32),
        truth_logit=get("truth_logit"),
        weight=get("weight"),
        truth_profile=get("truth_profile"),
    )


def prepare(
    path: Path,
    catalogue: Catalogue,
    first_stage: FirstStage,
    template_directory: Path,
    evaluation_splits: Sequence[str],
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
    papers = read_papers(path, "train")
    allowed = np.flatnonzero([source not in EXCLUDED_SOURCES for source in papers.source])
    papers = papers.take(allowed)
    positions = {journal.title: i for i, journal in enumerate(catalogue)}
    if unknown := sorted(set(papers.journal) - set(positions)):
        raise InputError("papers", f"{unknown[0]!r} is not a journal of catalogue {catalogue.version}")
    labels = np.array([positions[title] for title in papers.journal])
    weight = recency(papers, FitSettings().training_memory_years)
    profiles = [template.encode_profile(journal.profile).ids for journal in catalogue]
    truth_profile = labels.astype(np.int32)
    for paper, text in masked_profiles(papers.title, labels, catalogue).items():
        truth_profile[paper] = len(profiles)
        profiles.append(template.encode_profile(text).ids)
    candidates, logits, own = cross_fit(papers, labels, catalogue, progress, seed)
    splits = {
        "train": Lists(
            manuscripts=encode_all(papers.title, papers.abstract, template, progress),
            truth=labels.astype(np.int16),
            candidates=candidates,
            first_stage=logits,
            truth_logit=own,
            weight=(weight / weight.mean()).astype(np.float32),
            truth_profile=truth_profile,
        )
    }
    for name in evaluation_splits:
        splits[name] = _evaluation_lists(read_papers(path, name), positions, first_stage, template, progress)
    return TrainingData(
        splits=splits,
        profiles=Ragged.of(profiles),
        journals=len(catalogue),
        about={
            "papers_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "catalogue": catalogue.version,
            "template": template.fingerprint,
            "papers": {name: len(lists) for name, lists in splits.items()},
            "masked_titles": len(profiles) - len(catalogue),
            "folds": FOLDS,
            "seed": seed,
        },
        template=template,
        tokenizer_json=(template_directory / "tokenizer.json").read_bytes(),
    )


def _evaluation_lists(
    papers: Papers, positions: dict[str, int], first_stage: FirstStage, template: Template, progress: Progress
) -> Lists:
    known = np.flatnonzero([title in positions for title in papers.journal])
    papers = papers.take(known)
    truth = np.array([positions[title] for title in papers.journal], dtype=np.int16)
    count = min(CANDIDATES, len(positions))
    candidates = np.empty((len(papers), count), dtype=np.int16)
    scores = np.empty((len(papers), count), dtype=np.float32)
    own = np.empty(len(papers), dtype=np.float32)
    for i, (title, abstract) in enumerate(zip(papers.title, papers.abstract, strict=True)):
        row = first_stage.scores(title, abstract)
        candidates[i] = top_candidates(row, count)
        scores[i], own[i] = row[candidates[i]], row[truth[i]]
        if i % 200 == 0:
            progress("first stage", i / len(papers))
    return Lists(
        manuscripts=encode_all(papers.title, papers.abstract, template, progress),
        truth=truth,
        candidates=candidates,
        first_stage=scores,
        truth_logit=own,
        weight=np.ones(len(papers), dtype=np.float32),
        truth_profile=truth.astype(np.int32),
    )


def top_candidates(scores: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Positions of the `count` best scores, int64 [count], best first, ties by position."""
    return np.argsort(-scores, kind="stable")[:count]


def encode_all(
    titles: Sequence[str], abstracts: Sequence[str], template: Template, progress: Progress
) -> Ragged:
    """Tokenize manuscripts, each cut to the template's budget."""
    sequences: list[NDArray[np.int32]] = []
    for i, (title, abstract) in enumerate(zip(titles, abstracts, strict=True)):
        sequences.append(template.encode_manuscript(title, abstract or "").ids)
        if i % 500 == 0:
            progress("tokenizing", i / len(titles))
    return Ragged.of(sequences)


def masked_profiles(titles: Sequence[str], labels: NDArray[np.int64], catalogue: Catalogue) -> dict[int, str]:
    """For each paper whose title its own journal's profile quotes: that profile without the title."""
    quoted: dict[tuple[int, str], str] = {
        (position, fold(example)): example
        for position, journal in enumerate(catalogue)
        for example in journal.examples
    }
    found: dict[int, str] = {}
    for paper, (title, label) in enumerate(zip(titles, labels.tolist(), strict=True)):
        if (example := quoted.get((label, fold(title)))) is not None:
            found[paper] = without_example(catalogue[label], example)
    return found


def without_example(journal: Journal, example: str) -> str:
    """The journal's profile without one of the titles that it quotes."""
    profile = journal.profile
    for quoted in (f"{example}; ", f"; {example}", example):
        if quoted in profile:
            return profile.replace(quoted, "", 1)
    return profile


def cross_fit(
    papers: Papers, labels: NDArray[np.int64], catalogue: Catalogue, progress: Progress, seed: int
) -> tuple[NDArray[np.int16], NDArray[np.float32], NDArray[np.float32]]:
    """First-stage lists of training papers, each from a first stage that has not seen the paper.

    Returns:
        `candidates`, `first_stage` and `truth_logit` of `Lists`.
    """
    settings = FitSettings()
    matrix = TermMatrix(papers, settings.minimum, progress)
    fold_of = np.random.default_rng(seed).permutation(len(papers)) % FOLDS
    count = min(CANDIDATES, len(catalogue))
    candidates = np.empty((len(papers), count), dtype=np.int16)
    logits = np.empty((len(papers), count), dtype=np.float32)
    own = np.empty(len(papers), dtype=np.float32)
    for number in range(FOLDS):
        kept, held = np.flatnonzero(fold_of != number), np.flatnonzero(fold_of == number)

        def told(what: str, part: float, number: int = number) -> None:
            progress(f"cross-fitting, {what}", (number + part) / FOLDS)

        fitted = fit_rows(matrix.take(kept), labels[kept], papers.take(kept), catalogue, told, settings)
        for start in range(0, len(held), 1000):
            chosen = held[start : start + 1000]
            content = content_logits(fitted, matrix.rows[chosen])
            whole = content + fitted.prior
            ranked = np.argsort(-whole, axis=1, kind="stable")[:, :count]
            content -= content.max(axis=1, keepdims=True)
            candidates[chosen] = ranked
            logits[chosen] = np.take_along_axis(content, ranked, axis=1)
            own[chosen] = content[np.arange(len(chosen)), labels[chosen]]
    return candidates, logits, own


def content_logits(first_stage: FirstStage, rows: Matrix) -> NDArray[np.float32]:
    """The first stage's logits without its prior, float32 [N, J], of unit term rows [N, V]."""
    shape = (len(first_stage.idf), len(first_stage.journals))
    by_term = from_rows(first_stage.weights, first_stage.posted, first_stage.starts, shape)
    common = rows[:, : len(first_stage.embedding)] @ first_stage.embedding
    logits = (rows @ by_term).toarray() + common @ first_stage.output.T + first_stage.bias
    return logits.astype(np.float32)
