"""Judges a release as it is served: first stage, engines and fused ranking, on papers whose journal is known.

Needs the `data` extra (pyarrow) and an engine; no torch.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xuankan.candidates.first_stage import FirstStage
from xuankan.catalogue.papers import Progress
from xuankan.errors import InputError
from xuankan.protocol.wire import Request
from xuankan_worker.engines import EngineKind, Slot
from xuankan_worker.execution.alone import rank_alone
from xuankan_worker.execution.served_model import ServedModel, load_served_model
from xuankan_worker.manifest import Manifest, default_release
from xuankan_worker.releases.kept import Notebook, Placed, keep
from xuankan_worker.releases.labelled import Labelled
from xuankan_worker.releases.slots import on_slots

_MAX_BATCH = 16


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """What `evaluate` found.

    Attributes:
        release, engine, device: what was judged, and on what.
        candidates: journals ranked for each paper.
        papers: those whose journal the catalogue has.
        placed: what the release says of each.
        outside: the same of papers that are of no journal's field.
        unknown_journals: papers left out because the catalogue lacks their journal.
        ms: mean time of a paper on one slot, of those that this run ranked: tokenization, first stage,
            engines, fusion.
    """

    release: str
    engine: str
    device: str
    candidates: int
    papers: Labelled
    placed: Sequence[Placed]
    outside: Sequence[Placed]
    unknown_journals: int
    ms: float


def evaluate(
    papers: Labelled,
    release: Path | None,
    engine_kind: EngineKind,
    candidates: int,
    progress: Progress,
    *,
    outside: tuple[Sequence[str], Sequence[str]] = ((), ()),
    kept: Path | None = None,
) -> Evaluation:
    """Rank the candidates of each paper as a worker would, and compare with where it appeared.

    Papers whose journal the catalogue lacks cannot be judged: they are counted and left out.

    Args:
        papers: the papers.
        release: a release's directory; None takes the shipped one.
        engine_kind: see `open_engine`.
        candidates: journals ranked for each paper, the best of the first stage.
        progress: told as papers are done.
        outside: titles and abstracts of papers of fields that no journal covers.
        kept: file to keep in what is done, and to go on from.

    Raises:
        InputError: no paper's journal is in the catalogue, or `kept` is of another evaluation.
        ReleaseError: the release cannot be read, or lacks the template that it was trained with.
        EngineError: the engine cannot run or fails.
    """
    directory = release or default_release()
    manifest = Manifest.load(directory)
    served = load_served_model(engine_kind, directory, None, _MAX_BATCH)
    try:
        known, truth = _known(papers, served)
        judged = papers.take(known)
        count = min(candidates, len(served.catalogue))
        titles, abstracts = [*judged.title, *outside[0]], [*judged.abstract, *outside[1]]
        ranker = _Ranker(served, count, titles, abstracts, [*truth, *([None] * len(outside[0]))])
        info = served.engine.info
        about = {
            "release": manifest.fingerprint,
            "engine": info.fingerprint,
            "candidates": count,
            "papers": hashlib.sha256("\0".join((*titles, *abstracts)).encode()).hexdigest()[:16],
        }
        with keep(kept, about) as done:
            ms = ranker.rank_all(done, progress)
            placed = [done.done[number] for number in range(len(titles))]
    finally:
        served.engine.close()
    return Evaluation(
        release=f"{manifest.name} ({manifest.fingerprint})",
        engine=info.name,
        device=info.device,
        candidates=count,
        papers=judged,
        placed=placed[: len(known)],
        outside=placed[len(known) :],
        unknown_journals=len(papers.journal) - len(known),
        ms=ms,
    )


def _known(papers: Labelled, served: ServedModel) -> tuple[list[int], list[int]]:
    """The papers whose journal the catalogue has, and where it has it."""
    catalogue = served.catalogue
    positions = {journal.title: place for place, journal in enumerate(catalogue)}
    positions |= {journal.id: place for place, journal in enumerate(catalogue)}
    known = [i for i, name in enumerate(papers.journal) if name in positions]
    if not known:
        raise InputError(
            "papers",
            f"none of {len(papers.journal)} papers is of a journal in catalogue {catalogue.version}, "
            f"the first is of {papers.journal[0]!r}",
        )
    return known, [positions[papers.journal[i]] for i in known]


class _Ranker:
    """Ranks papers; `truth` is the place of each paper's journal in the catalogue, None if it has none."""

    def __init__(
        self,
        served: ServedModel,
        candidates: int,
        titles: Sequence[str],
        abstracts: Sequence[str],
        truth: Sequence[int | None],
    ) -> None:
        self._served, self._candidates = served, candidates
        self._titles, self._abstracts, self._truth = titles, abstracts, truth
        self._first_stage = FirstStage.default().for_catalogue(served.catalogue)

    def rank_all(self, kept: Notebook, progress: Progress) -> float:
        """Rank those that are not done; gives their mean time in milliseconds, 0 if all were."""
        left = [number for number in range(len(self._titles)) if number not in kept.done]
        spent = 0.0
        for number, (placed, seconds) in on_slots(self._served.engine, left, self._place):
            kept.add(number, placed)
            spent += seconds
            progress("ranking", len(kept.done) / len(self._titles))
        return 1000 * spent / max(len(left), 1)

    def _place(self, slot: Slot, number: int) -> tuple[Placed, float]:
        started, served, truth = time.perf_counter(), self._served, self._truth[number]
        title, abstract = self._titles[number], self._abstracts[number]
        scores = self._first_stage.scores(title, abstract)
        chosen: NDArray[np.intp] = np.argsort(-scores, kind="stable")[: self._candidates]
        request = Request(
            id="paper",
            lane="bulk",
            fingerprint=served.template.fingerprint,
            catalogue=served.catalogue.version,
            tokens=served.template.encode_manuscript(title, abstract).ids,
            candidates=chosen.astype(np.uint32),
            first_stage=scores[chosen],
            top_k=len(chosen),
            enqueued_ms=0,
        )
        ranked = rank_alone(served, slot, request)
        own, first = None, np.zeros(0, np.intp)
        if truth is not None:
            own, first = served.catalogue[truth].id, np.flatnonzero(chosen == truth)
        placed = Placed(
            rank=next((place.rank for place in ranked.journals if place.journal == own), 0),
            first_stage=int(first[0]) + 1 if len(first) else 0,
            score=ranked.journals[0].score,
            rows=ranked.rows,
            fit=ranked.fit,
        )
        return placed, time.perf_counter() - started
