"""Makes a release of public weights and of a delta, what training changed of them.

A delta's directory holds:

- `delta.json`: which public weights, and the hashes of the other files.
- `delta.npz`: the change of each weight (see `delta.py`), and whole what the public weights lack: the heads.
- `embeddings.npy`: int8 [N, D], of the papers of the packaged corpus, in its order. The papers' abstracts are
  not in the corpus, so nobody could compute these anew.
- `manifest.json`: of the release to be, its graph not yet among its files.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file  # pyright: ignore[reportUnknownVariableType]

from xuankan.errors import ReleaseError
from xuankan.protocol.template import Template
from xuankan_worker.manifest import CORPUS, GPU_ENCODER, Manifest, default_release, file_sha256
from xuankan_worker.releases import public_weights
from xuankan_worker.releases.checkpoint import Checkpoint, read_config
from xuankan_worker.releases.delta import expand
from xuankan_worker.releases.gpu_retrieval_graph import write_gpu_retrieval_graph
from xuankan_worker.releases.rounding import Arrays, restored, rounded
from xuankan_worker.releases.vocabulary import word_order

DESCRIPTION, CHANGES, EMBEDDINGS = "delta.json", "delta.npz", "embeddings.npy"
FORMAT = "xuankan-delta/1"
_WORDS = "embeddings.word_embeddings.weight"
Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Delta:
    """What `delta.json` says.

    Attributes:
        public: name of the public weights.
        public_sha256: of their `model.safetensors`.
        requirements: packages that carry them, as pip takes them, with hashes.
        files: SHA-256 by name of the delta's other files.
    """

    public: str
    public_sha256: str
    requirements: Sequence[str]
    files: Mapping[str, str]

    @classmethod
    def load(cls, directory: Path) -> Delta:
        """Read it, and check the other files.

        Raises:
            ReleaseError: it is missing or damaged, or a file that it names is.
        """
        path = directory / DESCRIPTION
        try:
            content = cast("dict[str, Any]", json.loads(path.read_bytes()))
            if (found := content.pop("format", None)) != FORMAT:
                raise ReleaseError(f"{path}: format is {found!r}; this build reads {FORMAT!r}")
            delta = cls(**content)
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise ReleaseError(f"{path} cannot be read as a delta: {error}") from error
        for name in (CHANGES, EMBEDDINGS):
            _check(directory / name, delta.files.get(name, "missing"), f"{path} says")
        return delta


def assemble(
    directory: Path,
    out: Path,
    public: Path | None,
    template: Template,
    corpus: Path,
    progress: Progress,
    commit: str = "",
) -> Manifest:
    """Make a release for GPUs.

    Args:
        directory: of the delta.
        out: gets the release.
        public: folder with the public weights; None downloads them.
        template: whose vocabulary the release has.
        corpus: `corpus.npz` of the papers that the delta has embeddings of.
        progress: told how far it is.
        commit: of the source tree.

    Raises:
        ReleaseError: something is missing, damaged, or of another release; the message names it.
    """
    delta, manifest = Delta.load(directory), Manifest.load(directory)
    if manifest.template != template.fingerprint:
        raise ReleaseError(
            f"{directory} is for template {manifest.template}, this is {template.fingerprint}: "
            "take the delta of this version"
        )
    _check(corpus, manifest.files.get(CORPUS, "missing"), f"{directory / 'manifest.json'} says")
    assert manifest.encoder is not None
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".assemble-") as name:
        scratch = Path(name)
        if public is None:
            public = public_weights.download(
                delta.requirements, scratch, lambda what, part: progress(what, 0.6 * part)
            )
        progress("checking the public weights", 0.6)
        public_weights.check(public, delta.public, delta.public_sha256)
        progress("adding the delta", 0.7)
        checkpoint = _checkpoint(public, directory, template, scratch / "trained")
        progress("writing the graph", 0.8)
        graph = write_gpu_retrieval_graph(
            checkpoint, _embeddings(directory / EMBEDDINGS), manifest.encoder.neighbours
        )
        (scratch / GPU_ENCODER).write_bytes(graph.SerializeToString())
        (scratch / GPU_ENCODER).replace(out / GPU_ENCODER)
    shutil.copyfile(corpus, out / CORPUS)
    files = {GPU_ENCODER: file_sha256(out / GPU_ENCODER), CORPUS: manifest.files[CORPUS]}
    manifest = replace(manifest, files=files, commit=commit)
    manifest.save(out)
    return manifest


def packaged_corpus() -> Path:
    """The papers of the packaged release, which deltas have embeddings of."""
    return default_release() / CORPUS


def _checkpoint(public: Path, delta: Path, template: Template, out: Path) -> Checkpoint:
    """Public weights, rounded as they were when training began, with their changes."""
    config = read_config(public)
    prefix = f"{config['model_type']}."
    before = {name.removeprefix(prefix): value for name, value in _load(public).items()}
    try:
        with np.load(delta / CHANGES) as stored:
            changes = expand({name: stored[name] for name in stored.files})
    except (OSError, ValueError) as error:
        raise ReleaseError(f"{delta / CHANGES} cannot be read: {error}") from error
    words = restored(rounded({_WORDS: before[_WORDS]}))[_WORDS]
    order = word_order(public, template.tokenizer, len(words))
    after: Arrays = {prefix + _WORDS: words[order]}
    for name, change in changes.items():
        own = before.get(name.removeprefix(prefix))
        if own is not None and own.shape != change.shape:
            raise ReleaseError(f"{delta / CHANGES}: {name} is {change.shape}, the public one {own.shape}")
        after[name] = change if own is None else restored(rounded({name: own}))[name] + change
    out.mkdir()
    save_file({name: value.astype(np.float16) for name, value in after.items()}, out / public_weights.WEIGHTS)
    (out / "config.json").write_text(json.dumps({**config, "vocab_size": len(order)}))
    return Checkpoint.load(out, scores=False)


def _load(public: Path) -> Arrays:
    arrays = load_file(public / public_weights.WEIGHTS)
    if not any(name.endswith(_WORDS) for name in arrays):
        raise ReleaseError(f"{public / public_weights.WEIGHTS} has no {_WORDS}: it is no encoder")
    return arrays


def _embeddings(path: Path) -> NDArray[np.float32]:
    """Of length one."""
    try:
        values = np.load(path).astype(np.float32)
    except (OSError, ValueError) as error:
        raise ReleaseError(f"{path} cannot be read: {error}") from error
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def _check(path: Path, expected: str, who: str) -> None:
    try:
        found = file_sha256(path)
    except OSError as error:
        raise ReleaseError(f"{path} cannot be read: {error}") from error
    if found != expected:
        raise ReleaseError(f"{path} is damaged or another: its SHA-256 is {found}, {who} {expected}")
