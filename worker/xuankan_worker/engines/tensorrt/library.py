"""The one seam to TensorRT: the standard library (10.13 and 11) and TensorRT-RTX (1.6) behind one face.

Their Python bindings share their names; what differs is decided here and nowhere else:

- Networks are strongly typed: 10.x has to be asked for it, 11 and RTX know nothing else.
- RTX compiles kernels on the machine that runs them, and keeps them in a runtime cache. It builds without a
  GPU, for any GPU or for chosen ones; the standard library builds for the GPU at hand.

The bindings have no type stubs.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import logging
import mmap
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from xuankan.errors import EngineError, EngineUnavailable
from xuankan_worker.engines.tensorrt.messages import LoggedErrors, failure, logger

FLAVOURS = ("tensorrt", "tensorrt_rtx")
"""Modules of the standard library and of RTX; the first that is installed is taken."""
_OLDEST = {"tensorrt": (10, 13), "tensorrt_rtx": (1, 4)}
_INSTALL = {
    "tensorrt": "pip install 'xuankan[gpu]' (TensorRT, from NVIDIA's package index; for data-centre GPUs)",
    "tensorrt_rtx": "pip install 'xuankan[gpu-rtx]' (TensorRT-RTX, from PyPI alone)",
}
_log = logging.getLogger(__name__)


class GpuIdentity(NamedTuple):
    """A GPU: its name, compute capability such as `9.0`, and the driver's version."""

    name: str
    capability: str
    driver: str


def find_gpu(index: int = 0) -> GpuIdentity | None:
    """GPU `index`, or None where there is no such GPU, no driver or no cuda-bindings."""
    try:
        cudart: Any = importlib.import_module("cuda.bindings.runtime")
        error, count = cudart.cudaGetDeviceCount()
        if error != cudart.cudaError_t.cudaSuccess or not 0 <= index < count:
            return None
        error, found = cudart.cudaGetDeviceProperties(index)
        if error != cudart.cudaError_t.cudaSuccess:
            return None
        _, cuda = cudart.cudaDriverGetVersion()
    except (ImportError, RuntimeError) as reason:  # RuntimeError: the bindings find no CUDA library
        _log.debug("no GPU: %s", reason)
        return None
    return GpuIdentity(found.name.decode().rstrip("\0"), f"{found.major}.{found.minor}", _driver(int(cuda)))


def _driver(cuda: int) -> str:
    """The driver's version such as 580.95.05; where the kernel does not tell, the CUDA version it brings."""
    with contextlib.suppress(OSError):
        text = Path("/proc/driver/nvidia/version").read_text()
        if match := re.search(r"\s(\d{3,}\.\d+(?:\.\d+)?)\s", text):
            return match[1]
    return f"CUDA {cuda // 1000}.{cuda % 1000 // 10}"


def cache_directory() -> Path:
    """Where builds and engines keep what only saves time: $XUANKAN_CACHE, or xuankan in the user's cache."""
    if own := os.environ.get("XUANKAN_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "xuankan"


def runtime_cache_path(plan_sha256: str, capability: str) -> Path:
    """Where the kernels are kept that were compiled for a plan on GPUs of this compute capability."""
    return cache_directory() / "kernels" / f"{plan_sha256[:16]}-sm_{capability.replace('.', '')}.bin"


def write_whole(path: Path, content: Any) -> None:
    """Write a file so that a reader, or a crash, never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as file:
        temporary = Path(file.name)
        try:
            file.write(content)
            file.close()
            temporary.chmod(0o644)  # a temporary file is its maker's alone; another user may serve this one
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


@dataclass(frozen=True, eq=False)
class Library:
    """An installed TensorRT.

    Attributes:
        flavour: `tensorrt` or `tensorrt_rtx`.
        version: such as `10.13.3.9`.
        trt: the module.
        log: its logger; TensorRT wants one for the whole process.
    """

    flavour: str
    version: str
    trt: Any
    log: Any
    _errors: LoggedErrors

    @property
    def is_rtx(self) -> bool:
        """Whether this is TensorRT-RTX."""
        return self.flavour == "tensorrt_rtx"

    @property
    def network_flags(self) -> int:
        """For `Builder.create_network`: the network's types are the graph's own."""
        return 1 << int(self.trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)

    @property
    def targets(self) -> tuple[str, ...]:
        """What `--target` may name: GPU generations such as `sm_86`; none for the standard library."""
        if not self.is_rtx:
            return ()
        names = [str(name) for name in self.trt.ComputeCapability.__members__]
        return tuple(f"sm_{name[2:]}" for name in names if name.startswith("SM"))

    def errors(self) -> contextlib.AbstractContextManager[list[str]]:
        """A block whose list collects the library's error lines, those of other threads too."""
        return self._errors.listen()

    def __str__(self) -> str:
        return f"{'TensorRT-RTX' if self.is_rtx else 'TensorRT'} {self.version}"


def load_library(flavour: str | None = None) -> Library:
    """A flavour of TensorRT, or the first that can be loaded: standard before RTX.

    Raises:
        EngineUnavailable: none is installed, or it is too old; the message says what to install.
    """
    flavours = (flavour,) if flavour else FLAVOURS
    found = [_load(name) for name in flavours]
    for library in found:
        if isinstance(library, Library):
            return library
    wanted = " or ".join(_INSTALL[name] for name in flavours)
    raise EngineUnavailable(f"TensorRT cannot be used here ({'; '.join(map(str, found))}): {wanted}")


def installed_libraries() -> list[Library]:
    """Every flavour that can be loaded here, standard before RTX."""
    return [library for name in FLAVOURS if isinstance(library := _load(name), Library)]


@functools.cache
def _load(flavour: str) -> Library | str:
    """A flavour, or why it cannot be used; once, as TensorRT wants one logger for the whole process."""
    try:
        trt: Any = importlib.import_module(flavour)
    except (ImportError, OSError) as error:  # OSError: a shared library that it needs is missing
        return f"{flavour}: {error}"
    version = str(trt.__version__)
    if _numbers(version)[:2] < _OLDEST[flavour]:
        return f"{flavour} is {version}, but must be {'.'.join(map(str, _OLDEST[flavour]))} or later"
    errors = LoggedErrors()
    return Library(flavour, version, trt, logger(trt, errors), errors)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


class LoadedPlan:
    """A plan's engine on the GPU: weights loaded, no context yet. Thread-safe but for `close`.

    Args:
        library: what the plan was built with.
        plan: the file.

    Raises:
        EngineUnavailable: this GPU, driver or library cannot run the plan.
        EngineError: it cannot be read or loaded for another reason.
    """

    def __init__(self, library: Library, plan: Path) -> None:
        self._library = library
        trt = library.trt
        try:
            with (
                plan.open("rb") as file,
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
                memoryview(content) as view,
                library.errors() as lines,
            ):
                self._runtime: Any = trt.Runtime(library.log)
                self._engine: Any = self._runtime.deserialize_cuda_engine(view)
                misfit = "" if self._engine else _misfit(library, self._runtime, view)
        except TypeError as error:  # what the bindings make of a null pointer
            raise EngineUnavailable(f"{library} cannot run here: {error}") from error
        except (OSError, ValueError) as error:  # ValueError: an empty file
            raise EngineError(f"plan {plan} cannot be read: {error}") from error
        if self._engine is None:
            kind = EngineUnavailable if misfit or find_gpu() is None else EngineError
            raise kind(
                f"{library} does not load plan {plan}: {failure([*([misfit] if misfit else []), *lines])}"
            )
        self._cache: Any = None
        self._static: Any = self._new_config()
        self._dynamic: Any = self._new_config()
        if library.is_rtx:
            # The fallback's kernels run any shape: none is compiled behind the traffic for each new one.
            none = trt.DynamicShapesKernelSpecializationStrategy.NONE
            self._dynamic.dynamic_shapes_kernel_specialization_strategy = none

    def _new_config(self) -> Any:
        trt, config = self._library.trt, self._engine.create_runtime_config()
        user_managed = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        config.set_execution_context_allocation_strategy(user_managed)
        if self._library.is_rtx:
            config.cuda_graph_strategy = trt.CudaGraphStrategy.DISABLED  # graphs are captured outside
        return config

    @property
    def profiles(self) -> int:
        """Optimization profiles of the plan."""
        return int(self._engine.num_optimization_profiles)

    def profile_shapes(self, profile: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """The least and the largest (rows, tokens) of a profile."""
        low, _, high = self._engine.get_tensor_profile_shape("tokens", profile)
        return (int(low[1]), int(low[0])), (int(high[1]), int(high[0]))

    def context_bytes(self, profile: int) -> int:
        """Device memory that a context of this profile works in, at most."""
        return int(self._engine.get_device_memory_size_for_profile_v2(profile))

    def runtime_cache(self, path: Path) -> bool:
        """Use, and from now on fill, the cache of compiled kernels; call before `open_context`.

        Returns:
            Whether the file held kernels that this GPU, driver and library can use.
        """
        if not self._library.is_rtx:
            return False
        self._cache = self._static.create_runtime_cache()
        found = False
        with contextlib.suppress(OSError):
            content = path.read_bytes()
            with self._library.errors() as lines:
                found = bool(self._cache.deserialize(content))
            if not found:
                _log.info("kernel cache %s cannot be used: %s", path, failure(lines))
        for config in (self._static, self._dynamic):
            config.set_runtime_cache(self._cache)
        return found

    def save_runtime_cache(self, path: Path) -> bool:
        """Write the kernels compiled so far; False if this library keeps none.

        Raises:
            OSError: the file cannot be written.
        """
        if self._cache is None or (content := self._cache.serialize()) is None:
            return False
        write_whole(path, memoryview(content))
        return True

    def open_context(self, profile: int, stream: int, memory: int, memory_bytes: int) -> Any:
        """An execution context (`IExecutionContext`) of one profile.

        Args:
            profile: its optimization profile, set on `stream`.
            stream: CUDA stream that it will run on.
            memory: 256-byte aligned device address that it works in; contexts that never run at the same
                time can share it.
            memory_bytes: how much there is; at least `context_bytes(profile)`.

        Raises:
            EngineError: the library does not make it.
        """
        if memory_bytes < (wanted := self.context_bytes(profile)):
            raise EngineError(f"profile {profile} works in {wanted} bytes, not in {memory_bytes}")
        low, high = self.profile_shapes(profile)
        config = self._static if low == high else self._dynamic
        with self._library.errors() as lines:
            context = self._engine.create_execution_context(config)
            if context is None:
                raise EngineError(
                    f"{self._library} cannot create a context for profile {profile}: {failure(lines)}"
                )
            if not context.set_optimization_profile_async(profile, stream):
                raise EngineError(f"{self._library} cannot set profile {profile}: {failure(lines)}")
            context.set_device_memory(memory, memory_bytes)
        return context

    def layers(self, context: Any = None) -> list[Any]:
        """What the library says of each layer (kernels, types, tactics); of a context's profile if given."""
        inspector = self._engine.create_engine_inspector()
        if context is not None:
            inspector.execution_context = context
        document = json.loads(inspector.get_engine_information(self._library.trt.LayerInformationFormat.JSON))
        return list(document.get("Layers", []))

    def close(self) -> None:
        """Free the engine; its contexts are gone before. Idempotent."""
        self._static = self._dynamic = self._cache = None
        self._engine = None
        self._runtime = None


def _misfit(library: Library, runtime: Any, plan: Any) -> str:
    """Why RTX holds that a plan cannot run here; empty if it has no such view."""
    if not library.is_rtx:
        return ""
    trt = library.trt
    validity, diagnostics = runtime.get_engine_validity(plan)
    if validity != trt.EngineValidity.INVALID:
        return ""
    members = trt.EngineInvalidityDiagnostics.__members__
    return ", ".join(
        name.lower().replace("_", " ") for name, value in members.items() if int(value) & int(diagnostics)
    )
