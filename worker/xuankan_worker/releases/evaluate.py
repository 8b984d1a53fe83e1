"""Judges a release as it is served: first stage, engine and fused ranking, on papers whose journal is known.

Needs the `data` extra (pyarrow) and an engine; no torch.
"""

from __future__ import annotations

import queue
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xuankan.candidates.first_stage import FirstStage
from xuankan.candidates.quality import Quality, quality_of, ranks_of
from xuankan.catalogue.papers import Progress
from xuankan.catalogue.parquet import read_columns
from xuankan.errors import InputError
from xuankan.protocol.wire import Request
from xuankan_worker.engines import EngineKind, Slot
from xuankan_worker.execution.alone import Ranked, rank_alone
from xuankan_worker.execution.served_model import ServedModel, load_served_model
from xuankan_worker.manifest import Manifest, default_release

_MAX_BATCH = 16
_COLUMNS = ("title", "abstract", "journal")


@dataclass(frozen=True, slots=True)
class Labelled:
    """Papers and where they appeared; journals are titles or ids of a catalogue."""

    title: list[str]
    abstract: list[str]
    journal: list[str]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What `evaluate` found.

    Attributes:
        release, engine, device: what was judged, and on what.
        first_stage_weight: of the first stage's score in the fused score.
        candidates: journals scored for each paper.
        first_stage, fused: quality of the first stage alone, and of the fused ranking.
        rows: of the cross-encoder for a paper, in the mean.
        unknown_journals: papers left out because the catalogue lacks their journal.
        manuscripts_per_s: ranked, tokenization and first stage not counted.
    """

    release: str
    engine: str
    device: str
    first_stage_weight: float
    candidates: int
    first_stage: Quality
    fused: Quality
    rows: float
    unknown_journals: int
    manuscripts_per_s: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        plain = {name: getattr(self, name) for name in self.__slots__}
        return {name: v.as_dict() if isinstance(v, Quality) else v for name, v in plain.items()}


def read_labelled(path: Path, split: str | None, limit: int | None, seed: int) -> Labelled:
    """Read a Parquet table with the columns title, abstract, journal and, where `split` is given, split.

    Args:
        path: the table.
        split: only papers of this split; None takes all.
        limit: a random sample of this many; None takes all.
        seed: of the sample.

    Raises:
        CatalogueError: the file is no Parquet table, or lacks a column.
        InputError: no paper is left.
    """
    rows = read_columns(path, (*_COLUMNS, "split") if split is not None else _COLUMNS)
    keep = np.arange(len(rows["journal"]))
    if split is not None:
        keep = np.flatnonzero([name == split for name in rows["split"]])
        if not len(keep):
            found = ", ".join(sorted({str(name) for name in rows["split"]}))
            raise InputError("split", f"{path} holds no paper of split {split!r}; its splits are {found}")
    if not len(keep):
        raise InputError("papers", f"{path} holds no papers")
    if limit is not None and limit < len(keep):
        keep = np.sort(np.random.default_rng(seed).choice(keep, limit, replace=False))

    def column(name: str) -> list[str]:
        return [str(rows[name][i] or "") for i in keep]

    return Labelled(column("title"), column("abstract"), column("journal"))


def evaluate(
    papers: Labelled, release: Path | None, engine_kind: EngineKind, candidates: int, progress: Progress
) -> Evaluation:
    """Rank the candidates of each paper as a worker would, and compare with where it appeared.

    Papers whose journal the catalogue lacks cannot be judged: they are counted and left out.

    Args:
        papers: the papers.
        release: a release's directory; None takes the shipped one.
        engine_kind: see `open_engine`.
        candidates: journals scored for each paper, the best of the first stage.
        progress: told as papers are done.

    Raises:
        InputError: no paper's journal is in the catalogue.
        ReleaseError: the release cannot be read, or lacks the template that it was trained with.
        EngineError: the engine cannot run or fails.
    """
    directory = release or default_release()
    manifest = Manifest.load(directory)
    served = load_served_model(engine_kind, directory, None, _MAX_BATCH)
    template, catalogue = served.template, served.catalogue
    positions = {journal.title: place for place, journal in enumerate(catalogue)}
    positions |= {journal.id: place for place, journal in enumerate(catalogue)}
    known = [i for i, name in enumerate(papers.journal) if name in positions]
    if not known:
        raise InputError(
            "papers",
            f"none of {len(papers.journal)} papers is of a journal in catalogue {catalogue.version}, "
            f"the first is of {papers.journal[0]!r}",
        )
    truth = np.array([positions[papers.journal[i]] for i in known])
    count = min(candidates, len(catalogue))
    requests: list[Request] = []
    first_stage = FirstStage.default().for_catalogue(catalogue)
    for row, i in enumerate(known):
        scores = first_stage.scores(papers.title[i], papers.abstract[i])
        chosen = np.argsort(-scores, kind="stable")[:count]
        requests.append(
            Request(
                id=f"paper-{i}",
                lane="bulk",
                fingerprint=template.fingerprint,
                catalogue=catalogue.version,
                tokens=template.encode_manuscript(papers.title[i], papers.abstract[i]).ids,
                candidates=chosen.astype(np.uint32),
                first_stage=scores[chosen],
                top_k=count,
                enqueued_ms=0,
            )
        )
        if row % 100 == 0:
            progress("first stage", row / len(known))
    engine = served.engine
    try:
        info = engine.info
        slots: queue.SimpleQueue[Slot] = queue.SimpleQueue()
        for index in range(info.slots):
            slots.put(engine.open_slot(index))
        started = time.perf_counter()
        ranked = _rank_all(requests, served, slots, progress)
        elapsed = time.perf_counter() - started
        while not slots.empty():
            slots.get().close()
    finally:
        engine.close()
    ids = [catalogue[place].id for place in truth]
    fused = [
        next((place.rank for place in one.journals if place.journal == own), 0)
        for one, own in zip(ranked, ids, strict=True)
    ]
    rows = sum(one.rows for one in ranked)
    prior = np.array([request.first_stage for request in requests])
    listed = np.array([request.candidates for request in requests])
    return Evaluation(
        release=f"{manifest.name} ({manifest.fingerprint})",
        engine=info.name,
        device=info.device,
        first_stage_weight=manifest.first_stage_weight,
        candidates=count,
        first_stage=quality_of(ranks_of(prior, listed, truth)),
        fused=quality_of(np.array(fused)),
        unknown_journals=len(papers.journal) - len(known),
        rows=round(rows / len(ranked), 2),
        manuscripts_per_s=round(len(requests) / elapsed, 1),
    )


def _rank_all(
    requests: list[Request], served: ServedModel, slots: queue.SimpleQueue[Slot], progress: Progress
) -> list[Ranked]:
    """Each request's ranking; each slot works on a paper at a time."""

    def work(request: Request) -> Ranked:
        slot = slots.get()
        try:
            return rank_alone(served, slot, request)
        finally:
            slots.put(slot)

    with ThreadPoolExecutor(slots.qsize()) as pool:
        ranked = [pool.submit(work, request) for request in requests]
        try:
            for done, future in enumerate(as_completed(ranked), start=1):
                future.result()
                progress("scoring", done / len(ranked))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [future.result() for future in ranked]
