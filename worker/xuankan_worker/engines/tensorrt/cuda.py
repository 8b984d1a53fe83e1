"""The seam to CUDA's runtime: every status is checked, every handle has one owner.

`Cuda` wraps the module `cuda.bindings.runtime`, or anything that has its functions. An error after which the
device's context is lost ("sticky" in CUDA's words: every later call returns it too) raises `DeviceLost`, once
and for ever: from then on no call reaches the driver, and giving back is a no-op, so that closing neither
hangs nor raises. Every other error raises `EngineError`. The bindings release the GIL in every call.
"""

from __future__ import annotations

import ctypes
import importlib
import logging
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xuankan.errors import DeviceLost, EngineError, EngineUnavailable, MemoryExhausted

_log = logging.getLogger(__name__)

BLOCKING_WAIT = True
"""Whether a thread that waits for a batch sleeps (True), or spins on its core (False: sooner by some µs)."""

_STACK_BYTES = 256
"""Of each thread on the device. CUDA sets 1,024 aside for every thread that a GPU could hold at once; this
saves 208 MB of an H200, and the kernels here have no calls that need more."""

STICKY = frozenset(
    f"cudaError{name}"
    for name in (
        "Assert", "Contained", "ContextIsDestroyed", "CudartUnloading", "DeviceUninitialized",
        "DevicesUnavailable", "ECCUncorrectable", "ExternalDevice", "HardwareStackError", "IllegalAddress",
        "IllegalInstruction", "InvalidAddressSpace", "InvalidPc", "LaunchFailure", "LaunchTimeout",
        "MisalignedAddress", "MpsClientTerminated", "MpsConnectionFailed", "MpsRpcFailure",
        "NvlinkUncorrectable", "TensorMemoryLeak", "Unknown",
    )
)  # fmt: skip
"""Errors after which the process can do no more on the device (CUDA runtime API, `cudaError_t`)."""


class Cuda:
    """CUDA's runtime on the process's first device.

    Args:
        runtime: `cuda.bindings.runtime`, or a test's own.
    """

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime
        self._lost: str | None = None
        self.to_device = runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self.to_host = runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost

    @property
    def lost(self) -> bool:
        """Whether nothing runs on the device any more."""
        return self._lost is not None

    def constant(self, name: str) -> Any:
        """A flag or enumeration of the runtime."""
        return getattr(self._runtime, name)

    def call(self, function: str, *arguments: Any) -> Any:
        """Call a function of the runtime; what it gives beside its status, None if that is nothing.

        Raises:
            DeviceLost: the device failed for good, now or before.
            MemoryExhausted: the device has no memory left.
            EngineError: the call failed.
        """
        if self._lost is not None:
            raise DeviceLost(self._lost)
        status, *rest = getattr(self._runtime, function)(*arguments)
        if int(status):
            raise self._error(function, status)
        return rest[0] if rest else None

    def give_back(self, function: str, *arguments: Any) -> None:
        """Call a function that frees something; never raises."""
        try:
            self.call(function, *arguments)
        except DeviceLost:
            pass  # the end of the process gives everything back
        except EngineError as error:
            _log.error("%s", error)

    def bind(self) -> None:
        """Make the device the calling thread's, and its context exist."""
        self.call("cudaSetDevice", 0)
        self.call("cudaFree", 0)

    def probe(self, stream: Any) -> None:
        """Look whether the device still works, after a library failed on a stream for a reason of its own.

        Raises:
            DeviceLost: it does not.
        """
        if self._lost is not None:
            raise DeviceLost(self._lost)
        status, *_ = self._runtime.cudaStreamQuery(stream)
        self._runtime.cudaGetLastError()  # forgets an error that is over
        if status.name in STICKY:
            raise self.lose(f"the GPU failed permanently: {self._words(status)}")

    def lose(self, why: str) -> DeviceLost:
        """Give the device up; the error to raise."""
        if self._lost is None:
            self._lost = f"{why}; restart this process"
            _log.critical("%s", self._lost)
        return DeviceLost(self._lost)

    def _error(self, function: str, status: Any) -> EngineError:
        self._runtime.cudaGetLastError()  # an error that is over is forgotten by this, a sticky one is not
        if status.name in STICKY or int(self._runtime.cudaPeekAtLastError()[0]):
            return self.lose(f"the GPU failed permanently: {function}: {self._words(status)}")
        kind = MemoryExhausted if status.name == "cudaErrorMemoryAllocation" else EngineError
        return kind(f"CUDA: {function}: {self._words(status)}")

    def _words(self, status: Any) -> str:
        _, text = self._runtime.cudaGetErrorString(status)
        return f"{status.name} ({text.decode() if isinstance(text, bytes) else text})"


def open_cuda() -> Cuda:
    """The process's first device, ready for the calling thread.

    Raises:
        EngineUnavailable: there is none, or the bindings are missing.
    """
    try:
        runtime = importlib.import_module("cuda.bindings.runtime")
    except ImportError as error:
        raise EngineUnavailable(
            f"engine tensorrt needs the CUDA bindings ({error}): pip install 'cuda-bindings>=13,<14', or use "
            "--engine onnx"
        ) from error
    cuda = Cuda(runtime)
    try:
        status, count = runtime.cudaGetDeviceCount()  # by itself: that there is none is no loss of a device
        if int(status) or not count:
            raise EngineUnavailable(f"no NVIDIA GPU is usable here ({status.name}): use --engine onnx")
        cuda.bind()
        cuda.call("cudaDeviceSetLimit", cuda.constant("cudaLimit").cudaLimitStackSize, _STACK_BYTES)
    except EngineUnavailable:
        raise
    except (EngineError, RuntimeError) as error:  # RuntimeError: the bindings find no CUDA library
        raise EngineUnavailable(f"no NVIDIA GPU is usable here ({error}): use --engine onnx") from error
    return cuda


class Stream:
    """Work that the device does in order; owned by a context."""

    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda
        self.handle: Any = cuda.call("cudaStreamCreateWithFlags", cuda.constant("cudaStreamNonBlocking"))
        self.address = int(self.handle)
        self._open = True

    def copy_to_device(self, device: int, host: int, size_bytes: int) -> None:
        """Enqueue a copy from pinned host memory."""
        self._cuda.call("cudaMemcpyAsync", device, host, size_bytes, self._cuda.to_device, self.handle)

    def copy_to_host(self, host: int, device: int, size_bytes: int) -> None:
        """Enqueue a copy to pinned host memory."""
        self._cuda.call("cudaMemcpyAsync", host, device, size_bytes, self._cuda.to_host, self.handle)

    def capture(self, work: Callable[[], None]) -> Graph:
        """Record what `work` enqueues here as a graph, instead of running it.

        Relaxed capture: whatever other threads do meanwhile is their own affair, as long as they enqueue
        nothing on this stream.

        Raises:
            EngineError: `work` failed, or enqueued what cannot be recorded.
        """
        mode = self._cuda.constant("cudaStreamCaptureMode").cudaStreamCaptureModeRelaxed
        with ExitStack() as owned:
            self._cuda.call("cudaStreamBeginCapture", self.handle, mode)
            try:
                work()
            finally:
                recorded = self._cuda.call("cudaStreamEndCapture", self.handle)
                owned.callback(self._cuda.give_back, "cudaGraphDestroy", recorded)
            return Graph(self._cuda, self._cuda.call("cudaGraphInstantiate", recorded, 0))

    def drain(self) -> None:
        """Wait until nothing runs here: before memory is given back, never while batches are served."""
        self._cuda.give_back("cudaStreamSynchronize", self.handle)

    def close(self) -> None:
        """Give the stream back; idempotent."""
        if self._open:
            self._open = False
            self._cuda.give_back("cudaStreamDestroy", self.handle)


class Event:
    """A point in a stream that a thread can wait for; a timed one knows when it was reached."""

    def __init__(self, cuda: Cuda, *, timed: bool = False) -> None:
        self._cuda = cuda
        flags = 0 if timed else cuda.constant("cudaEventDisableTiming")
        if BLOCKING_WAIT:
            flags |= cuda.constant("cudaEventBlockingSync")
        self._handle: Any = cuda.call("cudaEventCreateWithFlags", flags)
        self._open = True

    def record(self, stream: Stream) -> None:
        """Let the event happen once all that is enqueued by now is done.

        Raises:
            DeviceLost: it cannot: nobody could tell any more which memory the device is still at.
        """
        self._or_lose("cudaEventRecord", self._handle, stream.handle)

    def wait(self) -> None:
        """Wait until the event happened, without the GIL; at once if it was never recorded.

        Raises:
            DeviceLost: what ran before it failed.
        """
        self._or_lose("cudaEventSynchronize", self._handle)

    def since_s(self, earlier: Event) -> float:
        """Time from another timed event to this one; both happened.

        Raises:
            EngineError: they did not.
        """
        return float(self._cuda.call("cudaEventElapsedTime", earlier._handle, self._handle)) / 1000

    def close(self) -> None:
        """Give the event back; idempotent."""
        if self._open:
            self._open = False
            self._cuda.give_back("cudaEventDestroy", self._handle)

    def _or_lose(self, function: str, *arguments: Any) -> None:
        try:
            self._cuda.call(function, *arguments)
        except DeviceLost:
            raise
        except EngineError as error:
            raise self._cuda.lose(str(error)) from error


class CopyTimer:
    """Measures, on the device, how long the copies of a batch take: to it, and back."""

    def __init__(self, cuda: Cuda) -> None:
        self._marks: list[Event] = []
        with ExitStack() as owned:
            for _ in range(4):
                mark = Event(cuda, timed=True)
                owned.callback(mark.close)
                self._marks.append(mark)
            self._owned = owned.pop_all()

    @contextmanager
    def to_device(self, stream: Stream) -> Generator[None]:
        """Measure what the block enqueues."""
        self._marks[0].record(stream)
        yield
        self._marks[1].record(stream)

    @contextmanager
    def to_host(self, stream: Stream) -> Generator[None]:
        """Measure what the block enqueues."""
        self._marks[2].record(stream)
        yield
        self._marks[3].record(stream)

    def seconds(self) -> float:
        """Both copies of the last batch, which is done."""
        before, sent, scored, back = self._marks
        return sent.since_s(before) + back.since_s(scored)

    def close(self) -> None:
        """Give everything back; idempotent."""
        self._owned.close()


class Graph:
    """Recorded work that is launched as one."""

    def __init__(self, cuda: Cuda, handle: Any) -> None:
        self._cuda = cuda
        self._handle = handle
        self._open = True

    def launch(self, stream: Stream) -> None:
        """Enqueue all of it."""
        self._cuda.call("cudaGraphLaunch", self._handle, stream.handle)

    def close(self) -> None:
        """Give the graph back; idempotent."""
        if self._open:
            self._open = False
            self._cuda.give_back("cudaGraphExecDestroy", self._handle)


class DeviceBlock:
    """Memory of the device, 256-byte aligned, undefined at first."""

    def __init__(self, cuda: Cuda, size_bytes: int) -> None:
        self._cuda = cuda
        self.size_bytes = size_bytes
        self.address = int(cuda.call("cudaMalloc", size_bytes))
        self._open = True

    def close(self) -> None:
        """Give the memory back; idempotent. Nothing may be running on it."""
        if self._open:
            self._open = False
            self._cuda.give_back("cudaFree", self.address)


class PinnedBlock:
    """Page-locked memory of the host, which the device copies from and to by itself."""

    def __init__(self, cuda: Cuda, size_bytes: int) -> None:
        self._cuda = cuda
        self.size_bytes = size_bytes
        self.address = int(cuda.call("cudaHostAlloc", size_bytes, cuda.constant("cudaHostAllocDefault")))
        self._open = True

    def view(self) -> NDArray[np.uint8]:
        """The memory as bytes; not to be used after `close`."""
        return np.ctypeslib.as_array((ctypes.c_uint8 * self.size_bytes).from_address(self.address))

    def close(self) -> None:
        """Give the memory back; idempotent. Nothing may be copied from or to it."""
        if self._open:
            self._open = False
            self._cuda.give_back("cudaFreeHost", self.address)
