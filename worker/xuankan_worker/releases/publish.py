"""From a training run to a release: the encoder's graph with its corpus, INT8, corpus file and manifest.

Needs the `export` and `data` extras; no torch and no GPU.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np

from xuankan.catalogue import Catalogue
from xuankan.errors import ReleaseError
from xuankan.protocol.template import Template
from xuankan_worker.manifest import (
    CORPUS,
    ENCODER,
    Architecture,
    EncoderShape,
    Fusion,
    Manifest,
    file_sha256,
)
from xuankan_worker.releases.checkpoint import Checkpoint
from xuankan_worker.releases.corpus import CorpusPapers, read_corpus, write_corpus
from xuankan_worker.releases.quantize import METHODS, Pair, quantize
from xuankan_worker.releases.retrieval_graph import write_retrieval_graph
from xuankan_worker.releases.run_fusion import RunFusion
from xuankan_worker.releases.training_data import TrainingData
from xuankan_worker.releases.vectors import CORPUS_VECTORS, CorpusVectors

NEIGHBOURS = 1024
"""Papers of the corpus that an encoder gives for a manuscript."""
_BALANCED = tuple(method for method in METHODS if method.balance is not None)
"""Without balanced channels an encoder's logits err several times as much."""
_RECORDED = ("base_model", "base_sha256", "data", "settings", "training_s", "device", "torch")


def publish(
    name: str,
    run: Path,
    data: TrainingData,
    papers: Path,
    catalogue: Catalogue,
    out: Path,
    commit: str,
    samples: int | None = 300,
    progress: Callable[[str, float], None] = lambda _what, _part: None,
) -> Manifest:
    """Write the release `name` of a run that `xuankan model train` and `fuse` have finished.

    Args:
        name: of the release.
        run: the run's directory.
        data: what it was trained on.
        papers: the table that `data` was prepared from: the corpus's titles and links come from it.
        catalogue: that it was trained for.
        out: gets encoder.onnx, corpus.npz, manifest.json and, if it is not the package's, the template.
        commit: of the source tree that makes it, for the record.
        samples: manuscripts that INT8 is calibrated with; None leaves the graph float32, to compare with.
        progress: called with what is being done and the share of it that is done.

    Raises:
        ReleaseError: the run is not finished, or is of other data, papers or another catalogue.
    """
    fusion, vectors = RunFusion.load(run), CorpusVectors.load(run)
    checkpoint = Checkpoint.load(run / vectors.encoder, scores=False)
    training = _training(run / vectors.encoder)
    _same(run, "data", training["data"], data.about)
    _same(run, "catalogue", data.about["catalogue"], catalogue.version)
    _same(run, "papers_sha256", data.about["papers_sha256"], file_sha256(papers))
    progress("reading papers", 0.0)
    listed = read_corpus(papers, vectors.splits, catalogue)
    _check_order(listed, vectors, data, catalogue)
    progress("writing the graph", 0.0)
    model, record = write_retrieval_graph(checkpoint, vectors.unit(), NEIGHBOURS), None
    if samples is not None:
        rows = calibration_rows(data, samples)
        model, record = quantize(model, rows, _BALANCED, progress, "logits")
    out.mkdir(parents=True, exist_ok=True)
    (out / ENCODER).write_bytes(model.SerializeToString())
    write_corpus(out / CORPUS, listed, catalogue, data.template)
    files = [ENCODER, CORPUS]
    if data.template.fingerprint != Template.default().fingerprint:
        data.template.save(out, data.tokenizer_json)
        files += ["tokenizer.json", "template.json"]
    longest = min(data.template.max_manuscript_tokens + 2, checkpoint.max_positions)
    shape = Architecture(
        checkpoint.family,
        checkpoint.layers,
        checkpoint.heads,
        checkpoint.hidden_size,
        checkpoint.intermediate_size,
        checkpoint.vocabulary_size,
        longest,
    )
    manifest = Manifest(
        name=name,
        base_model=str(training["base_model"]),
        architecture=None,
        template=data.template.fingerprint,
        catalogue=catalogue.version,
        first_stage_weight=0.0,
        temperature=1.0,
        files={file: file_sha256(out / file) for file in files},
        quantization=record,
        training={key: training[key] for key in _RECORDED if key in training},
        encoder=EncoderShape(
            shape, data.journals, vectors.dimensions, min(NEIGHBOURS, len(vectors.embeddings))
        ),
        fusion=Fusion(
            base=fusion.seen,
            full=fusion.seen,
            unseen_base=fusion.unseen,
            unseen_full=fusion.unseen,
            kernel_temperature=vectors.kernel.temperature,
            memory_years=vectors.kernel.memory_years,
            now=vectors.kernel.now,
            coverage=1.0,
            most_rows=0,
            journal_tokens=0,
        ),
        commit=commit,
        metrics=fusion.metrics,
    )
    manifest.save(out)
    return manifest


def calibration_rows(data: TrainingData, count: int, seed: int = 0) -> list[Pair]:
    """Manuscripts as an encoder reads them: papers of the split `train`."""
    random, template = np.random.default_rng(seed), data.template
    manuscripts = data.splits["train"].manuscripts
    rows: list[Pair] = []
    for paper in random.choice(len(manuscripts), count, replace=count > len(manuscripts)).tolist():
        ids = [[template.cls_id], manuscripts[paper], [template.sep_id]]
        row = np.concatenate(ids).astype(np.int32)
        rows.append(Pair(row, len(row)))
    return rows


def _check_order(
    papers: CorpusPapers, vectors: CorpusVectors, data: TrainingData, catalogue: Catalogue
) -> None:
    """Check that the papers are those of the embeddings, in their order."""
    place = {journal.title: number for number, journal in enumerate(catalogue)}
    truth = np.concatenate([data.splits[split].truth for split in vectors.splits])
    years = np.concatenate([data.splits[split].year for split in vectors.splits])
    count = len(vectors.embeddings)
    found = np.array([place[title] for title in papers.journal])
    if len(found) != count or (found != truth).any() or (np.array(papers.year) != years).any():
        raise ReleaseError(
            f"{CORPUS_VECTORS} holds {count} embeddings, but the table has {len(found)} papers of "
            f"{' and '.join(vectors.splits)}, or others: they are not of one `xuankan model prepare`"
        )


def _same(run: Path, what: str, trained: object, given: object) -> None:
    if trained != given:
        raise ReleaseError(f"{run} was trained with {what} {trained!r}, but given is {given!r}")


def _training(checkpoint: Path) -> dict[str, Any]:
    path = checkpoint / "training.json"
    try:
        training = cast("dict[str, Any]", json.loads(path.read_bytes()))
        _ = training["base_model"], training["data"]["catalogue"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReleaseError(f"{path} was not written by `xuankan model train`: {error!r}") from error
    return training
