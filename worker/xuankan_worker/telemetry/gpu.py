"""How busy the worker's GPU is, by the driver's own library (NVML), for `/metrics` and the heartbeat."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

from xuankan.protocol.heartbeat import GpuLoad

_PERIOD_S: Final = 1.0


class GpuWatch:
    """Samples the GPU that CUDA calls 0 about once a second, in a thread, as drivers may take their time.

    Attributes:
        load: what was seen last; None before the first look, and where there is no GPU or no NVML.
    """

    def __init__(self, ask: Callable[[], GpuLoad | None] | None = None) -> None:
        self._ask = ask
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.load: GpuLoad | None = None

    def start(self) -> None:
        """Begin, if there is a GPU to ask about."""
        ask = self._ask or _asking()
        if ask is not None:
            self._thread = threading.Thread(target=self._watch, args=(ask,), name="nvml", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End; the thread is not waited for, as a driver whose device is lost may never answer."""
        self._stop.set()

    def _watch(self, ask: Callable[[], GpuLoad | None]) -> None:
        while not self._stop.is_set():
            self.load = ask()
            self._stop.wait(_PERIOD_S)


def open_nvml() -> tuple[Any, Any] | None:
    """NVML and its handle of the GPU that CUDA calls 0; None where there is no NVML or no GPU.

    CUDA_VISIBLE_DEVICES names that GPU by number or by UUID.
    """
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0].strip()
    try:
        nvml: Any = import_module("pynvml")
        nvml.nvmlInit()
        if first.startswith("GPU-"):
            return nvml, nvml.nvmlDeviceGetHandleByUUID(first)
        return nvml, nvml.nvmlDeviceGetHandleByIndex(int(first) if first.isdigit() else 0)
    except ImportError:
        return None
    except Exception as error:  # the package's own kind is not known without it
        if type(error).__module__ != "pynvml":
            raise
        return None


def nvml_text(value: str | bytes) -> str:
    """A text of NVML's: bytes in older versions of its package."""
    return value.decode() if isinstance(value, bytes) else value


def _asking() -> Callable[[], GpuLoad | None] | None:
    """A way to ask the driver; None where there is no NVML or no GPU."""
    opened = open_nvml()
    if opened is None:
        return None
    nvml, handle = opened
    try:
        index = int(nvml.nvmlDeviceGetIndex(handle))
    except nvml.NVMLError:
        return None

    def tell(question: Callable[[], Any]) -> float | None:
        try:
            return float(question())
        except nvml.NVMLError:  # not for this GPU, or not for a part of one
            return None

    def ask() -> GpuLoad | None:
        try:
            memory = nvml.nvmlDeviceGetMemoryInfo(handle)
            name = nvml.nvmlDeviceGetName(handle)
        except nvml.NVMLError:  # the GPU is lost
            return None
        busy = tell(lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
        watts = tell(lambda: nvml.nvmlDeviceGetPowerUsage(handle))
        clock = tell(lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM))
        return GpuLoad(
            index=index,
            name=nvml_text(name),
            busy=None if busy is None else busy / 100,
            used_bytes=int(memory.used),
            memory_bytes=int(memory.total),
            watts=None if watts is None else watts / 1000,
            celsius=tell(lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)),
            clock_hz=None if clock is None else clock * 1e6,
        )

    return ask
