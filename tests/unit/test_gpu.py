"""What a worker tells of its GPU, with a stand-in for NVML: there is no GPU here."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from tests.support.nvml import NVMLError, driver, fail
from xuankan.protocol.heartbeat import GpuLoad
from xuankan_worker.telemetry.batch_metrics import GpuMetrics
from xuankan_worker.telemetry.gpu import GpuWatch


def seen(watch: GpuWatch) -> GpuLoad | None:
    """What a watch has seen once its thread has looked, or has nothing to look at."""
    watch.start()
    deadline = time.monotonic() + 5
    while watch.load is None and time.monotonic() < deadline:
        time.sleep(0.005)
    watch.stop()
    return watch.load


def samples(watch: GpuWatch) -> dict[str, float]:
    registry = CollectorRegistry()
    registry.register(GpuMetrics(watch))
    return {sample.name: sample.value for family in registry.collect() for sample in family.samples}


def test_a_gpu_is_seen_in_units_without_prefixes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", driver())
    watch = GpuWatch()
    assert samples(watch) == {}
    assert seen(watch) == GpuLoad(0, "NVIDIA H200", 0.8, 300, 1000, 700.0, 61.0, 1.5e9)
    assert samples(watch) == {
        "xuankan_gpu_busy_ratio": 0.8,
        "xuankan_gpu_memory_used_bytes": 300,
        "xuankan_gpu_memory_limit_bytes": 1000,
        "xuankan_gpu_power_watts": 700,
        "xuankan_gpu_temperature_celsius": 61,
        "xuankan_gpu_clock_hertz": 1.5e9,
    }


def test_what_a_gpu_does_not_tell_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = driver(nvmlDeviceGetUtilizationRates=fail, nvmlDeviceGetPowerUsage=fail)
    monkeypatch.setitem(sys.modules, "pynvml", silent)
    watch = GpuWatch()
    load = seen(watch)
    assert load is not None
    assert (load.busy, load.watts, load.celsius) == (None, None, 61)
    assert "xuankan_gpu_busy_ratio" not in samples(watch)


@pytest.mark.parametrize(
    ("visible", "asked"), [("3,4", ("index", 3)), ("GPU-1f2e", ("uuid", "GPU-1f2e")), ("", ("index", 0))]
)
def test_the_gpu_is_the_one_that_cuda_calls_0(
    monkeypatch: pytest.MonkeyPatch, visible: str, asked: tuple[str, object]
) -> None:
    calls: list[tuple[str, object]] = []

    def by_index(number: int) -> None:
        calls.append(("index", number))

    def by_uuid(uuid: str) -> None:
        calls.append(("uuid", uuid))

    found = driver(nvmlDeviceGetHandleByIndex=by_index, nvmlDeviceGetHandleByUUID=by_uuid)
    monkeypatch.setitem(sys.modules, "pynvml", found)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert seen(GpuWatch()) is not None
    assert calls == [asked]


@pytest.mark.parametrize("nvml", [None, driver(nvmlInit=fail)], ids=["no package", "no driver"])
def test_without_a_gpu_nothing_is_said(monkeypatch: pytest.MonkeyPatch, nvml: Any) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    watch = GpuWatch()
    watch.start()
    assert samples(watch) == {}
    watch.stop()


def test_an_error_of_another_kind_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("a defect")

    assert NVMLError.__module__ == "pynvml"
    monkeypatch.setitem(sys.modules, "pynvml", driver(nvmlInit=broken))
    with pytest.raises(RuntimeError, match="a defect"):
        GpuWatch().start()
