"""Puts papers into the corpus of a release, without training: titles and links, and the graph's constant."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from xuankan.catalogue.model import Catalogue, fold
from xuankan.catalogue.paper_tables import JournalPaper, PaperTable
from xuankan.catalogue.papers import Progress
from xuankan.errors import ReleaseError
from xuankan.protocol.template import Template
from xuankan_worker.engines import EngineKind, open_engine
from xuankan_worker.execution.corpus import Corpus
from xuankan_worker.execution.evidence_rows import TITLE_TOKENS
from xuankan_worker.manifest import CORPUS, ENCODER, GPU_ENCODER, Manifest, file_sha256, template_of
from xuankan_worker.releases.embed import embed
from xuankan_worker.releases.onnx_file import read_onnx
from xuankan_worker.releases.rounding import rounded

_EMBEDDINGS = ".embeddings"
_GRAPH_BYTES = 2**31 - 2**20
"""Protocol Buffers write no message of 2 GiB."""


@dataclass(frozen=True, slots=True)
class Extended:
    """What was done: papers added, papers that were there, papers now, and rows passed over."""

    release: str
    added: int
    already_there: int
    papers: int
    journals: int
    unknown: int
    untitled: int


def extend(
    release: Path,
    out: Path,
    catalogue: Catalogue,
    tables: Sequence[PaperTable],
    engine_kind: EngineKind,
    progress: Progress,
) -> Extended:
    """Write a release whose corpus holds more papers. An interrupted run goes on where it was.

    Args:
        release: to start from; it stays as it is.
        out: directory of the new one.
        catalogue: whose journals the papers are of.
        tables: papers.
        engine_kind: what computes embeddings.
        progress: told how far it is.

    Raises:
        ReleaseError: the release has no corpus, or the new one cannot be written or would be too large.
        CatalogueError: a table cannot be read.
        EngineError: the encoder fails.
    """
    manifest = Manifest.load(release)
    if manifest.encoder is None:
        raise ReleaseError(f"release {manifest.name} has no encoder, and so no corpus")
    if out.resolve() == release.resolve():
        raise ReleaseError(f"{out} is the release itself: a worker may be reading it; give another directory")
    template = template_of(manifest, release)
    corpus = Corpus.load(release / CORPUS, catalogue)
    papers, there = _new_papers(corpus, tables, progress)
    engine = open_engine(engine_kind, release)
    try:
        vectors = embed(engine, template, papers, out / _EMBEDDINGS, progress)
    finally:
        engine.close()
    progress("writing the release", 0.0)
    files: dict[str, str] = {}
    for name, digest in manifest.files.items():
        if name in (ENCODER, GPU_ENCODER):
            graph = read_onnx(release / name)
            with_papers(graph, vectors)
            if graph.ByteSize() > _GRAPH_BYTES:
                raise ReleaseError(f"{name} would have {graph.ByteSize():,} bytes; an ONNX file holds 2 GiB")
            (out / name).write_bytes(graph.SerializeToString())
        elif name == CORPUS:
            _write(release / CORPUS, out / CORPUS, papers, catalogue, template)
        else:
            shutil.copyfile(release / name, out / name)
            files[name] = digest
            continue
        files[name] = file_sha256(out / name)
    for name in ("tokenizer.json", "template.json"):
        if (release / name).exists():
            shutil.copyfile(release / name, out / name)
    # Metrics are of the corpus that they were measured with.
    made = replace(manifest, files=files, metrics={})
    made.save(out)
    shutil.rmtree(out / _EMBEDDINGS)
    return Extended(
        release=made.fingerprint,
        added=len(papers),
        already_there=there,
        papers=len(corpus) + len(papers),
        journals=len({paper.journal for paper in papers}),
        unknown=sum(table.unknown for table in tables),
        untitled=sum(table.untitled for table in tables),
    )


def _new_papers(
    corpus: Corpus, tables: Sequence[PaperTable], progress: Progress
) -> tuple[list[JournalPaper], int]:
    """The papers that the corpus lacks, and how many it has."""
    progress("comparing with the corpus", 0.0)
    seen = {
        (int(journal), fold(corpus.titles[i]))
        for i, journal in enumerate(corpus.journal.tolist())
        if journal >= 0
    }
    papers: list[JournalPaper] = []
    there = 0
    for table in tables:
        for paper in table:
            key = (paper.journal, fold(paper.title))
            if key in seen:
                there += 1
                continue
            seen.add(key)
            papers.append(paper)
    return papers, there


def with_papers(graph: onnx.ModelProto, vectors: NDArray[np.float32]) -> None:
    """Put papers behind those of a graph's corpus, in place.

    Args:
        graph: an encoder's, with the constant `corpus`, float [D, N], or `corpus.int8` and `corpus.scale`.
        vectors: float32 [M, D], of length one.

    Raises:
        ReleaseError: the graph has no such constant.
    """
    held = {tensor.name: tensor for tensor in graph.graph.initializer if tensor.name.startswith("corpus")}
    if "corpus.int8" in held:
        parts = rounded({"corpus": vectors})
        added = {"corpus.int8": parts["corpus"].T, "corpus.scale": parts["corpus.scale"][:, 0]}
    elif "corpus" in held:
        added = {"corpus": vectors.T}
    else:
        raise ReleaseError("the encoder's graph has no constant `corpus`: it was not made by `xuankan model`")
    for name, more in added.items():
        old = numpy_helper.to_array(held[name])
        if old.ndim == 2 and old.shape[0] != more.shape[0]:  # a matrix
            raise ReleaseError(f"the corpus has {old.shape[0]} dimensions, the new papers {more.shape[0]}")
        both = np.concatenate([old, more.astype(old.dtype)], axis=-1)
        held[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(both), name))


def _write(
    old: Path, new: Path, papers: Sequence[JournalPaper], catalogue: Catalogue, template: Template
) -> None:
    with np.load(old, allow_pickle=False) as stored:
        found: dict[str, NDArray[Any]] = {name: stored[name] for name in stored.files}
    journals = [str(name) for name in found["journals"]]
    number = {name: i for i, name in enumerate(journals)}
    of_paper = [number.setdefault(catalogue[paper.journal].id, len(number)) for paper in papers]
    tokens = [ids[:TITLE_TOKENS] for ids in _title_tokens([paper.title for paper in papers], template)]
    found["journals"] = np.array(list(number))
    found["journal"] = _joined(found["journal"], of_paper)
    found["year"] = _joined(found["year"], [paper.year for paper in papers])
    _append(found, "titles", "title_offsets", [np.frombuffer(p.title.encode(), np.uint8) for p in papers])
    _append(found, "links", "link_offsets", [np.frombuffer(p.link.encode(), np.uint8) for p in papers])
    _append(found, "tokens", "token_offsets", tokens)
    arrays: dict[str, Any] = dict(found)
    np.savez_compressed(new, **arrays)


def _title_tokens(titles: list[str], template: Template) -> list[NDArray[np.int32]]:
    found = template.tokenizer.encode_batch_fast(titles, add_special_tokens=False)
    return [np.array(one.ids, np.int32) for one in found]


def _joined(old: NDArray[Any], more: Sequence[int]) -> NDArray[Any]:
    both = np.concatenate([old.astype(np.int64), np.array(more, np.int64)])
    return both.astype(np.promote_types(old.dtype, np.min_scalar_type(int(both.max(initial=0)))))


def _append(found: dict[str, NDArray[Any]], values: str, offsets: str, more: Sequence[NDArray[Any]]) -> None:
    ends = np.cumsum([len(one) for one in more], dtype=np.int64)
    old = found[values]
    joined = np.concatenate([old, *more]) if more else old
    found[values] = joined.astype(old.dtype) if joined.max(initial=0) <= np.iinfo(old.dtype).max else joined
    found[offsets] = np.concatenate([found[offsets].astype(np.int64), len(old) + ends])
