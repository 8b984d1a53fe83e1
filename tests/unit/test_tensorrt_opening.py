"""Which engine is opened where, what is missing for TensorRT, and what a plan says of itself."""

from __future__ import annotations

import importlib
import importlib.util
import logging
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import gpu, tiny_bert, tiny_encoder
from tests.support.fake_cuda import FakeCuda, Status
from tests.support.fake_plan import FakeProgram, expected, expected_encoded
from xuankan.errors import EngineError, EngineUnavailable
from xuankan_worker.engines import open_engine
from xuankan_worker.engines.tensorrt import engine as engines
from xuankan_worker.engines.tensorrt import library
from xuankan_worker.engines.tensorrt.cuda import Cuda, open_cuda
from xuankan_worker.engines.tensorrt.library import GpuIdentity
from xuankan_worker.engines.tensorrt.plan import ANY, EngineManifest
from xuankan_worker.engines.tensorrt.shapes import Shape

SHAPES = (Shape(16, 16), Shape(32, 8), Shape(48, 4), Shape(48, 8))


class FakePlan(FakeProgram):
    """Stands for `LoadedPlan`: the plan's file is there, its engine is made up."""

    def runtime_cache(self, path: Path) -> bool:
        return path.exists()

    def save_runtime_cache(self, path: Path) -> bool:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"kernels")
        return True


@dataclass
class Machine:
    """A machine with a GPU, and what was loaded there."""

    cuda: FakeCuda = field(default_factory=FakeCuda)
    plans: list[FakePlan] = field(default_factory=list[FakePlan])
    loaded: list[str] = field(default_factory=list[str])

    def load(self, _library: object, plan: Path) -> FakePlan:
        assert plan.is_file()
        self.loaded.append(plan.name)
        self.plans.append(FakePlan(self.cuda))
        return self.plans[-1]

    def find_gpu(self) -> GpuIdentity:
        return GpuIdentity("NVIDIA Made-up", "9.0", "580.95.05")

    def open_cuda(self) -> Cuda:
        return Cuda(self.cuda)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    machine = Machine()
    monkeypatch.setenv("XUANKAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(library, "find_gpu", machine.find_gpu)
    monkeypatch.setattr(engines, "find_gpu", machine.find_gpu)
    monkeypatch.setattr(engines, "open_cuda", machine.open_cuda)
    monkeypatch.setattr(engines, "LoadedPlan", machine.load)
    return machine


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release with a plan, built without a GPU."""
    return gpu.write_gpu_release(tmp_path_factory.mktemp("built"), SHAPES)


@pytest.mark.skipif(gpu.missing() is None, reason="there is a GPU")
def test_without_a_gpu_tensorrt_is_refused_with_a_way_out(tmp_path: Path) -> None:
    release = tiny_bert.write_release(tmp_path)
    with pytest.raises(EngineUnavailable, match=r"no NVIDIA GPU .* --engine onnx"):
        open_engine("tensorrt", release)
    assert open_engine("auto", release).info.name == "onnx"


def test_without_the_bindings_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(EngineUnavailable, match="pip install 'cuda-bindings"):
        open_cuda()


@pytest.mark.usefixtures("machine")
def test_with_a_gpu_but_no_plan_the_build_command_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    release = tiny_bert.write_release(tmp_path)
    command = f"xuankan model build {release}"
    with pytest.raises(EngineUnavailable, match=command):
        open_engine("tensorrt", release)
    with caplog.at_level(logging.WARNING):
        assert open_engine("auto", release).info.name == "onnx"
    (record,) = caplog.records
    assert record.message == "the GPU is not used"
    assert command in record.__dict__["fields"]["reason"]


@pytest.mark.usefixtures("machine")
def test_where_no_engine_runs_both_reasons_are_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = tiny_bert.write_release(tmp_path)

    def find_spec(_name: str) -> None: ...

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    with pytest.raises(EngineUnavailable, match=r"On the GPU: .*model build.* On the CPU: .*xuankan\[cpu\]"):
        open_engine("auto", release)


def test_auto_takes_the_plan_and_says_what_it_is(machine: Machine, built: Path) -> None:
    engine = open_engine("auto", built, 8)
    info = engine.info
    assert info.name == "tensorrt"
    assert info.device == "NVIDIA Made-up (9.0)"
    assert info.buckets == (16, 32, 48)
    assert info.shapes == SHAPES
    assert info.max_batch == 8
    assert (info.contexts, info.depth, info.slots) == (2, 2, 4)
    assert info.vocabulary_size == tiny_bert.VOCABULARY
    assert f"-fp16-{library.load_library().flavour}-" in info.fingerprint
    slot = engine.open_slot(3)
    for seed, (rows, tokens) in enumerate([(8, 16), (8, 48), (3, 48), (1, 1)]):
        batch = tiny_bert.random_batch(rows, seed, tokens, [tokens] * rows)
        np.testing.assert_array_equal(slot.score(batch), expected(batch))
    slot.close()
    engine.close()
    assert not machine.cuda.live
    assert [plan.closed for plan in machine.plans] == [1]


@pytest.mark.parametrize("pairs", [False, True])
def test_auto_takes_an_encoders_plan_alone_or_beside_the_cross_encoders(
    machine: Machine, tmp_path: Path, pairs: bool
) -> None:
    release = gpu.write_encoder_release(tmp_path, SHAPES[:2], SHAPES if pairs else ())
    engine = open_engine("auto", release, 8)
    info = engine.info
    assert machine.loaded == ["encoder.plan", *["cross_encoder.plan"] * pairs]
    assert info.encoder is not None
    assert info.encoder.shapes == SHAPES[:2]
    assert (info.encoder.buckets, info.encoder.max_batch) == ((16, 32), 8)
    sizes = (info.encoder.journals, info.encoder.dimensions, info.encoder.neighbours)
    assert sizes == (tiny_encoder.JOURNALS, tiny_encoder.DIMENSIONS, tiny_encoder.NEIGHBOURS)
    assert (info.buckets, info.shapes) == (((16, 32, 48), SHAPES) if pairs else ((), ()))
    assert info.vocabulary_size == tiny_bert.VOCABULARY
    slot = engine.open_slot(0)
    batch = tiny_bert.random_batch(8, tokens=32)
    np.testing.assert_array_equal(slot.encode(batch).logits, expected_encoded(batch).logits)
    if pairs:
        np.testing.assert_array_equal(slot.score(batch), expected(batch))
    slot.close()
    engine.close()
    assert not machine.cuda.live
    assert [plan.closed for plan in machine.plans] == [1] * (1 + pairs)


@pytest.mark.usefixtures("machine")
def test_batches_are_no_larger_than_the_plan_takes(built: Path, caplog: pytest.LogCaptureFixture) -> None:
    engine = open_engine("tensorrt", built, 64)
    assert engine.info.max_batch == 16
    assert "rebuild the engine with --max-batch" in caplog.text
    engine.close()


def test_a_shape_that_was_compiled_is_kept_for_the_next_start(
    machine: Machine, built: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    files = list((tmp_path / "cache").rglob("*.bin"))
    assert not files
    monkeypatch.setattr(engines, "_COMPILED_S", -1.0)
    engine = open_engine("tensorrt", built)
    engine.open_slot(0).close()
    (file,) = (tmp_path / "cache").rglob("*.bin")
    assert file.read_bytes() == b"kernels"
    engine.close()
    assert not machine.cuda.live


@pytest.mark.usefixtures("machine")
def test_a_plan_for_another_gpu_is_refused_with_the_build_command(built: Path) -> None:
    (path,) = built.glob("engines/*/engine.json")
    manifest = EngineManifest.load(path.parent)
    assert manifest.compute_capability == ANY
    try:
        replace(manifest, compute_capability="8.6").save(path.parent)
        with pytest.raises(EngineUnavailable, match=r"is for compute capability 8\.6.*xuankan model build"):
            open_engine("tensorrt", built)
    finally:
        manifest.save(path.parent)


def test_a_device_without_room_leaves_nothing(machine: Machine, built: Path) -> None:
    machine.cuda.faults["cudaMalloc", 2] = Status.cudaErrorMemoryAllocation
    with pytest.raises(EngineError, match="cudaErrorMemoryAllocation"):
        open_engine("tensorrt", built)
    assert not machine.cuda.live
    assert [plan.closed for plan in machine.plans] == [1]
