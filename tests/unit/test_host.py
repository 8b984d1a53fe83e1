"""How many cores an engine may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from xuankan_worker.engines.host import cores

HERE = len(os.sched_getaffinity(0))


def group(mounted: Path, path: str, limit: str | None) -> None:
    directory = mounted / path
    directory.mkdir(parents=True, exist_ok=True)
    if limit is not None:
        (directory / "cpu.max").write_text(limit + "\n")


@pytest.mark.parametrize(
    ("path", "limits", "expected"),
    [
        ("/", {"": "100000 100000"}, 1),  # in a container with `cpus: 1`
        ("/", {"": "50000 100000"}, 1),  # half a core is still one thread
        ("/", {"": "max 100000"}, HERE),
        ("/system.slice/worker", {"system.slice/worker": "100000 100000"}, 1),
        ("/pod/worker", {"pod/worker": "max 100000", "pod": "20000 50000", "": None}, 1),  # the pod's limit
        ("/pod/worker", {"pod/worker": "max 100000", "other": "1000 100000"}, HERE),
        ("/", {"": "6400000 100000"}, HERE),  # more than there are
    ],
)
def test_the_limits_of_control_groups_count(
    tmp_path: Path, path: str, limits: dict[str, str | None], expected: int
) -> None:
    mounted, own = tmp_path / "cgroup", tmp_path / "own"
    group(mounted, path.strip("/"), None)
    for name, limit in limits.items():
        group(mounted, name, limit)
    own.write_text(f"1:cpu:/elsewhere\n0::{path}\n")
    assert cores(mounted, own) == expected


def test_without_control_groups_the_affinity_counts(tmp_path: Path) -> None:
    assert cores(tmp_path, tmp_path / "none") == HERE
    (tmp_path / "own").write_text("1:cpu:/\n")
    assert cores(tmp_path, tmp_path / "own") == HERE
