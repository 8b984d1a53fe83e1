"""The machine that an engine runs on."""

from __future__ import annotations

import platform
from pathlib import Path


def processor() -> str:
    """The processor's name; Python knows it on no Linux but RISC-V's."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()
