"""Embeddings of papers by a release's encoder, on all of its slots; an interrupted run goes on."""

from __future__ import annotations

import hashlib
import queue
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xuankan.catalogue.paper_tables import JournalPaper
from xuankan.catalogue.papers import Progress
from xuankan.errors import ReleaseError
from xuankan.protocol.template import Template
from xuankan_worker.engines import EncoderInfo, Engine, Slot
from xuankan_worker.execution.evidence_rows import manuscript_rows

AT_ONCE = 2048
"""Papers of a piece of work, whose embeddings are one file until all are there."""


def embed(
    engine: Engine, template: Template, papers: Sequence[JournalPaper], folder: Path, progress: Progress
) -> NDArray[np.float32]:
    """Unit vectors of papers, float32 [N, D].

    Args:
        engine: with an encoder.
        template: of its release.
        papers: N.
        folder: where embeddings are kept from run to run: a piece that an earlier run has made is read.
        progress: told as papers are done.

    Raises:
        ReleaseError: the engine has no encoder.
        EngineError: it fails.
    """
    info = engine.info.encoder
    if info is None:
        raise ReleaseError(f"engine {engine.info.name} has no encoder: a corpus needs one")
    folder.mkdir(parents=True, exist_ok=True)
    slots: queue.SimpleQueue[Slot] = queue.SimpleQueue()
    for index in range(engine.info.contexts):
        slots.put(engine.open_slot(index))
    pieces = [papers[start : start + AT_ONCE] for start in range(0, len(papers), AT_ONCE)]
    done: list[NDArray[np.float32] | None] = [None] * len(pieces)

    def work(number: int) -> int:
        path = folder / f"{_digest(engine.info.fingerprint, pieces[number])}.npy"
        if path.exists():
            done[number] = np.load(path, allow_pickle=False)
            return number
        slot = slots.get()
        try:
            vectors = done[number] = _embed(slot, info, template, pieces[number])
        finally:
            slots.put(slot)
        partial = path.with_suffix(f".{number}.partial")
        with partial.open("wb") as file:
            np.save(file, vectors, allow_pickle=False)
        partial.replace(path)
        return number

    finished = 0
    with ThreadPoolExecutor(engine.info.contexts) as pool:
        waiting = [pool.submit(work, number) for number in range(len(pieces))]
        try:
            for future in as_completed(waiting):
                finished += len(pieces[future.result()])
                progress("reading papers", finished / len(papers))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    while not slots.empty():
        slots.get().close()
    return np.concatenate([np.empty((0, info.dimensions), np.float32), *(p for p in done if p is not None)])


def _embed(
    slot: Slot, info: EncoderInfo, template: Template, papers: Sequence[JournalPaper]
) -> NDArray[np.float32]:
    tokens = [template.encode_manuscript(paper.title, paper.abstract).ids for paper in papers]
    found = np.empty((len(papers), info.dimensions), np.float32)
    by_length = iter(sorted(range(len(papers)), key=lambda i: len(tokens[i])))
    while batch := list(islice(by_length, info.max_batch)):
        longest = len(tokens[batch[-1]]) + 2
        bucket = next((bucket for bucket in info.buckets if bucket >= longest), info.buckets[-1])
        found[batch] = slot.encode(manuscript_rows(bucket, [tokens[i] for i in batch], template)).embedding
    return found


def _digest(fingerprint: str, papers: Sequence[JournalPaper]) -> str:
    digest = hashlib.sha256(fingerprint.encode())
    for paper in papers:
        digest.update(f"{paper.title}\0{paper.abstract}\0".encode())
    return digest.hexdigest()[:32]
