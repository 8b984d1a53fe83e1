"""Which graph a plan is built from: the release's own for GPUs, or one of the weights of that for CPUs."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

import onnx

from xuankan.errors import ReleaseError
from xuankan_worker.engines.tensorrt.layout import PlanKind
from xuankan_worker.engines.tensorrt.plan import Precision, model_file
from xuankan_worker.manifest import ENCODER, GPU_ENCODER, MODEL, Manifest, file_sha256
from xuankan_worker.releases.checkpoint import Checkpoint
from xuankan_worker.releases.dequantize import read_checkpoint, read_encoder
from xuankan_worker.releases.encoder_graph import write_encoder_graph
from xuankan_worker.releases.gpu_retrieval_graph import write_gpu_retrieval_graph
from xuankan_worker.releases.onnx_file import read_onnx

_MAKE: dict[Precision, str] = {
    "fp16": "xuankan model export {} --out DIR",
    "int8": "xuankan model quantize {} --calibration PAPERS",
    "fp8": "xuankan model quantize {} --calibration PAPERS --precision fp8",
}
"""What makes a release with a cross-encoder's graph of each precision."""


@dataclass(frozen=True, slots=True)
class GpuGraph:
    """A graph to build a plan from.

    Attributes:
        kind: of what.
        path: the file.
        name: the release's file that it is, or was written from.
        sha256: of that file.
        opset: of the graph.
    """

    kind: PlanKind
    path: Path
    name: str
    sha256: str
    opset: int


def gpu_graph(
    release: Path, manifest: Manifest, kind: PlanKind, precision: Precision, scratch: Path
) -> GpuGraph:
    """The graph that a release's encoder or cross-encoder is built from.

    Args:
        release: its directory.
        manifest: its manifest.
        kind: which of the two.
        precision: of a cross-encoder; an encoder is FP16.
        scratch: gets a graph that has to be written.

    Raises:
        ReleaseError: the release has no graph that will do, or it is damaged.
    """
    if kind == "encoder":
        own, other, make = GPU_ENCODER, ENCODER, ""
    else:
        own, other = model_file(precision), MODEL if precision == "fp16" else None
        make = f"; make it: {_MAKE[precision].format(shlex.quote(str(release)))}"
    name = next((name for name in (own, other) if name in manifest.files), None)
    if name is None:
        raise ReleaseError(f"release {manifest.name} has no {own}{make}")
    path = release / name
    try:
        found = file_sha256(path)
    except OSError as error:
        raise ReleaseError(f"release {manifest.name}: {path} cannot be read: {error}") from error
    if found != manifest.files[name]:
        raise ReleaseError(
            f"release {manifest.name}: {path} is damaged or was changed: its SHA-256 is {found}, the "
            f"manifest says {manifest.files[name]}{make}"
        )
    if name == own:
        return GpuGraph(kind, path, name, found, _opset(path))
    written = scratch / own
    written.write_bytes(_written(release, manifest, kind, scratch).SerializeToString())
    return GpuGraph(kind, written, name, found, _opset(written))


def _written(release: Path, manifest: Manifest, kind: PlanKind, scratch: Path) -> onnx.ModelProto:
    """An FP16 graph of the weights of a release's graph for CPUs."""
    if kind == "encoder":
        assert manifest.encoder is not None
        checkpoint, corpus = read_encoder(release)
        return write_gpu_retrieval_graph(checkpoint, corpus, manifest.encoder.neighbours)
    read_checkpoint(release, scratch / "checkpoint")
    return write_encoder_graph(Checkpoint.load(scratch / "checkpoint"))


def _opset(path: Path) -> int:
    return next((entry.version for entry in read_onnx(path).opset_import if not entry.domain), 0)
