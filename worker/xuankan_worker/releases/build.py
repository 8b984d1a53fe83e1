"""Builds TensorRT engines: a plan of a release's encoder, its cross-encoder or both, with a manifest.

A plan is built from the release's graph for GPUs. Where it has one for CPUs only, an FP16 graph is written of
the weights in there, so that building needs nothing but the release. One plan holds a static optimization
profile for each shape and a dynamic one for all other batches; they share its weights. TensorRT-RTX builds on
a machine without a GPU; the standard library times kernels on the GPU that will run them, and keeps what it
timed in a cache for the next build.
"""

from __future__ import annotations

import contextlib
import hashlib
import signal
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from xuankan.errors import EngineError, EngineUnavailable, InputError, ReleaseError
from xuankan_worker.engines.tensorrt.layout import SCORES, PlanKind, encoder_outputs
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
    BuiltPlan,
    Dynamic,
    EngineManifest,
    Precision,
    plan_file,
    wanted_plans,
)
from xuankan_worker.engines.tensorrt.shapes import MAX_TOKENS, Shape
from xuankan_worker.manifest import Manifest
from xuankan_worker.releases.gpu_source import GpuGraph, gpu_graph
from xuankan_worker.releases.workshop import workshop

Progress = Callable[[str, float], None]
"""Told what is being done and which part of it is done, 0 to 1."""
_INPUTS = ("tokens", "places", "lengths")
"""Of a graph for GPUs: the first two are [tokens, rows], the last [rows]."""
_PHASE = "Computing profile costs"
"""The phase of a build that takes nearly all of its time; its steps are spread evenly over the profiles."""
Shapes = Mapping[PlanKind, Sequence[Shape]]
"""What each plan is built for, ascending; each shape becomes a static profile."""


def build(
    release: Path,
    library: Library,
    shapes: Shapes,
    precision: Precision = "fp16",
    targets: Sequence[str] = (),
    progress: Progress = lambda _what, _part: None,
) -> tuple[Path, EngineManifest]:
    """Build an engine into a release's directory, in place of one for the same library, target and precision.

    Args:
        release: the release's directory.
        library: builds it, and will have to run it.
        shapes: of each plan that the release needs.
        precision: of the cross-encoder.
        targets: GPU generations such as `sm_86` that it must run on; none means any GPU with RTX, and the one
            at hand with the standard library.
        progress: told how far it is.

    Returns:
        The folder that holds plans and manifest, and the manifest.

    Raises:
        ReleaseError: the release has no such graph, or it is damaged.
        InputError: a target that the library does not know, or shapes that are none.
        EngineUnavailable: the library cannot build here.
        EngineError: the library refused the graph, or failed; the message has its reasons.
    """
    manifest = Manifest.load(release)
    kinds = wanted_plans(manifest)
    if not all(shapes.get(kind) for kind in kinds):
        raise InputError("buckets", "no shape to build for")
    gpu = find_gpu()
    capability = _capability(library, gpu, targets)
    engines = release / ENGINES
    with workshop(engines) as scratch:
        new = scratch / "new"
        new.mkdir()
        plans: dict[PlanKind, BuiltPlan] = {}
        for number, kind in enumerate(kinds):
            told = _share_of(progress, number, kind, kinds)
            told("reading the graph", 0.0)
            source = gpu_graph(release, manifest, kind, precision, scratch)
            dynamic = _dynamic(shapes[kind])
            started = time.monotonic()
            plan = _plan(source, manifest, library, gpu, shapes[kind], dynamic, targets, told)
            plans[kind] = BuiltPlan(
                model=source.name,
                model_sha256=source.sha256,
                shapes=tuple(shapes[kind]),
                dynamic=dynamic,
                opset=source.opset,
                plan_sha256=hashlib.sha256(plan).hexdigest(),
                build_s=round(time.monotonic() - started, 2),
            )
            (new / plan_file(kind)).write_bytes(plan)
        engine = EngineManifest(
            release=manifest.fingerprint,
            template=manifest.template,
            precision=precision,
            plans=plans,
            flavour=library.flavour,
            version=library.version,
            compute_capability=capability,
            driver=gpu.driver if gpu else None,
            built=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            xuankan=_version(),
        )
        engine.save(new)
        folder = engines / engine.folder
        if folder.exists():
            folder.rename(scratch / "old")
        new.rename(folder)
    return folder, engine


def _share_of(progress: Progress, number: int, kind: PlanKind, kinds: Sequence[PlanKind]) -> Progress:
    """The progress of one plan as a part of the whole engine's."""
    name = f"{kind.replace('_', '-')}: " if len(kinds) > 1 else ""
    return lambda what, part: progress(name + what, (number + part) / len(kinds))


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
    source: GpuGraph,
    release: Manifest,
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
        if not parser.parse_from_file(str(source.path)):
            raise EngineError(f"{library} cannot read {source.path}: {_parser_errors(parser)}")
        _check_graph(network, source, release)
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
            raise EngineError(f"{library} failed to build {source.path}: {failure(lines)}")
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


def _check_graph(network: Any, source: GpuGraph, release: Manifest) -> None:
    """Refuse a graph that is not one of ours, or not this release's, before minutes are spent on it."""
    wanted = SCORES
    if source.kind == "encoder" and (shape := release.encoder) is not None:
        wanted = encoder_outputs(shape.journals, shape.dimensions, shape.neighbours)
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    found = {tensor.name: len(tensor.shape) for tensor in inputs}
    outputs = [network.get_output(i) for i in range(network.num_outputs)]
    shapes = [(tensor.name, *list(tensor.shape)[1:]) for tensor in outputs]
    right = [(name,) if source.kind == "cross_encoder" else (name, columns) for name, columns, _ in wanted]
    if found != dict(zip(_INPUTS, (2, 2, 1), strict=True)) or shapes != right:
        gives = ", ".join(" x ".join(map(str, part)) for part in shapes)
        raise ReleaseError(
            f"{source.path} has inputs {', '.join(found) or 'none'} and outputs {gives or 'none'}: it was "
            "not made by `xuankan model`, or not for this release"
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
