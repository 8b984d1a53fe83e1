"""Makes the device fail for good under a running engine: `python -m tests.gpu.crash RELEASE KIND`.

Its own process, as nothing can be done on the device afterwards. It must end by itself with status 0.
"""

from __future__ import annotations

import importlib
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np

from xuankan.errors import DeviceLost
from xuankan_worker.engines import Slot, TokenBatch
from xuankan_worker.engines.tensorrt.engine import open_tensorrt

_KERNELS = {
    "address": "mov.u64 %rd1, 0; mov.u32 %r1, 1; st.global.u32 [%rd1], %r1;",
    "trap": "trap;",
}
_PTX = """.version 6.5
.target sm_75
.address_size 64
.visible .entry crash() {{ .reg .b64 %rd<2>; .reg .b32 %r<2>; {body} ret; }}
"""


def crash(kind: str) -> None:
    """Launch a kernel that goes wrong, on a stream of its own."""
    driver: Any = importlib.import_module("cuda.bindings.driver")

    def call(function: str, *arguments: Any) -> Any:
        status, *rest = getattr(driver, function)(*arguments)
        if int(status):
            raise SystemExit(f"{function}: {status}")
        return rest[0] if rest else None

    module = call("cuModuleLoadData", _PTX.format(body=_KERNELS[kind]).encode() + b"\0")
    kernel = call("cuModuleGetFunction", module, b"crash")
    stream = call("cuStreamCreate", int(driver.CUstream_flags.CU_STREAM_NON_BLOCKING))
    call("cuLaunchKernel", kernel, 1, 1, 1, 1, 1, 1, 0, stream, 0, 0)


def main(release: Path, kind: str) -> None:
    """Run batches in every slot until the device is lost, then close everything."""
    engine = open_tensorrt(release, 4)
    slots = [engine.open_slot(index) for index in range(engine.info.slots)]
    batch = TokenBatch(np.ones((4, 64), np.int32), np.full(4, 64, np.int32), np.ones(4, np.int32))
    for slot in slots:
        slot.score(batch)
    outcomes: list[str] = []

    def drive(slot: Slot) -> None:
        try:
            for _ in range(100_000):
                slot.score(batch)
        except Exception as error:  # whatever it is, it is what this program is to tell
            outcomes.append(f"{'lost' if isinstance(error, DeviceLost) else 'other'}: {error}")

    threads = [threading.Thread(target=drive, args=(slot,)) for slot in slots]
    for thread in threads:
        thread.start()
    crash(kind)
    for thread in threads:
        thread.join()
    sys.stdout.write("\n".join([*outcomes, ""]))
    for slot in slots:
        slot.close()
    engine.close()
    engine.close()
    sys.stdout.write("closed\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
