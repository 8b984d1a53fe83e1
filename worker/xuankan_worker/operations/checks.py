"""The worker's part of `xuankan doctor`: the release, the engines, the GPU with its driver and TensorRT."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from xuankan.catalogue import Catalogue
from xuankan.doctor.findings import Finding, State
from xuankan.errors import EngineError, EngineUnavailable, XuankanError
from xuankan_worker.engines.tensorrt.library import GpuIdentity, Library, find_gpu, installed_libraries
from xuankan_worker.manifest import Manifest, default_release

AREA: Final = "worker"
_DRIVER: Final = Path("/proc/driver/nvidia/version")
_INSTALL: Final = "pip install 'xuankan[cpu]', or 'xuankan[gpu]' where there is an NVIDIA GPU"


def checks(release: Path | None, catalogue: Catalogue | None, must_serve: bool) -> list[Finding]:
    """Look at what a worker on this machine would serve, and on what.

    Args:
        release: its directory; None for the package's.
        catalogue: what it would rank; None if that cannot be read.
        must_serve: whether it is a failure if no engine is installed, as on a producer's machine.
    """
    if not must_serve and not any(map(_is_installed, ("onnxruntime", "tensorrt", "tensorrt_rtx"))):
        fact = "no engine is installed here, and producers do not need one"
        return [Finding(AREA, "engine", "ok", fact)]
    directory = release or default_release()
    found: list[Finding] = []
    manifest = _release(directory, catalogue, found)
    gpu, libraries = find_gpu(), installed_libraries()
    found += [_gpu(gpu), *_tensorrt(gpu, libraries), _engine(directory, manifest, gpu, libraries)]
    return found


def _is_installed(module: str) -> bool:
    return find_spec(module) is not None


def _release(directory: Path, catalogue: Catalogue | None, found: list[Finding]) -> Manifest | None:
    """Check a release; None if it cannot be served."""
    from xuankan_worker.engines.tensorrt.plan import ENGINE_MANIFEST, ENGINES
    from xuankan_worker.manifest import template_of

    absent: list[str] = []
    try:
        manifest = Manifest.load(directory)
        if any((directory / ENGINES).glob(f"*/{ENGINE_MANIFEST}")):
            absent = [name for name in manifest.files if not (directory / name).exists()]
        manifest.verify(directory, absent)
        template_of(manifest, directory)
    except XuankanError as error:
        remedy = "choose another with --model, or reinstall this one"
        found.append(Finding(AREA, "release", "failure", str(error), remedy))
        return None
    if absent:  # engines alone serve, and weigh half as much
        fact = f"{manifest.name}, {manifest.fingerprint}, for engines only: without {', '.join(absent)}"
    else:
        files = "file is" if len(manifest.files) == 1 else "files are"
        fact = f"{manifest.name}, {manifest.fingerprint}, its {len(manifest.files)} {files} as made"
    found.append(Finding(AREA, "release", "ok", fact))
    if catalogue is not None and catalogue.version != manifest.catalogue:
        fact = f"trained on catalogue {manifest.catalogue}, but the catalogue here is {catalogue.version}"
        found.append(
            Finding(
                AREA,
                "release",
                "warning",
                fact,
                "measure it on your papers: xuankan model evaluate --papers FILE",
            )
        )
    return manifest


def _gpu(gpu: GpuIdentity | None) -> Finding:
    if gpu is not None:
        fact = f"{gpu.name}, compute capability {gpu.capability}, driver {gpu.driver}"
        return Finding(AREA, "GPU", "ok", fact)
    if not _DRIVER.exists():
        return Finding(AREA, "GPU", "ok", "none: the worker runs on the CPU")
    if not _is_installed("cuda"):
        fact = "an NVIDIA driver is loaded, but the package cuda-bindings is not installed"
        return Finding(AREA, "GPU", "warning", fact, "pip install 'xuankan[gpu]'")
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    fact = "an NVIDIA driver is loaded, but CUDA finds no GPU"
    if hidden is not None:
        fact += f" (CUDA_VISIBLE_DEVICES is {hidden!r})"
    remedy = "check nvidia-smi; a container needs `--gpus all`; CUDA 13 needs driver 580 or later"
    return Finding(AREA, "GPU", "warning", fact, remedy)


def _tensorrt(gpu: GpuIdentity | None, libraries: list[Library]) -> list[Finding]:
    if not libraries:
        if gpu is None:
            return []
        return [
            Finding(
                AREA,
                "TensorRT",
                "warning",
                "not installed: the GPU is not used",
                "pip install 'xuankan[gpu]'",
            )
        ]
    found: list[Finding] = []
    for library in libraries:
        state: State = "ok"
        fact, remedy = str(library), ""
        if library.is_rtx and gpu is not None and gpu.capability == "9.0":
            fact += "; NVIDIA does not list Hopper for it"
            if tuple(int(part) for part in library.version.split(".")[:2]) >= (1, 7):
                state = "failure"
                fact += ", and refuses it from 1.7 on"
                remedy = "pip install 'xuankan[gpu]', or 'xuankan[gpu-rtx]', which is 1.6.1"
        found.append(Finding(AREA, "TensorRT", state, fact, remedy))
    return found


def _engine(
    directory: Path, manifest: Manifest | None, gpu: GpuIdentity | None, libraries: list[Library]
) -> Finding:
    """What `--engine auto` would take, tried out as far as that is quick."""
    if manifest is None:
        return Finding(AREA, "engine", "unknown", "not tested without a release")
    reason = ""
    if gpu is not None and libraries:
        try:
            return Finding(AREA, "engine", "ok", _try_plan(directory, gpu, libraries))
        except EngineError as error:
            reason = str(error)
    try:
        fact = _try_onnx(directory)
    except XuankanError as error:  # a release of engines alone has no graph
        return Finding(AREA, "engine", "failure", f"{reason}; {error}" if reason else str(error), _INSTALL)
    if reason:
        remedy = "xuankan model build, or xuankan model build DIR and xuankan worker run --model DIR"
        return Finding(AREA, "engine", "warning", f"{fact}; the GPU is not used: {reason}", remedy)
    return Finding(AREA, "engine", "ok", fact)


def _try_plan(directory: Path, gpu: GpuIdentity, libraries: list[Library]) -> str:
    """Load the plan that would be served.

    Raises:
        EngineError: there is none that fits, or it does not load.
    """
    from xuankan_worker.engines.tensorrt.library import LoadedPlan
    from xuankan_worker.engines.tensorrt.plan import find_plan, plan_file

    refusals: list[str] = []
    for library in libraries:
        try:
            folder, built = find_plan(directory, library, gpu.capability)
            for kind in built.plans:
                LoadedPlan(library, folder / plan_file(kind)).close()
        except EngineError as error:
            refusals.append(str(error))
            continue
        shapes = ", ".join(
            f"{kind.replace('_', '-')} {len(plan.shapes)} shapes" for kind, plan in built.plans.items()
        )
        return f"{library}, {built.precision}, {shapes}; the engine {folder.name} loads"
    raise EngineUnavailable("; ".join(refusals))


def _try_onnx(directory: Path) -> str:
    """Load the model on the CPU and run its longest row.

    Raises:
        EngineError: ONNX Runtime is not installed, or does not run it.
        ReleaseError: the release has no graph.
    """
    if not _is_installed("onnxruntime"):
        raise EngineUnavailable("onnxruntime is not installed")
    from xuankan_worker.engines.onnx import OnnxEngine
    from xuankan_worker.engines.runtime import VERSION

    engine = OnnxEngine(directory, 16)
    try:
        engine.open_slot(0).close()  # runs a row
        return f"ONNX Runtime {VERSION} runs it on {engine.info.device}"
    finally:
        engine.close()
