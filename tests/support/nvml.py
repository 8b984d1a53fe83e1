"""A stand-in for pynvml, where there is no GPU."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any


class NVMLError(Exception):
    __module__ = "pynvml"


def answer(value: Any) -> Callable[..., Any]:
    def call(*_: object) -> Any:
        return value

    return call


def driver(**changes: Any) -> SimpleNamespace:
    """NVML of one GPU that is busy for 80 % and has one process."""
    functions: dict[str, Any] = {
        "NVML_CLOCK_SM": 1,
        "NVML_TEMPERATURE_GPU": 0,
        "NVMLError": NVMLError,
        "nvmlInit": answer(None),
        "nvmlDeviceGetHandleByIndex": answer("gpu 0"),
        "nvmlDeviceGetName": answer(b"NVIDIA H200"),
        "nvmlDeviceGetIndex": answer(0),
        "nvmlSystemGetDriverVersion": answer("580.95.05"),
        "nvmlSystemGetCudaDriverVersion": answer(13000),
        "nvmlDeviceGetMemoryInfo": answer(SimpleNamespace(total=1000, used=300)),
        "nvmlDeviceGetUtilizationRates": answer(SimpleNamespace(gpu=80)),
        "nvmlDeviceGetPowerUsage": answer(700_000),
        "nvmlDeviceGetClockInfo": answer(1500),
        "nvmlDeviceGetTemperature": answer(61),
        "nvmlDeviceGetComputeRunningProcesses": answer([SimpleNamespace(pid=7, usedGpuMemory=250)]),
    }
    return SimpleNamespace(**(functions | changes))


def fail(*_: object) -> None:
    raise NVMLError("not supported")
