"""The TensorRT engine: a plan on a GPU, run by several contexts at the same time."""

from __future__ import annotations

import ctypes
import logging
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from xuankan.errors import EngineError, EngineUnavailable
from xuankan.logs import fields
from xuankan_worker.engines.base import EngineInfo, TokenBatch
from xuankan_worker.engines.tensorrt.context import Errors, Program, StreamContext
from xuankan_worker.engines.tensorrt.cuda import Cuda, open_cuda
from xuankan_worker.engines.tensorrt.layout import Layout, PlanProfile, PlanProfiles
from xuankan_worker.engines.tensorrt.library import (
    Library,
    LoadedPlan,
    find_gpu,
    installed_libraries,
    load_library,
    runtime_cache_path,
)
from xuankan_worker.engines.tensorrt.plan import PLAN, EngineManifest, find_plan
from xuankan_worker.engines.tensorrt.slots import TensorRTSlot
from xuankan_worker.manifest import Manifest

_log = logging.getLogger(__name__)

CONTEXTS = 2
"""Two overlap one's tail with the other's start; more compete for the device (measured on an H100)."""
DEPTH = 2
"""Slots of a context: while one batch runs the next is already enqueued."""
_COMPILED_S = 0.5
"""A shape that takes longer to prepare was compiled: TensorRT-RTX does so for seconds, one after another."""
_WARM_TOLERANCE = 0.02
"""Of a score between a graph's run and the plain run of the same batch, absolute and relative."""


class TensorRTEngine:
    """Runs a loaded plan; made by `open_tensorrt`.

    Args:
        cuda: the device.
        program: the plan; the engine's own from now on.
        errors: collects what the library says of its errors.
        profiles: those of the plan that batches of `info.max_batch` rows can need.
        info: says how many contexts and slots there are.
        keep: called after each shape that was compiled, so that no later start compiles it.

    Raises:
        EngineError: the device has no room for the contexts.
    """

    def __init__(
        self,
        cuda: Cuda,
        program: Program,
        errors: Errors,
        profiles: PlanProfiles,
        info: EngineInfo,
        keep: Callable[[], None] = lambda: None,
    ) -> None:
        self._cuda = cuda
        self._program = program
        self._profiles = profiles
        self._info = info
        self._keep = keep
        self._layout = Layout.of(profiles.every)
        self._warming = threading.Lock()
        self._warm: bool | EngineError = False
        self._closed = False
        self._slots: list[TensorRTSlot] = []
        with ExitStack() as opened:
            opened.callback(program.close)
            self._contexts: list[StreamContext] = []
            for _ in range(info.contexts):
                context = StreamContext(cuda, program, errors, profiles, self._layout)
                opened.callback(context.close)
                self._contexts.append(context)
            self._opened = opened.pop_all()

    @property
    def info(self) -> EngineInfo:
        """Constant after loading."""
        return self._info

    @property
    def copy_s(self) -> float:
        """See `engines.base.Copies`."""
        return sum(slot.copy_s for slot in self._slots)

    def open_slot(self, index: int) -> TensorRTSlot:
        """Open slot `index`. The first call warms every shape of every context, which takes seconds.

        Raises:
            DeviceLost: nothing runs on the device any more.
            EngineError: the engine is closed, has no slot of that index or no memory for it, or does not run.
        """
        if not 0 <= index < self._info.slots:
            raise EngineError(f"there is no slot {index}: the engine has {self._info.slots}")
        with self._warming:
            if self._closed:
                raise EngineError("the engine is closed")
            if isinstance(self._warm, EngineError):
                raise self._warm
            if not self._warm:
                try:
                    self._warm_up()
                except EngineError as error:
                    self._warm = error
                    raise
                self._warm = True
            self._cuda.bind()
            slot = self._slot(self._contexts[index % self._info.contexts])
            self._slots.append(slot)
            return slot

    def close(self) -> None:
        """Free the model; every slot is closed before. Idempotent, and never fails."""
        with self._warming:
            if self._closed:
                return
            self._closed = True
            for context in self._contexts:
                context.drain()
            if self._cuda.lost:
                # The library's destructors call the device. The process ends soon, and that frees all.
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._program))
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._contexts))
            else:
                self._opened.close()

    def _slot(self, context: StreamContext) -> TensorRTSlot:
        return TensorRTSlot(self._cuda, context, self._info, self._profiles, self._layout)

    def _warm_up(self) -> None:
        """Compile and load every shape in every context, and record its graph."""
        self._cuda.bind()
        started_s = time.monotonic()
        graphs = compiled = 0
        for profile in self._profiles.every:
            for number, context in enumerate(self._contexts):
                before_s = time.monotonic()
                graphs += self._warm_shape(context, profile)
                took_s = time.monotonic() - before_s
                if took_s > _COMPILED_S:
                    compiled += 1
                    shape = f"{profile.rows} x {profile.tokens}"
                    _log.info(
                        "compiled a shape", extra=fields(shape=shape, context=number, took_s=round(took_s, 2))
                    )
                    self._keep()
        _log.info(
            "all shapes are warm",
            extra=fields(
                shapes=len(self._profiles.every),
                contexts=len(self._contexts),
                compiled=compiled,
                graphs=graphs,
                took_s=round(time.monotonic() - started_s, 2),
            ),
        )

    def _warm_shape(self, context: StreamContext, profile: PlanProfile) -> bool:
        """Prepare a shape in a context; whether it became a graph, which gives what the plain run gave."""
        random = np.random.default_rng(profile.number)
        batch = TokenBatch(
            random.integers(0, self._info.vocabulary_size, (profile.rows, profile.tokens), np.int32),
            random.integers(1, profile.tokens, profile.rows, np.int32, endpoint=True),
            np.ones(profile.rows, np.int32),
        )
        context.prepare(profile)
        slot = self._slot(context)
        try:
            plain = slot.run(profile, batch)
            if not context.record(profile):
                return False
            graphed = slot.run(profile, batch)
        finally:
            slot.close()
        if not np.allclose(graphed, plain, rtol=_WARM_TOLERANCE, atol=_WARM_TOLERANCE):
            raise EngineError(
                f"{profile.rows} rows of {profile.tokens} tokens score differently as a CUDA graph: "
                f"by up to {np.abs(graphed - plain).max():.3g}"
            )
        return True


def open_tensorrt(
    release: Path, max_batch: int, contexts: int = CONTEXTS, depth: int = DEPTH
) -> TensorRTEngine:
    """Load a release's plan on the first GPU.

    Args:
        release: a directory with a manifest, for which `xuankan model build` made an engine.
        max_batch: rows of a batch at most; fewer if the engine was built for fewer.
        contexts: stream contexts, which run at the same time.
        depth: slots of each context.

    Raises:
        ReleaseError: the release cannot be read.
        EngineUnavailable: a GPU, the library or a plan for both is missing; the message says what to do.
        EngineError: the plan cannot be loaded.
    """
    manifest = Manifest.load(release)
    if manifest.encoder is not None:
        raise EngineUnavailable(
            f"release {manifest.name} has an encoder, which the TensorRT engine does not run yet: "
            "use --engine onnx"
        )
    cuda = open_cuda()
    gpu = find_gpu()
    if gpu is None:
        raise EngineUnavailable("the NVIDIA GPU cannot be identified: use --engine onnx")
    library, folder, built = _find_plan(release, gpu.capability)
    before_s = time.monotonic()
    plan = LoadedPlan(library, folder / PLAN)
    try:
        cache = runtime_cache_path(built.plan_sha256, gpu.capability)
        plan.runtime_cache(cache)
        loaded_s = time.monotonic() - before_s
        profiles = profiles_of(built).within(max_batch)
        info = _info(manifest, built, profiles, f"{gpu.name} ({gpu.capability})", max_batch, contexts, depth)
    except BaseException:
        plan.close()
        raise

    def save_cache() -> None:
        try:
            plan.save_runtime_cache(cache)
        except (OSError, EngineError) as error:
            _log.warning("the next start will be slower", extra=fields(reason=str(error)))

    engine = TensorRTEngine(cuda, plan, library.errors, profiles, info, save_cache)
    _log.info(
        "TensorRT engine loaded",
        extra=fields(
            plan=str(folder / PLAN),
            library=f"{library.flavour} {library.version}",
            precision=built.precision,
            device=info.device,
            driver=gpu.driver,
            shapes=len(info.shapes),
            plan_s=round(loaded_s, 2),
            lanes_s=round(time.monotonic() - before_s - loaded_s, 2),
        ),
    )
    return engine


def _find_plan(release: Path, capability: str) -> tuple[Library, Path, EngineManifest]:
    """A plan for a library that is installed, for the standard one before RTX."""
    refusals: list[str] = []
    for library in installed_libraries() or [load_library()]:  # where there is none, loading says why
        try:
            return library, *find_plan(release, library, capability)
        except EngineUnavailable as error:
            refusals.append(str(error))
    raise EngineUnavailable("; ".join(dict.fromkeys(refusals)))


def profiles_of(built: EngineManifest) -> PlanProfiles:
    """The profiles of a plan."""
    profiles = [
        PlanProfile(number, tokens, rows, static=True) for number, (tokens, rows) in enumerate(built.shapes)
    ]
    if built.dynamic is not None:
        dynamic = built.dynamic
        profiles.append(PlanProfile(len(built.shapes), dynamic.tokens, dynamic.rows, static=False))
    return PlanProfiles(profiles)


def _info(
    manifest: Manifest,
    built: EngineManifest,
    profiles: PlanProfiles,
    device: str,
    max_batch: int,
    contexts: int,
    depth: int,
) -> EngineInfo:
    shapes = profiles.shapes()
    most_rows = max(rows for _, rows in shapes)
    if max_batch > most_rows:
        _log.warning(
            "batches are smaller than requested: rebuild the engine with --max-batch",
            extra=fields(max_batch=max_batch, built_for=most_rows),
        )
    return EngineInfo(
        name="tensorrt",
        device=device,
        buckets=tuple(sorted({tokens for tokens, _ in shapes})),
        max_batch=min(max_batch, most_rows),
        contexts=contexts,
        vocabulary_size=manifest.vocabulary_size,
        fingerprint=f"{manifest.fingerprint}-{built.precision}-{built.flavour}-{built.version}",
        depth=depth,
        shapes=shapes,
    )
