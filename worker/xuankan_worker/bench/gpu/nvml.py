"""What the driver says of a GPU: memory, and how busy it is. Everything is None where there is no NVML."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Any, Self

from xuankan_worker.telemetry.gpu import nvml_text, open_nvml

_EVERY_S = 0.05
_SETTLING_S = 1.0
"""A utilization is of up to a second before it was read: what is read earlier is not of the load alone."""


class GpuHandle:
    """The GPU that CUDA calls 0."""

    def __init__(self) -> None:
        self._nvml: Any
        self._nvml, self._handle = open_nvml() or (None, None)

    @property
    def known(self) -> bool:
        """Whether there is a GPU to ask about."""
        return self._nvml is not None

    def about(self) -> dict[str, Any]:
        """Name, driver and memory."""
        if self._nvml is None:
            return {"name": None, "driver": None, "cuda_driver": None, "memory_bytes": None}
        cuda = int(self._nvml.nvmlSystemGetCudaDriverVersion())
        return {
            "name": nvml_text(self._nvml.nvmlDeviceGetName(self._handle)),
            "driver": nvml_text(self._nvml.nvmlSystemGetDriverVersion()),
            "cuda_driver": f"{cuda // 1000}.{cuda % 1000 // 10}",
            "memory_bytes": int(self._nvml.nvmlDeviceGetMemoryInfo(self._handle).total),
        }

    def used_bytes(self) -> int | None:
        """Memory in use by all processes."""
        if self._nvml is None:
            return None
        return int(self._nvml.nvmlDeviceGetMemoryInfo(self._handle).used)

    def busy(self) -> float | None:
        """Share of the last sampling period (the driver's, a sixth of a second to a second) with a kernel."""
        if self._nvml is None:
            return None
        try:
            return float(self._nvml.nvmlDeviceGetUtilizationRates(self._handle).gpu) / 100
        except self._nvml.NVMLError:  # a part of a GPU does not tell
            return None

    def process_bytes(self, pid: int) -> int | None:
        """Memory of one process as nvidia-smi shows it; None where the driver does not tell.

        Where process ids are not of this container, the only process on the GPU is taken to be the one.
        """
        if self._nvml is None:
            return None
        try:
            processes = self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle)
        except self._nvml.NVMLError:
            return None
        own = [each for each in processes if each.pid == pid] or processes
        if len(own) != 1 or own[0].usedGpuMemory is None:
            return None
        return int(own[0].usedGpuMemory)


class GpuMonitor:
    """Samples a GPU in a thread while the block runs.

    Attributes:
        peak_bytes: most memory in use at any time; None without NVML.
    """

    def __init__(self, gpu: GpuHandle) -> None:
        self._gpu = gpu
        self._stop = threading.Event()
        self._busy: list[tuple[float, float]] = []
        self._thread = threading.Thread(target=self._sample, name="nvml", daemon=True)
        self.peak_bytes: int | None = None

    def __enter__(self) -> Self:
        if self._gpu.known:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._gpu.known:
            self._thread.join()

    def busy_share(self, from_s: float, until_s: float) -> float | None:
        """Mean share of the time with a kernel running, between two monotonic times under even load."""
        found = [share for at_s, share in self._busy if from_s + _SETTLING_S <= at_s <= until_s]
        return round(sum(found) / len(found), 4) if found else None

    def _sample(self) -> None:
        while True:
            used, busy = self._gpu.used_bytes(), self._gpu.busy()
            if used is not None:
                self.peak_bytes = max(used, self.peak_bytes or 0)
            if busy is not None:
                self._busy.append((time.monotonic(), busy))
            if self._stop.wait(_EVERY_S):
                return


def grown_bytes(after: int | None, before: int | None) -> int | None:
    """Memory taken since `before`; None if it is not known."""
    return None if after is None or before is None else after - before
