"""A stream context: what runs one batch at a time, on its own CUDA stream, beside the others.

TensorRT ties its execution contexts to one optimization profile, and a static profile to one shape. So a
stream context holds an `IExecutionContext` for each profile; they never run at the same time, and share its
activation memory. A static shape is recorded as a CUDA graph, which the host launches at once instead of
kernel by kernel.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any, Protocol

from xuankan.errors import DeviceLost, EngineError
from xuankan.logs import fields
from xuankan_worker.engines.tensorrt.cuda import CopyTimer, Cuda, DeviceBlock, Event, Graph, Stream
from xuankan_worker.engines.tensorrt.layout import Layout, PlanProfile, PlanProfiles, offsets
from xuankan_worker.engines.tensorrt.messages import failure

_log = logging.getLogger(__name__)


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


Errors = Callable[[], AbstractContextManager[list[str]]]
"""Opens a collection of what the library says of its errors."""


class StreamContext:
    """One stream, its memory, its execution contexts and its graphs.

    A profile is prepared, runs once, and may then be recorded, all by one thread. `submit` is for any thread.

    Raises:
        EngineError: the device has no room for it.
    """

    def __init__(
        self, cuda: Cuda, program: Program, errors: Errors, profiles: PlanProfiles, layout: Layout
    ) -> None:
        self._cuda = cuda
        self._program = program
        self._errors = errors
        self._lock = threading.Lock()
        self._contexts: dict[int, Any] = {}
        self._graphs: dict[int, Graph] = {}
        self._closed = False
        workspace_bytes = max(program.context_bytes(profile.number) for profile in profiles.every)
        with ExitStack() as owned:
            self._stream = Stream(cuda)
            owned.callback(self._stream.close)
            self._workspace = DeviceBlock(cuda, max(1, workspace_bytes))
            owned.callback(self._workspace.close)
            self._inputs = DeviceBlock(cuda, layout.input_bytes)
            owned.callback(self._inputs.close)
            self._scores = DeviceBlock(cuda, layout.score_bytes)
            owned.callback(self._scores.close)
            self._owned = owned.pop_all()

    def prepare(self, profile: PlanProfile) -> None:
        """Make the profile's context; TensorRT-RTX compiles its kernels if no cache knows them.

        Raises:
            EngineError: the context cannot be made.
        """
        context = self._program.open_context(
            profile.number, self._stream.address, self._workspace.address, self._workspace.size_bytes
        )
        self._contexts[profile.number] = context
        self._shape(context, profile.rows, profile.tokens)

    def record(self, profile: PlanProfile) -> bool:
        """Record a profile's run as a graph, if it is static and ran before.

        Returns:
            whether batches of this profile run as a graph from now on.
        """
        if not profile.static:
            return False
        context = self._contexts[profile.number]
        with self._lock:
            try:
                self._graphs[profile.number] = self._stream.capture(lambda: self._execute(context))
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
        scores: int,
        done: Event,
        copies: CopyTimer,
    ) -> None:
        """Enqueue a batch: its copy to the device, its run, and the copy of its scores back.

        Args:
            profile: a prepared one.
            rows: of the padded batch; the profile's own if it is static.
            tokens: of each row; the profile's own if it is static.
            inputs: address of the batch in pinned memory, left alone until `done` happened.
            scores: address of pinned memory for the scores, left alone until `done` happened.
            done: happens when the scores are there, or after an error when nothing runs any more.
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
                if (graph := self._graphs.get(profile.number)) is not None:
                    graph.launch(stream)
                else:
                    context = self._contexts[profile.number]
                    if not profile.static:
                        self._shape(context, rows, tokens)
                    self._execute(context)
                with copies.to_host(stream):
                    stream.copy_to_host(scores, self._scores.address, 4 * rows)
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

    def _shape(self, context: Any, rows: int, tokens: int) -> None:
        """Tell a context what it will find where."""
        at, base = offsets(rows, tokens), self._inputs.address
        shapes = {"tokens": (tokens, rows), "places": (tokens, rows), "lengths": (rows,)}
        addresses = {
            "tokens": base + at.tokens,
            "places": base + at.places,
            "lengths": base + at.lengths,
            "scores": self._scores.address,
        }
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
            raise EngineError(f"TensorRT failed to run the batch: {failure(lines)}")
