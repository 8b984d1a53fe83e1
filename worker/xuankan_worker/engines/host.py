"""The machine that an engine runs on."""

from __future__ import annotations

import math
import os
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


def cores(mounted: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """Cores that this process may use: by its affinity and, rounded up, by the limits of its control groups.

    A container's limit (`cpus: 2`, `limits: {cpu: "2"}`, `CPUQuota=200%`) leaves the affinity as it is; more
    threads than it allows are stopped in turns, for most of every tenth of a second. Version 2 of control
    groups; in a container `own` is "/", and `mounted` the container's group itself.

    Args:
        mounted: where control groups are seen.
        own: says which is this process's.
    """
    found = float(len(os.sched_getaffinity(0)))
    try:
        path = next(line[3:] for line in own.read_text().splitlines() if line.startswith("0::"))
    except (OSError, StopIteration):
        return int(found)
    group = mounted / path.strip("/")
    for each in (
        group,
        *group.parents[: len(group.parts) - len(mounted.parts)],
    ):  # every parent's limit holds too
        try:
            quota, _, period = (each / "cpu.max").read_text().partition(" ")
        except OSError:  # the root has none
            continue
        if quota != "max":
            found = min(found, float(quota) / float(period))
    return math.ceil(found)
