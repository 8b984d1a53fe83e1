"""The chip's matrix peak, as large matrix products through PyTorch reach it, and what it runs on."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from xuankan.errors import EngineUnavailable
from xuankan_worker.bench.gpu.child import ChildTask, Emit, run
from xuankan_worker.bench.gpu.figures import spread

_SIZE, _PRODUCTS = 8192, 40


def measure(job: ChildTask, emit: Emit) -> None:
    """Time products of two 8192×8192 half-precision matrices of random numbers, 2·8192³ operations each.

    Raises:
        EngineUnavailable: PyTorch sees no GPU.
    """
    torch: Any = import_module("torch")
    if not torch.cuda.is_available():
        raise EngineUnavailable(f"PyTorch {torch.__version__} sees no CUDA GPU")
    torch.manual_seed(0)
    left, right = (torch.randn(_SIZE, _SIZE, device=job.device, dtype=torch.float16) for _ in range(2))
    out = torch.empty_like(left)

    def products() -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(_PRODUCTS):
            torch.mm(left, right, out=out)
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1000

    products()
    rates = [2 * _SIZE**3 * _PRODUCTS / products() / 1e12 for _ in range(7)]
    emit(
        {
            "tflops": spread(rates)["median"],
            "tflops_spread": spread(rates),
            "name": torch.cuda.get_device_name(),
            "capability": ".".join(map(str, torch.cuda.get_device_capability())),
            "cuda": torch.version.cuda,
        }
    )


if __name__ == "__main__":
    run(measure)
