"""What is measured of the processes and of the server, and whether it grows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from redis.asyncio import Redis
from scipy import stats  # pyright: ignore[reportMissingTypeStubs]  # it has none

_SETTLED_SHARE: Final = 0.25
"""The first part of a run is left out: caches fill, and the allocator finds its size."""
_CONFIDENCE: Final = 0.95
ALLOWED_PER_HOUR: Final = {"rss_mib": 2.0, "descriptors": 1.0, "threads": 0.5, "keys": 2.0}
"""Growth that is taken for noise; a leak of 600 bytes for each request of one a second would be more."""


def process(pid: int) -> dict[str, float]:
    """Memory, descriptors and threads of a process."""
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
    )
    return {
        "rss_mib": int(status["VmRSS"].split()[0]) / 1024,
        "descriptors": len(list(Path(f"/proc/{pid}/fd").iterdir())),
        "threads": int(status["Threads"]),
    }


async def keys(client: Redis, result_s: float) -> Counter[str]:
    """Keys by kind; results are made to live for `result_s`: an hour of them would hide all else."""
    found, cursor = Counter[str](), 0
    while True:
        cursor, names = await cast(Any, client).execute_command("SCAN", cursor, "COUNT", 1000)
        for name in names:
            kind = name.decode().split("}:", 1)[-1].split(":", 1)[0]
            found[kind] += 1
            if kind == "result":
                await cast(Any, client).execute_command("PEXPIRE", name, round(result_s * 1000), "LT")
        if not int(cursor):
            return found


@dataclass(frozen=True, slots=True)
class Slope:
    """How something changes in an hour: Theil and Sen's estimate, which outliers do not move."""

    what: str
    per_hour: float
    low: float
    high: float
    last: float
    allowed: float

    @property
    def grows(self) -> bool:
        """Whether it grows by more than is allowed, with the stated confidence."""
        return self.low > self.allowed


def slopes(hours: Sequence[float], samples: Sequence[Mapping[str, float]]) -> list[Slope]:
    """The slope of everything that was sampled, `process.what` each, once it had settled."""
    first = int(len(samples) * _SETTLED_SHARE)
    found: list[Slope] = []
    for name in sorted({name for one in samples for name in one}):
        values = [one.get(name, 0.0) for one in samples][first:]
        slope, _, low, high = cast(Any, stats).theilslopes(values, hours[first:], _CONFIDENCE)
        allowed = ALLOWED_PER_HOUR[name.rsplit(".", 1)[-1]]
        found.append(Slope(name, float(slope), float(low), float(high), values[-1], allowed))
    return found
