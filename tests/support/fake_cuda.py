"""A device that needs no GPU: CUDA's runtime.

Memory of the device is memory of the host. Each stream has a thread that does what was enqueued, in order,
each thing after a random pause: so streams overtake each other, and whoever touches memory that is still in
use gets wrong scores.
"""

# ruff: noqa: ARG002, N802, N815 (names and arguments are CUDA's)
from __future__ import annotations

import ctypes
import queue
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

Work = Callable[[], None]


class Status(IntEnum):
    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorNotReady = 600
    cudaErrorIllegalAddress = 700
    cudaErrorLaunchFailure = 719
    cudaErrorStreamCaptureUnsupported = 900


class _Kind:
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2


class _Mode:
    cudaStreamCaptureModeRelaxed = 2


class _Stream:
    def __init__(self, device: FakeCuda, seed: int) -> None:
        self._device = device
        self._random = random.Random(seed)
        self._work: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self.recording: list[Work] | None = None
        self._thread = threading.Thread(target=self._drive, daemon=True)
        self._thread.start()

    def put(self, work: Work) -> None:
        if self.recording is not None:
            self.recording.append(work)
        else:
            self._work.put(work)

    def end(self) -> None:
        self._work.put(None)
        self._thread.join()

    def _drive(self) -> None:
        while (work := self._work.get()) is not None:
            time.sleep(self._random.random() * self._device.pause_s)
            work()


@dataclass(eq=False)
class FakeCuda:
    """Stands for the module `cuda.bindings.runtime`.

    Attributes:
        pause_s: the longest pause before each piece of work.
        faults: which calls fail, by function and number of the call from 0, and with what; a status after
            which a real device is lost fails every later call too.
        calls: how often each function was called.
        live: what was made and not given back: function that made it by handle.
    """

    pause_s: float = 0.0
    faults: dict[tuple[str, int], Status] = field(default_factory=dict[tuple[str, int], Status])
    calls: Counter[str] = field(default_factory=Counter[str])
    live: dict[int, str] = field(default_factory=dict[int, str])
    cudaMemcpyKind: type[_Kind] = _Kind
    cudaStreamCaptureMode: type[_Mode] = _Mode
    cudaStreamNonBlocking: int = 1
    cudaEventDisableTiming: int = 2
    cudaEventBlockingSync: int = 1
    cudaHostAllocDefault: int = 0

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._things: dict[int, Any] = {}
        self._lost = Status.cudaSuccess
        self._copying: Counter[int] = Counter()

    def lose(self) -> None:
        """A kernel went wrong: from now on nothing works."""
        self._lost = Status.cudaErrorIllegalAddress

    def __getattr__(self, name: str) -> Callable[..., tuple[Any, ...]]:
        """The function of the runtime: `_name`, after the faults that were asked for."""
        if not name.startswith("cuda"):
            raise AttributeError(name)
        function: Callable[..., Any] = object.__getattribute__(self, f"_{name}")

        def call(*arguments: Any) -> tuple[Any, ...]:
            if self.pause_s:
                time.sleep(random.random() * self.pause_s / 4)  # so that threads meet between two calls
            with self._lock:
                number = self.calls[name]
                self.calls[name] += 1
            status = self._lost or self.faults.get((name, number), Status.cudaSuccess)
            if status in (Status.cudaErrorIllegalAddress, Status.cudaErrorLaunchFailure):
                self._lost = status
            if status and name == "cudaStreamEndCapture":
                self.stream(arguments[0]).recording = None
            if status:
                return (status, None)
            result = function(*arguments)
            return (self._lost, result)

        return call

    def cudaGetErrorString(self, status: Status) -> tuple[Status, bytes]:
        return Status.cudaSuccess, status.name.encode()

    def cudaGetLastError(self) -> tuple[Status]:
        return (self._lost,)

    def cudaPeekAtLastError(self) -> tuple[Status]:
        return (self._lost,)

    def stream(self, handle: int) -> _Stream:
        stream = self._things[handle]
        assert isinstance(stream, _Stream)
        return stream

    def _make(self, function: str, thing: Any, handle: int | None = None) -> int:
        handle = id(thing) if handle is None else handle
        with self._lock:
            self._things[handle] = thing
            self.live[handle] = function
        return handle

    def _drop(self, handle: int) -> Any:
        with self._lock:
            assert not self._copying[handle], "memory is given back that is still being copied"
            del self.live[handle]  # what is given back twice, or was never made, is an error
            return self._things.pop(handle)

    def _cudaSetDevice(self, device: int) -> None:
        assert device == 0

    def _cudaMalloc(self, size_bytes: int) -> int:
        memory = ctypes.create_string_buffer(size_bytes)
        return self._make("cudaMalloc", memory, ctypes.addressof(memory))

    def _cudaFree(self, address: int) -> None:
        if address:
            self._drop(address)

    def _cudaHostAlloc(self, size_bytes: int, flags: int) -> int:
        memory = ctypes.create_string_buffer(size_bytes)
        return self._make("cudaHostAlloc", memory, ctypes.addressof(memory))

    def _cudaFreeHost(self, address: int) -> None:
        self._drop(address)

    def _cudaStreamCreateWithFlags(self, flags: int) -> int:
        return self._make("cudaStreamCreateWithFlags", _Stream(self, self.calls["cudaStreamCreateWithFlags"]))

    def _cudaStreamDestroy(self, handle: int) -> None:
        self._drop(handle).end()

    def _cudaStreamQuery(self, handle: int) -> None:
        if self.stream(handle).recording is not None:
            raise AssertionError("a recording is spoiled by a query")

    def _cudaStreamSynchronize(self, handle: int) -> None:
        done = threading.Event()
        self.stream(handle).put(done.set)
        assert done.wait(20)

    def _cudaMemcpyAsync(self, to: int, source: int, size_bytes: int, kind: int, handle: int) -> None:
        def copy() -> None:
            ctypes.memmove(to, source, size_bytes)
            with self._lock:
                self._copying.subtract((to, source))

        with self._lock:
            self._copying.update((to, source))
        self.stream(handle).put(copy)

    def _cudaEventCreateWithFlags(self, flags: int) -> int:
        done = threading.Event()
        done.set()
        return self._make("cudaEventCreateWithFlags", [done])

    def _cudaEventRecord(self, event: int, handle: int) -> None:
        done = threading.Event()
        self._things[event][0] = done
        self.stream(handle).put(done.set)

    def _cudaEventSynchronize(self, event: int) -> None:
        assert self._things[event][0].wait(20)

    def _cudaEventElapsedTime(self, start: int, end: int) -> float:
        assert self._things[start][0].is_set()
        assert self._things[end][0].is_set()
        return 0.25

    def _cudaEventDestroy(self, event: int) -> None:
        self._drop(event)

    def _cudaStreamBeginCapture(self, handle: int, mode: int) -> None:
        stream = self.stream(handle)
        assert stream.recording is None
        stream.recording = []

    def _cudaStreamEndCapture(self, handle: int) -> int:
        stream = self.stream(handle)
        work, stream.recording = stream.recording, None
        return self._make("cudaStreamEndCapture", work)

    def _cudaGraphInstantiate(self, graph: int, flags: int) -> int:
        return self._make("cudaGraphInstantiate", list(self._things[graph]))

    def _cudaGraphDestroy(self, graph: int) -> None:
        self._drop(graph)

    def _cudaGraphLaunch(self, graph: int, handle: int) -> None:
        for work in self._things[graph]:
            self.stream(handle).put(work)

    def _cudaGraphExecDestroy(self, graph: int) -> None:
        self._drop(graph)
