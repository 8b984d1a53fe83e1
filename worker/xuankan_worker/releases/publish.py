"""From a trained checkpoint to a release: ONNX graph, INT8 by calibration, template and manifest."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from xuankan.errors import ReleaseError
from xuankan.protocol.template import Template
from xuankan_worker.manifest import MODEL, Architecture, Manifest, file_sha256
from xuankan_worker.releases.checkpoint import Checkpoint
from xuankan_worker.releases.dataset import TrainingData
from xuankan_worker.releases.graph import write_graph
from xuankan_worker.releases.packing import Ragged
from xuankan_worker.releases.quantize import METHODS, Pair, quantize


def publish(
    name: str,
    checkpoint: Path,
    data: TrainingData,
    out: Path,
    commit: str,
    samples: int | None = 600,
    progress: Callable[[str, float], None] = lambda _what, _part: None,
) -> Manifest:
    """Write the release `name` of a checkpoint that `xuankan model train` made into the directory `out`.

    Args:
        name: of the release.
        checkpoint: Hugging Face files and training.json.
        data: what the checkpoint was trained on; calibration pairs come from its training papers.
        out: gets model.onnx, manifest.json and, if it is not the package's, the template.
        commit: of the source tree that makes it, for the record.
        samples: calibration pairs; None leaves the model float32, to compare with.
        progress: called with what is being done and the share of it that is done.

    Raises:
        ReleaseError: the checkpoint cannot be read, or was trained on other data.
    """
    loaded = Checkpoint.load(checkpoint)
    training = _training(checkpoint)
    for part in ("template", "catalogue", "papers_sha256"):
        if (trained := training["data"].get(part)) != (given := data.about.get(part)):
            raise ReleaseError(f"{checkpoint} was trained with {part} {trained!r}, the data have {given!r}")
    model, record = write_graph(loaded), None
    if samples is not None:
        model, record = quantize(model, calibration_pairs(data, samples), METHODS, progress)
    out.mkdir(parents=True, exist_ok=True)
    (out / MODEL).write_bytes(model.SerializeToString())
    files = [MODEL]
    if data.template.fingerprint != Template.default().fingerprint:
        data.template.save(out, data.tokenizer_json)
        files += ["tokenizer.json", "template.json"]
    manifest = Manifest(
        name=name,
        base_model=training["base_model"],
        architecture=Architecture(
            "bert",
            loaded.layers,
            loaded.heads,
            loaded.hidden_size,
            loaded.intermediate_size,
            loaded.vocabulary_size,
            min(data.template.max_length, loaded.max_positions),
        ),
        template=data.template.fingerprint,
        catalogue=data.about["catalogue"],
        first_stage_weight=training["fusion_weight"],
        temperature=training["temperature"],
        files={file: file_sha256(out / file) for file in files},
        quantization=record,
        training={key: training[key] for key in ("base_sha256", "data", "settings", "device", "torch")},
        commit=commit,
        metrics={split: measured["fused"] for split, measured in training["quality"].items()},
    )
    manifest.save(out)
    return manifest


def calibration_pairs(data: TrainingData, count: int, seed: int = 0) -> list[Pair]:
    """Pairs as a worker sees them: training papers, each with one of its candidates."""
    random = np.random.default_rng(seed)
    lists = data.splits["train"]
    cls_, sep = [data.template.cls_id], [data.template.sep_id]
    pairs: list[Pair] = []
    for paper in random.choice(len(lists), count, replace=count > len(lists)):
        manuscript = _sequence(lists.manuscripts, paper)
        journal = int(random.choice(lists.candidates[paper]))
        ids = [cls_, manuscript, sep, _sequence(data.profiles, journal), sep]
        pairs.append(Pair(np.concatenate(ids).astype(np.int32), len(manuscript) + 2))
    return pairs


def _sequence(ragged: Ragged, index: int) -> NDArray[Any]:
    return ragged.ids[ragged.offsets[index] : ragged.offsets[index + 1]]


def _training(checkpoint: Path) -> dict[str, Any]:
    path = checkpoint / "training.json"
    try:
        training = cast("dict[str, Any]", json.loads(path.read_bytes()))
    except (OSError, ValueError) as error:
        raise ReleaseError(f"{path} cannot be read: {error}") from error
    wanted = {
        "base_model": str, "base_sha256": str | None, "data": dict, "device": str,
        "fusion_weight": float | int, "quality": dict, "settings": dict, "temperature": float | int,
        "torch": str,
    }  # fmt: skip
    for key, kind in wanted.items():
        if not isinstance(training.get(key), kind):
            found = training.get(key)
            raise ReleaseError(f"{path}: {key} is {found!r}: `xuankan model train` did not make this")
    return training
