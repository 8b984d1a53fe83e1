"""Plans for the device that needs no GPU: what they say can be computed by hand."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

import numpy as np
from numpy.typing import NDArray

from tests.support.fake_cuda import FakeCuda
from xuankan_worker.engines import Encoded, EncoderInfo, EngineInfo, TokenBatch
from xuankan_worker.engines.tensorrt.context import OpenPlan
from xuankan_worker.engines.tensorrt.cuda import Cuda
from xuankan_worker.engines.tensorrt.engine import TensorRTEngine
from xuankan_worker.engines.tensorrt.layout import PlanKind, PlanProfile, PlanProfiles

VOCABULARY = 1000
JOURNALS, DIMENSIONS, NEIGHBOURS = 13, 8, 21


@dataclass(eq=False)
class FakeContext:
    """An `IExecutionContext`: says what `expected` does, or `expected_encoded` of an encoder.

    Only if nobody else used the memory meanwhile.
    """

    program: FakeProgram
    stream: int
    memory: int
    addresses: dict[str, int] = field(default_factory=dict[str, int])
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict[str, tuple[int, ...]])

    def set_tensor_address(self, tensor: str, address: int) -> bool:
        self.addresses[tensor] = address
        return True

    def set_input_shape(self, tensor: str, shape: tuple[int, ...]) -> bool:
        self.shapes[tensor] = shape
        return True

    def execute_async_v3(self, stream: int) -> bool:
        program = self.program
        assert stream == self.stream
        if program.refused:
            program.refused -= 1
            return False
        tokens, rows = self.shapes["tokens"]
        at = dict(self.addresses)  # they may be others when it runs

        def run() -> None:
            if program.faulty:
                program.cuda.lose()
                return
            workspace = _at(self.memory, 1)
            workspace[0] = mark = threading.get_ident() % 2**31
            time.sleep(program.cuda.pause_s / 2)
            places = _at(at["places"], rows * tokens).reshape(tokens, rows)
            batch = TokenBatch(
                _at(at["tokens"], rows * tokens).reshape(tokens, rows).T,
                _at(at["lengths"], rows),
                (places % 2 == 0).sum(axis=0).astype(np.int32),
            )
            said = {"scores": expected(batch).astype(np.float32)[:, None]}
            if "logits" in at:
                said = asdict(expected_encoded(batch))
            assert workspace[0] == mark, "activation memory is shared by contexts"
            for name, values in said.items():
                _at(at[name], values.size)[:] = values.view(np.int32).ravel()

        program.cuda.stream(stream).put(run)
        return True


@dataclass(eq=False)
class FakeProgram:
    """A plan (`context.Program`).

    Attributes:
        refused: runs that the library will refuse.
        faulty: kernels go wrong, and the device is lost.
        closed: times it was closed.
    """

    cuda: FakeCuda
    refused: int = 0
    faulty: bool = False
    closed: int = 0

    def context_bytes(self, profile: int) -> int:
        return 4 + profile

    def open_context(self, profile: int, stream: int, memory: int, memory_bytes: int) -> FakeContext:
        assert memory_bytes >= self.context_bytes(profile)
        return FakeContext(self, stream, memory)

    @contextmanager
    def errors(self) -> Generator[list[str]]:
        yield ["scripted refusal"]

    def close(self) -> None:
        self.closed += 1


def expected(batch: TokenBatch) -> NDArray[np.float32]:
    """What the fake plan scores: depends on every token of a row and on both lengths."""
    scores = np.zeros(len(batch.lengths), np.float32)
    for row, (length, first) in enumerate(
        zip(batch.lengths.tolist(), batch.first_lengths.tolist(), strict=True)
    ):
        ids = batch.input_ids[row, :length].tolist()
        weighted = sum(place * token for place, token in enumerate(ids, 1))
        scores[row] = (weighted + 7 * length + 3 * first) % 4093
    return scores


def expected_encoded(batch: TokenBatch) -> Encoded:
    """What the fake encoder says: depends on every token of a row and on both lengths."""
    base = expected(batch)[:, None]
    return Encoded(
        logits=(base + np.arange(JOURNALS)).astype(np.float32),
        embedding=(base - np.arange(DIMENSIONS)).astype(np.float32),
        neighbours=(base + 3 * np.arange(NEIGHBOURS)).astype(np.int32),
        nearness=(base - 2 * np.arange(NEIGHBOURS)).astype(np.float32),
    )


def open_fake(
    cuda: FakeCuda,
    program: FakeProgram,
    contexts: int = 2,
    depth: int = 2,
    shapes: tuple[tuple[int, int], ...] = ((16, 8), (32, 8), (64, 4)),
    dynamic: tuple[int, int] | None = (64, 8),
) -> TensorRTEngine:
    """An engine of a cross-encoder on the fake device; shapes are (tokens, rows)."""
    profiles = [PlanProfile(number, *shape, static=True) for number, shape in enumerate(shapes)]
    if dynamic is not None:
        profiles.append(PlanProfile(len(profiles), *dynamic, static=False))
    info = EngineInfo(
        name="tensorrt",
        device="fake",
        buckets=tuple(tokens for tokens, _ in shapes),
        max_batch=8,
        contexts=contexts,
        vocabulary_size=VOCABULARY,
        fingerprint="fake",
        depth=depth,
        shapes=shapes,
    )
    plan = OpenPlan(program, PlanProfiles(profiles))
    return TensorRTEngine(Cuda(cuda), {"cross_encoder": plan}, program.errors, info)


def open_fake_encoder(
    cuda: FakeCuda, encoder: FakeProgram, cross_encoder: FakeProgram | None = None
) -> TensorRTEngine:
    """An engine of an encoder, and of a cross-encoder if there is a program for it."""
    shapes = ((16, 8), (48, 4))
    plans: dict[PlanKind, OpenPlan] = {"encoder": OpenPlan(encoder, _profiles("encoder", shapes, (48, 8)))}
    if cross_encoder is not None:
        plans["cross_encoder"] = OpenPlan(
            cross_encoder, _profiles("cross_encoder", ((32, 8), (64, 4)), (64, 8))
        )
    info = EngineInfo(
        name="tensorrt",
        device="fake",
        buckets=() if cross_encoder is None else (32, 64),
        max_batch=8,
        contexts=2,
        vocabulary_size=VOCABULARY,
        fingerprint="fake",
        depth=2,
        encoder=EncoderInfo((16, 48), 8, JOURNALS, DIMENSIONS, NEIGHBOURS, shapes),
    )
    return TensorRTEngine(Cuda(cuda), plans, encoder.errors, info)


def _profiles(kind: PlanKind, shapes: tuple[tuple[int, int], ...], dynamic: tuple[int, int]) -> PlanProfiles:
    profiles = [PlanProfile(number, *shape, static=True, kind=kind) for number, shape in enumerate(shapes)]
    return PlanProfiles([*profiles, PlanProfile(len(profiles), *dynamic, static=False, kind=kind)])


def random_batch(seed: int, rows: int | None = None, tokens: int | None = None) -> TokenBatch:
    """A batch that the fake engine takes."""
    made = np.random.default_rng(seed)
    rows = int(made.integers(1, 9)) if rows is None else rows
    tokens = int(made.integers(1, 65)) if tokens is None else tokens
    lengths = made.integers(1, tokens, rows, np.int32, endpoint=True)
    return TokenBatch(
        made.integers(0, VOCABULARY, (rows, tokens), np.int32),
        lengths,
        np.minimum(lengths, 3).astype(np.int32),
    )


def _at(address: int, items: int) -> NDArray[np.int32]:
    return np.ctypeslib.as_array((ctypes.c_int32 * items).from_address(address))
