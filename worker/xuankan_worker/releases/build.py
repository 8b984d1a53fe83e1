"""Builds TensorRT plans: a release's ONNX graph in, one serialized engine with its manifest out.

One engine holds a static optimization profile for each shape and a dynamic one for all other batches; they
share its weights. TensorRT-RTX builds on a machine without a GPU; the standard library times kernels on the
GPU that will run them, and keeps what it timed in a cache for the next build.
"""

from __future__ import annotations

import contextlib
import hashlib
import shlex
import signal
import threading
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from xuankan.errors import EngineError, EngineUnavailable, InputError, ReleaseError
from xuankan_worker.engines.tensorrt.library import (
    GpuIdentity,
    Library,
    cache_directory,
    find_gpu,
    write_whole,
)
from xuankan_worker.engines.tensorrt.messages import failure
from xuankan_worker.engines.tensorrt.plan import (
    ANY,
    ENGINES,
    PLAN,
    Dynamic,
    EngineManifest,
    Precision,
    model_file,
)
from xuankan_worker.engines.tensorrt.shapes import MAX_TOKENS, Shape
from xuankan_worker.manifest import Manifest, file_sha256
from xuankan_worker.releases.workshop import workshop

Progress = Callable[[str, float], None]
"""Told what is being done and which part of it is done, 0 to 1."""
_INPUTS = ("tokens", "places", "lengths")
"""Of a graph for GPUs: the first two are [tokens, rows], the last [rows]."""
_PHASE = "Computing profile costs"
"""The phase of a build that takes nearly all of its time; its steps are spread evenly over the profiles."""
_MAKE: dict[Precision, str] = {
    "fp16": "xuankan model export {} --out DIR",
    "int8": "xuankan model quantize {} --calibration PAPERS",
    "fp8": "xuankan model quantize {} --calibration PAPERS --precision fp8",
}
"""What makes a release with a graph of each precision."""


@dataclass(frozen=True, slots=True)
class _PlanSource:
    """What a plan is built from: the release and its graph."""

    release: Manifest
    model: Path
    sha256: str
    opset: int


def build(
    release: Path,
    library: Library,
    shapes: Sequence[Shape],
    precision: Precision = "fp16",
    targets: Sequence[str] = (),
    progress: Progress = lambda _what, _part: None,
) -> tuple[Path, EngineManifest]:
    """Build a plan into the release's directory, in place of one for the same library, target and precision.

    Args:
        release: the release's directory.
        library: builds it, and will have to run it.
        shapes: ascending; each becomes a static profile.
        precision: which of the release's GPU graphs.
        targets: GPU generations such as `sm_86` that it must run on; none means any GPU with RTX, and the one
            at hand with the standard library.
        progress: told how far it is.

    Returns:
        The folder that holds plan and manifest, and the manifest.

    Raises:
        ReleaseError: the release has no such graph, or it is damaged.
        InputError: a target that the library does not know, or shapes that are none.
        EngineUnavailable: the library cannot build here.
        EngineError: the library refused the graph, or failed; the message has its reasons.
    """
    if not shapes:
        raise InputError("buckets", "no shape to build for")
    gpu = find_gpu()
    capability = _capability(library, gpu, targets)
    source = _source(release, precision)
    engines = release / ENGINES
    with workshop(engines) as scratch:
        dynamic = _dynamic(shapes)
        progress("reading the graph", 0.0)
        started = time.monotonic()
        plan = _plan(source, library, gpu, shapes, dynamic, targets, progress)
        manifest = EngineManifest(
            release=source.release.fingerprint,
            model=source.model.name,
            model_sha256=source.sha256,
            template=source.release.template,
            precision=precision,
            shapes=tuple(shapes),
            dynamic=dynamic,
            flavour=library.flavour,
            version=library.version,
            compute_capability=capability,
            driver=gpu.driver if gpu else None,
            opset=source.opset,
            plan_sha256=hashlib.sha256(plan).hexdigest(),
            build_s=round(time.monotonic() - started, 2),
            built=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            xuankan=_version(),
        )
        new = scratch / "new"
        new.mkdir()
        (new / PLAN).write_bytes(plan)
        manifest.save(new)
        folder = engines / manifest.folder
        if folder.exists():
            folder.rename(scratch / "old")
        new.rename(folder)
    return folder, manifest


def _source(release: Path, precision: Precision) -> _PlanSource:
    manifest = Manifest.load(release)
    name = model_file(precision)
    path, make = release / name, _MAKE[precision].format(shlex.quote(str(release)))
    if name not in manifest.files:
        raise ReleaseError(f"release {manifest.name} has no {name}; make it: {make}")
    try:
        found = file_sha256(path)
    except OSError as error:
        raise ReleaseError(f"release {manifest.name}: {path} cannot be read: {error}") from error
    if found != manifest.files[name]:
        raise ReleaseError(
            f"release {manifest.name}: {path} is damaged or was changed: its SHA-256 is {found}, the "
            f"manifest says {manifest.files[name]}; make it again: {make}"
        )
    return _PlanSource(manifest, path, found, _opset(path))


def _opset(path: Path) -> int:
    import onnx

    try:
        model = onnx.ModelProto.FromString(path.read_bytes())
    except Exception as error:  # protobuf's own kinds are subclasses of Exception only
        raise ReleaseError(f"{path} is not an ONNX model: {error}") from error
    return next((entry.version for entry in model.opset_import if not entry.domain), 0)


def _capability(library: Library, gpu: GpuIdentity | None, targets: Sequence[str]) -> str:
    """The compute capabilities that a plan will be for, as its manifest says them."""
    if library.is_rtx:
        if unknown := [target for target in targets if target not in library.targets]:
            raise InputError(
                "target",
                f"{unknown[0]!r}; {library} knows {', '.join(library.targets)}; "
                "a plan built without --target is not tied to any",
            )
        return ",".join(f"{target[3:-1]}.{target[-1]}" for target in targets) or ANY
    if gpu is None:
        raise EngineUnavailable(
            f"{library} builds on the GPU that will run the plan, and there is none here (or no driver, or "
            "no cuda-bindings): build on that machine, or with TensorRT-RTX, which needs none: "
            "pip install 'xuankan[gpu-rtx]', then --library tensorrt_rtx"
        )
    here = f"sm_{gpu.capability.replace('.', '')}"
    if any(target != here for target in targets):
        raise InputError(
            "target",
            f"{', '.join(targets)}; {library} builds only for this machine's GPU, {gpu.name}: {here}",
        )
    return gpu.capability


def _dynamic(shapes: Sequence[Shape]) -> Dynamic:
    """The fallback takes every row, and as many of the longest as a batch may have tokens."""
    tokens = max(shape.bucket for shape in shapes)
    most = max(max(shape.tokens for shape in shapes), MAX_TOKENS)
    return Dynamic(max(1, min(max(shape.rows for shape in shapes), most // tokens)), tokens)


def _plan(
    source: _PlanSource,
    library: Library,
    gpu: GpuIdentity | None,
    shapes: Sequence[Shape],
    dynamic: Dynamic,
    targets: Sequence[str],
    progress: Progress,
) -> memoryview:
    trt = library.trt
    with library.errors() as lines:
        try:
            builder = trt.Builder(library.log)
        except TypeError as error:  # what the bindings make of a null pointer
            raise EngineUnavailable(f"{library} cannot build here: {failure(lines)}") from error
        network = builder.create_network(library.network_flags)
        parser = trt.OnnxParser(network, library.log)
        if not parser.parse_from_file(str(source.model)):
            raise EngineError(f"{library} cannot read {source.model}: {_parser_errors(parser)}")
        _check_graph(network, source.model)
        config = builder.create_builder_config()
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # the inspector can name kernels
        config.max_aux_streams = 0  # contexts that run at the same time fill the GPU better
        if targets and library.is_rtx:
            config.num_compute_capabilities = len(targets)
            for index, target in enumerate(targets):
                capability = getattr(trt.ComputeCapability, target.upper().replace("_", ""))
                config.set_compute_capability(capability, index)
        for shape in shapes:
            _add_profile(builder, config, shape, shape)
        _add_profile(builder, config, (1, 1), (dynamic.tokens, dynamic.rows))
        with _timing_cache(library, config, gpu), _interrupts() as interrupted:
            config.progress_monitor = _monitor(trt, progress, len(shapes) + 1, interrupted)
            plan = builder.build_serialized_network(network, config)
        if interrupted.is_set():
            raise KeyboardInterrupt
        if plan is None:
            raise EngineError(f"{library} failed to build {source.model}: {failure(lines)}")
    return memoryview(plan)


def _parser_errors(parser: Any) -> str:
    """Every error with the node that it is about."""
    lines: list[str] = []
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        name, operator, reason = error.node_name(), error.node_operator(), " ".join(error.desc().split())
        where = f"node {name or error.node()}" + (f" (operator {operator})" if operator else "")
        lines.append(f"{where}: {reason}")
    return "; ".join(lines) or "it is not an ONNX model"


def _check_graph(network: Any, model: Path) -> None:
    """Refuse a graph that is not a cross-encoder of ours, before minutes are spent on it."""
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    found = {tensor.name: len(tensor.shape) for tensor in inputs}
    outputs = [network.get_output(i).name for i in range(network.num_outputs)]
    if found != dict(zip(_INPUTS, (2, 2, 1), strict=True)) or outputs != ["scores"]:
        raise ReleaseError(
            f"{model} has inputs {', '.join(found) or 'none'} and outputs {', '.join(outputs) or 'none'}: "
            "it was not made by `xuankan model export`"
        )


def _add_profile(builder: Any, config: Any, low: tuple[int, int], high: tuple[int, int]) -> None:
    """From `low` to `high`, tokens and rows; tuned for `high`."""
    profile = builder.create_optimization_profile()
    for name in _INPUTS[:2]:
        profile.set_shape(name, low, high, high)
    profile.set_shape(_INPUTS[2], low[1:], high[1:], high[1:])
    if config.add_optimization_profile(profile) < 0:
        raise EngineError(f"a profile of {high[1]} rows of {high[0]} tokens does not fit the graph")


def _monitor(trt: Any, progress: Progress, profiles: int, interrupted: threading.Event) -> Any:
    class Monitor(trt.IProgressMonitor):
        """Called while the library builds; it stops if told that a step shall not go on."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._steps = 0

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:  # noqa: ARG002
            if phase == _PHASE:
                self._steps = steps

        def phase_finish(self, phase: str) -> None:
            pass

        def step_complete(self, phase: str, step: int) -> bool:
            if phase == _PHASE and self._steps:
                part = (step + 1) / self._steps
                progress(f"profile {min(profiles, 1 + int(part * profiles))} of {profiles}", part)
            return not interrupted.is_set()

    return Monitor()


@contextlib.contextmanager
def _interrupts() -> Generator[threading.Event]:
    """Ctrl-C sets an event: raised inside the library's callbacks, it would be swallowed there."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = signal.signal(signal.SIGINT, lambda _signal, _frame: event.set())
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _timing_cache(library: Library, config: Any, gpu: GpuIdentity | None) -> Generator[None]:
    """What kernels took, kept between builds for one GPU and one version; RTX times none."""
    if library.is_rtx or gpu is None:
        yield
        return
    name = f"{library.flavour}-{library.version}-{gpu.name.replace(' ', '_')}.timing"
    path = cache_directory() / name
    content = path.read_bytes() if path.exists() else b""
    cache = config.create_timing_cache(content) or config.create_timing_cache(b"")
    config.set_timing_cache(cache, False)
    yield
    if (timed := config.get_timing_cache()) is not None:
        write_whole(path, memoryview(timed.serialize()))


def _version() -> str:
    try:
        return version("xuankan")
    except PackageNotFoundError:
        return "unknown"  # run from a source tree that is not installed
