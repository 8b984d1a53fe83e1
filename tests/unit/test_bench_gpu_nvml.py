"""What the benchmark asks the driver, with a stand-in for NVML: there is no GPU here."""

from __future__ import annotations

import sys
import time
from types import SimpleNamespace

import pytest

from tests.support.nvml import answer, driver, fail
from xuankan_worker.bench.gpu.nvml import GpuHandle, GpuMonitor, grown_bytes


def test_a_gpu_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", driver())
    gpu = GpuHandle()
    assert gpu.known
    assert gpu.about() == {
        "name": "NVIDIA H200",
        "driver": "580.95.05",
        "cuda_driver": "13.0",
        "memory_bytes": 1000,
    }
    assert gpu.used_bytes() == 300
    assert grown_bytes(gpu.used_bytes(), 100) == 200
    assert gpu.process_bytes(7) == 250
    assert gpu.process_bytes(99) == 250  # ids of another container: the only process it is


def test_a_process_among_others_is_told_by_its_id(monkeypatch: pytest.MonkeyPatch) -> None:
    processes = [SimpleNamespace(pid=7, usedGpuMemory=250), SimpleNamespace(pid=8, usedGpuMemory=None)]
    monkeypatch.setitem(sys.modules, "pynvml", driver(nvmlDeviceGetComputeRunningProcesses=answer(processes)))
    assert GpuHandle().process_bytes(7) == 250
    assert GpuHandle().process_bytes(8) is None
    assert GpuHandle().process_bytes(9) is None


def test_a_watch_averages_the_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", driver())
    from_s = time.monotonic() - 10
    with GpuMonitor(GpuHandle()) as watch:
        pass
    assert watch.busy_share(from_s, time.monotonic()) == 0.8
    assert watch.busy_share(time.monotonic(), time.monotonic() + 10) is None
    assert watch.peak_bytes == 300


def test_what_the_driver_does_not_tell_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = driver(nvmlDeviceGetUtilizationRates=fail, nvmlDeviceGetComputeRunningProcesses=fail)
    monkeypatch.setitem(sys.modules, "pynvml", silent)
    with GpuMonitor(GpuHandle()) as watch:
        pass
    assert watch.busy_share(0, time.monotonic()) is None
    assert watch.peak_bytes == 300
    assert GpuHandle().process_bytes(7) is None


def test_without_a_driver_everything_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (driver(nvmlInit=fail), None):
        monkeypatch.setitem(sys.modules, "pynvml", module)
        gpu = GpuHandle()
        assert not gpu.known
        assert gpu.about()["name"] is None
        assert gpu.used_bytes() is None
        assert gpu.process_bytes(7) is None
        with GpuMonitor(gpu) as watch:
            pass
        assert watch.peak_bytes is None
        assert grown_bytes(watch.peak_bytes, 0) is None
