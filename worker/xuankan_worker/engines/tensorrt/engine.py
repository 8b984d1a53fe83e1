"""The TensorRT engine: a release's plans on a GPU, run by several contexts at the same time."""

from __future__ import annotations

import ctypes
import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xuankan.errors import EngineError, EngineUnavailable
from xuankan.logs import fields
from xuankan_worker.engines.base import EncoderInfo, EngineInfo, TokenBatch
from xuankan_worker.engines.tensorrt.context import Errors, OpenPlan, StreamContext
from xuankan_worker.engines.tensorrt.cuda import Cuda, open_cuda
from xuankan_worker.engines.tensorrt.layout import (
    SCORES,
    Layout,
    Output,
    PlanKind,
    PlanProfile,
    PlanProfiles,
    encoder_outputs,
)
from xuankan_worker.engines.tensorrt.library import (
    Library,
    LoadedPlan,
    find_gpu,
    installed_libraries,
    load_library,
    runtime_cache_path,
)
from xuankan_worker.engines.tensorrt.plan import BuiltPlan, EngineManifest, find_plan, plan_file
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
    """Runs loaded plans, of an encoder, of a cross-encoder or of both; made by `open_tensorrt`.

    Args:
        cuda: the device.
        plans: the engine's own from now on, with the profiles that batches of `info.max_batch` rows can need.
        errors: collects what the library says of its errors.
        info: says how many contexts and slots there are.
        keep: called after each shape that was compiled, so that no later start compiles it.

    Raises:
        EngineError: the device has no room for the contexts.
    """

    def __init__(
        self,
        cuda: Cuda,
        plans: Mapping[PlanKind, OpenPlan],
        errors: Errors,
        info: EngineInfo,
        keep: Callable[[], None] = lambda: None,
    ) -> None:
        self._cuda = cuda
        self._plans = plans
        self._info = info
        self._keep = keep
        self._profiles = [profile for plan in plans.values() for profile in plan.profiles.every]
        self._layout = Layout.of(self._profiles, _outputs(info))
        self._warming = threading.Lock()
        self._warm: bool | EngineError = False
        self._closed = False
        self._slots: list[TensorRTSlot] = []
        with ExitStack() as opened:
            for plan in plans.values():
                opened.callback(plan.program.close)
            self._contexts: list[StreamContext] = []
            for _ in range(info.contexts):
                context = StreamContext(cuda, plans, errors, self._layout)
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
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._plans))
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._contexts))
            else:
                self._opened.close()

    def _slot(self, context: StreamContext) -> TensorRTSlot:
        return TensorRTSlot(self._cuda, context, self._info, self._plans, self._layout)

    def _warm_up(self) -> None:
        """Compile and load every shape in every context, and record its graph."""
        self._cuda.bind()
        started_s = time.monotonic()
        graphs = compiled = 0
        for profile in self._profiles:
            for number, context in enumerate(self._contexts):
                before_s = time.monotonic()
                graphs += self._warm_shape(context, profile)
                took_s = time.monotonic() - before_s
                if took_s > _COMPILED_S:
                    compiled += 1
                    shape = f"{profile.kind} {profile.rows} x {profile.tokens}"
                    _log.info(
                        "compiled a shape", extra=fields(shape=shape, context=number, took_s=round(took_s, 2))
                    )
                    self._keep()
        _log.info(
            "all shapes are warm",
            extra=fields(
                shapes=len(self._profiles),
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
        if error := _difference(plain, graphed):
            raise EngineError(
                f"{profile.kind}: {profile.rows} rows of {profile.tokens} tokens give other numbers as a "
                f"CUDA graph: by up to {error:.3g}"
            )
        return True


def _difference(plain: tuple[NDArray[Any], ...], graphed: tuple[NDArray[Any], ...]) -> float:
    """By how much two runs of a batch differ at most; 0 if by no more than is to be expected."""
    for one, other in zip(plain, graphed, strict=True):
        # Papers that are equally near may change places, and their numbers with them.
        tells = one.dtype == np.float32
        if tells and not np.allclose(other, one, rtol=_WARM_TOLERANCE, atol=_WARM_TOLERANCE):
            return float(np.abs(other - one).max())
    return 0.0


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
    cuda = open_cuda()
    gpu = find_gpu()
    if gpu is None:
        raise EngineUnavailable("the NVIDIA GPU cannot be identified: use --engine onnx")
    library, folder, built = _find_plan(release, gpu.capability)
    before_s = time.monotonic()
    with ExitStack() as opened:
        plans: dict[PlanKind, OpenPlan] = {}
        caches: list[tuple[LoadedPlan, Path]] = []
        for kind, one in built.plans.items():
            program = LoadedPlan(library, folder / plan_file(kind))
            opened.callback(program.close)
            caches.append((program, runtime_cache_path(one.plan_sha256, gpu.capability)))
            program.runtime_cache(caches[-1][1])
            plans[kind] = OpenPlan(program, profiles_of(kind, one).within(max_batch))
        loaded_s = time.monotonic() - before_s
        info = _info(manifest, built, plans, f"{gpu.name} ({gpu.capability})", max_batch, contexts, depth)
        opened.pop_all()  # the engine's from here on

    def save_caches() -> None:
        for program, cache in caches:
            try:
                program.save_runtime_cache(cache)
            except (OSError, EngineError) as error:
                _log.warning("the next start will be slower", extra=fields(reason=str(error)))

    engine = TensorRTEngine(cuda, plans, library.errors, info, save_caches)
    _log.info(
        "TensorRT engine loaded",
        extra=fields(
            engine=str(folder),
            plans=list(plans),
            library=f"{library.flavour} {library.version}",
            precision=built.precision,
            device=info.device,
            driver=gpu.driver,
            shapes=sum(len(plan.shapes) for plan in built.plans.values()),
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


def profiles_of(kind: PlanKind, built: BuiltPlan) -> PlanProfiles:
    """The profiles of a plan."""
    profiles = [
        PlanProfile(number, tokens, rows, static=True, kind=kind)
        for number, (tokens, rows) in enumerate(built.shapes)
    ]
    if built.dynamic is not None:
        dynamic = built.dynamic
        profiles.append(PlanProfile(len(built.shapes), dynamic.tokens, dynamic.rows, static=False, kind=kind))
    return PlanProfiles(profiles)


def _info(
    manifest: Manifest,
    built: EngineManifest,
    plans: Mapping[PlanKind, OpenPlan],
    device: str,
    max_batch: int,
    contexts: int,
    depth: int,
) -> EngineInfo:
    shapes: dict[PlanKind, tuple[tuple[int, int], ...]] = {
        kind: plan.profiles.shapes() for kind, plan in plans.items()
    }
    most = {kind: max(rows for _, rows in found) for kind, found in shapes.items()}
    if max_batch > (least := min(most.values())):
        _log.warning(
            "batches are smaller than requested: rebuild the engine with --max-batch",
            extra=fields(max_batch=max_batch, built_for=least),
        )
    encoder = None
    if (shape := manifest.encoder) is not None:
        encoder = EncoderInfo(
            buckets=_buckets(shapes["encoder"]),
            max_batch=min(max_batch, most["encoder"]),
            journals=shape.journals,
            dimensions=shape.dimensions,
            neighbours=shape.neighbours,
            shapes=shapes["encoder"],
        )
    pairs = shapes.get("cross_encoder", ())
    return EngineInfo(
        name="tensorrt",
        device=device,
        buckets=_buckets(pairs),
        max_batch=min(max_batch, most.get("cross_encoder", max_batch)),
        contexts=contexts,
        vocabulary_size=manifest.vocabulary_size,
        fingerprint=f"{manifest.fingerprint}-{built.precision}-{built.flavour}-{built.version}",
        depth=depth,
        shapes=pairs,
        encoder=encoder,
    )


def _buckets(shapes: tuple[tuple[int, int], ...]) -> tuple[int, ...]:
    return tuple(sorted({tokens for tokens, _ in shapes}))


def _outputs(info: EngineInfo) -> dict[PlanKind, tuple[Output, ...]]:
    outputs: dict[PlanKind, tuple[Output, ...]] = {"cross_encoder": SCORES}
    if (encoder := info.encoder) is not None:
        outputs["encoder"] = encoder_outputs(encoder.journals, encoder.dimensions, encoder.neighbours)
    return outputs
