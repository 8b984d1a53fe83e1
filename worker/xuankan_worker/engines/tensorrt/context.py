"""A stream context: what runs one batch at a time, on its own CUDA stream, beside the others.

TensorRT ties its execution contexts to one optimization profile, and a static profile to one shape. So a
stream context holds an `IExecutionContext` for each profile of each plan, encoder and cross-encoder; they
never run at the same time, and share its activation memory. A static shape is recorded as a CUDA graph, which
the host launches at once instead of kernel by kernel.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from typing import Any, NamedTuple, Protocol

from xuankan.errors import DeviceLost, EngineError, MemoryExhausted
from xuankan.logs import fields
from xuankan_worker.engines.tensorrt.cuda import CopyTimer, Cuda, DeviceBlock, Event, Graph, Stream
from xuankan_worker.engines.tensorrt.layout import Layout, PlanKind, PlanProfile, PlanProfiles, offsets
from xuankan_worker.engines.tensorrt.messages import failure

_log = logging.getLogger(__name__)
_NO_MEMORY = re.compile(r"(?i)out ?of ?memory|cudaErrorMemoryAllocation|bad_alloc")


class Program(Protocol):
    """What a stream context needs of a loaded plan (`library.LoadedPlan`)."""

    def context_bytes(self, profile: int) -> int:
        """Activation memory that a context of this profile needs."""
        ...

    def open_context(self, profile: int, stream: int, memory: int, memory_bytes: int) -> Any:
        """An `IExecutionContext` of this profile, with that memory.

        Raises:
            EngineError: it cannot be made.
        """
        ...

    def close(self) -> None:
        """Free the engine; contexts are gone before. Idempotent."""
        ...


class OpenPlan(NamedTuple):
    """A loaded plan, and those of its profiles that batches can need."""

    program: Program
    profiles: PlanProfiles


Errors = Callable[[], AbstractContextManager[list[str]]]
"""Opens a collection of what the library says of its errors."""


class StreamContext:
    """One stream, its memory, its execution contexts and its graphs.

    A profile is prepared, runs once, and may then be recorded, all by one thread. `submit` is for any thread.

    Raises:
        EngineError: the device has no room for it.
    """

    def __init__(
        self, cuda: Cuda, plans: Mapping[PlanKind, OpenPlan], errors: Errors, layout: Layout
    ) -> None:
        self._cuda = cuda
        self._plans = plans
        self._errors = errors
        self._layout = layout
        self._lock = threading.Lock()
        self._contexts: dict[PlanProfile, Any] = {}
        self._graphs: dict[PlanProfile, Graph] = {}
        self._closed = False
        workspace_bytes = max(
            program.context_bytes(profile.number)
            for program, profiles in plans.values()
            for profile in profiles.every
        )
        with ExitStack() as owned:
            self._stream = Stream(cuda)
            owned.callback(self._stream.close)
            self._workspace = DeviceBlock(cuda, max(1, workspace_bytes))
            owned.callback(self._workspace.close)
            self._inputs = DeviceBlock(cuda, layout.input_bytes)
            owned.callback(self._inputs.close)
            self._outputs = DeviceBlock(cuda, layout.output_bytes)
            owned.callback(self._outputs.close)
            self._owned = owned.pop_all()

    def prepare(self, profile: PlanProfile) -> None:
        """Make the profile's context; TensorRT-RTX compiles its kernels if no cache knows them.

        Raises:
            EngineError: the context cannot be made.
        """
        context = self._plans[profile.kind].program.open_context(
            profile.number, self._stream.address, self._workspace.address, self._workspace.size_bytes
        )
        self._contexts[profile] = context
        self._shape(context, profile.kind, profile.rows, profile.tokens)

    def record(self, profile: PlanProfile) -> bool:
        """Record a profile's run as a graph, if it is static and ran before.

        Returns:
            whether batches of this profile run as a graph from now on.
        """
        if not profile.static:
            return False
        context = self._contexts[profile]
        with self._lock:
            try:
                self._graphs[profile] = self._stream.capture(lambda: self._execute(context))
            except DeviceLost:
                raise
            except EngineError as error:
                _log.warning(
                    "a shape runs without a CUDA graph, and more slowly",
                    extra=fields(tokens=profile.tokens, rows=profile.rows, reason=str(error)),
                )
                return False
        return True

    def submit(
        self,
        profile: PlanProfile,
        rows: int,
        tokens: int,
        inputs: int,
        outputs: int,
        done: Event,
        copies: CopyTimer,
    ) -> None:
        """Enqueue a batch: its copy to the device, its run, and the copy of its outputs back.

        Args:
            profile: a prepared one.
            rows: of the padded batch; the profile's own if it is static.
            tokens: of each row; the profile's own if it is static.
            inputs: address of the batch in pinned memory, left alone until `done` happened.
            outputs: address of pinned memory for the outputs, left alone until `done` happened.
            done: happens when the outputs are there, or after an error when nothing runs any more.
            copies: measures the copies.

        Raises:
            DeviceLost: nothing runs on the device any more.
            EngineError: this batch cannot be run.
        """
        with self._lock:
            if self._closed:
                raise EngineError("the engine is closed")
            stream = self._stream
            try:
                with copies.to_device(stream):
                    stream.copy_to_device(self._inputs.address, inputs, offsets(rows, tokens).end)
                if (graph := self._graphs.get(profile)) is not None:
                    graph.launch(stream)
                else:
                    context = self._contexts[profile]
                    if not profile.static:
                        self._shape(context, profile.kind, rows, tokens)
                    self._execute(context)
                with copies.to_host(stream):
                    _, size_bytes = self._layout.output_places(profile.kind, rows)
                    stream.copy_to_host(outputs, self._outputs.address, size_bytes)
            finally:
                done.record(stream)

    def drain(self) -> None:
        """Wait until nothing runs here; for closing only."""
        self._stream.drain()

    def close(self) -> None:
        """Give everything back: graphs, contexts, memory, stream. Idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._stream.drain()
            for graph in self._graphs.values():
                graph.close()
            self._graphs.clear()
            self._contexts.clear()
            self._owned.close()

    def _shape(self, context: Any, kind: PlanKind, rows: int, tokens: int) -> None:
        """Tell a context what it will find where."""
        at, base = offsets(rows, tokens), self._inputs.address
        shapes = {"tokens": (tokens, rows), "places": (tokens, rows), "lengths": (rows,)}
        addresses = {
            "tokens": base + at.tokens,
            "places": base + at.places,
            "lengths": base + at.lengths,
        }
        begins, _ = self._layout.output_places(kind, rows)
        addresses |= {name: self._outputs.address + begin for name, begin in begins.items()}
        with self._errors() as lines:
            for tensor, shape in shapes.items():
                if not context.set_input_shape(tensor, shape):
                    raise EngineError(f"TensorRT refuses shape {shape} for {tensor}: {failure(lines)}")
            for tensor, address in addresses.items():
                if not context.set_tensor_address(tensor, address):
                    raise EngineError(f"TensorRT refuses an address for {tensor}: {failure(lines)}")

    def _execute(self, context: Any) -> None:
        with self._errors() as lines:
            done = context.execute_async_v3(self._stream.address)
        if not done:
            self._cuda.probe(self._stream.handle)
            reason = failure(lines)
            kind = MemoryExhausted if _NO_MEMORY.search(reason) else EngineError
            raise kind(f"TensorRT failed to run the batch: {reason}")
