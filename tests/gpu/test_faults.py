"""What goes wrong with a device or a plan, and that nothing is left behind."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.gpu import SHAPES, TOLERANCE, Say, batch_of, error_of, write_gpu_release
from xuankan.errors import EngineError, EngineUnavailable
from xuankan_worker.engines import open_engine
from xuankan_worker.engines.tensorrt.engine import TensorRTEngine, open_tensorrt
from xuankan_worker.engines.tensorrt.library import load_library
from xuankan_worker.engines.tensorrt.plan import plan_file
from xuankan_worker.engines.tensorrt.shapes import Shape

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(1800)]
_ROOT = Path(__file__).parents[2]
_MIB = 2**20


@pytest.mark.parametrize("kind", ["address", "trap"])
def test_a_device_that_is_lost_ends_every_slot_and_the_process_ends_by_itself(
    release: Path, kind: str, say: Say
) -> None:
    command = [sys.executable, "-m", "tests.gpu.crash", str(release), kind]
    # stderr is the library's too; a hang is what the time limit is for
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=300, check=False)
    lines = done.stdout.splitlines()
    say(f"{kind}: status {done.returncode}, {lines}")
    assert done.returncode == 0, done.stderr[-3000:]
    assert [line.partition(":")[0] for line in lines] == ["lost"] * 4 + ["closed"]


def test_a_bad_batch_between_good_ones_harms_nobody(engine: TensorRTEngine) -> None:
    slot = engine.open_slot(1)
    batch = batch_of(1, 4, 64)
    before = slot.score(batch)
    bad = replace(batch, lengths=np.zeros(4, np.int32)), batch_of(1, 33, 64), batch_of(1, 17, 512)
    for other in bad:
        with pytest.raises(EngineError):
            slot.score(other)
        np.testing.assert_array_equal(slot.score(batch), before)
    slot.close()


def test_a_plan_for_another_gpu_is_refused(tmp_path: Path) -> None:
    if not load_library().is_rtx:
        pytest.skip("the standard library builds for the GPU at hand only")
    release = write_gpu_release(tmp_path, (Shape(64, 4),), targets=("sm_86",))
    with pytest.raises(EngineUnavailable, match=r"is for compute capability 8\.6.*xuankan model build"):
        open_engine("tensorrt", release)


def test_a_damaged_plan_is_refused(tmp_path: Path) -> None:
    release = write_gpu_release(tmp_path, (Shape(64, 4),))
    (plan,) = release.glob(f"engines/*/{plan_file('cross_encoder')}")
    content = bytearray(plan.read_bytes())
    content[len(content) // 2] ^= 1
    plan.write_bytes(content)
    with pytest.raises(EngineUnavailable, match=r"is damaged.*xuankan model build"):
        open_engine("tensorrt", release)


def test_auto_takes_the_gpu(release: Path) -> None:
    engine = open_engine("auto", release, 16)
    assert engine.info.name == "tensorrt"
    assert engine.info.max_batch == 16
    engine.close()


def test_the_second_start_is_faster_and_leaves_nothing(release: Path, say: Say) -> None:
    free: list[int] = []
    for number in range(4):
        started_s = time.monotonic()
        engine = open_tensorrt(release, 32)
        loaded_s = time.monotonic()
        slots = [engine.open_slot(index) for index in range(engine.info.slots)]
        ready_s = time.monotonic()
        batch = batch_of(number, 4, 64)
        assert error_of(slots[0].score(batch), batch) < TOLERANCE
        used = _free_bytes()
        for slot in slots:
            slot.close()
        engine.close()
        free.append(_free_bytes())
        say(
            f"start {number}: plan {loaded_s - started_s:.2f} s, warm {ready_s - loaded_s:.2f} s; "
            f"{(free[-1] - used) / _MIB:.0f} MiB given back at the end"
        )
    assert min(free[1:]) >= free[1] - 16 * _MIB


def test_nothing_leaks(engine: TensorRTEngine, say: Say) -> None:
    """XUANKAN_LEAK_BATCHES batches (default 4,000) in eight slots: memory before and after."""
    total = int(os.environ.get("XUANKAN_LEAK_BATCHES", "4000"))
    slots = [engine.open_slot(index) for index in range(engine.info.slots)]
    batches = [batch_of(seed, shape.rows, shape.bucket) for seed, shape in enumerate(SHAPES)]

    def drive(index: int, count: int) -> None:
        for number in range(count):
            slots[index].score(batches[(index + number) % len(batches)])

    def drive_all(count: int) -> None:
        share = -(-count // len(slots))
        with ThreadPoolExecutor(len(slots)) as threads:
            list(threads.map(drive, range(len(slots)), [share] * len(slots)))

    drive_all(800)
    free, resident = _free_bytes(), _resident_bytes()
    started_s = time.monotonic()
    drive_all(total)
    took_s = time.monotonic() - started_s
    device, host = free - _free_bytes(), _resident_bytes() - resident
    say(
        f"{total} batches in {took_s:.1f} s: device memory {device / _MIB:+.2f} MiB, "
        f"host memory {host / _MIB:+.2f} MiB"
    )
    for slot in slots:
        slot.close()
    assert device <= 2 * _MIB
    assert host <= 16 * _MIB


def _free_bytes() -> int:
    runtime: Any = importlib.import_module("cuda.bindings.runtime")
    _, free, _ = runtime.cudaMemGetInfo()
    return int(free)


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
