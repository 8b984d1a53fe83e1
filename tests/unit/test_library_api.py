"""The standard library is not run in the tests: that its API has what Xuankan uses is checked by name."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from tests.support.tensorrt_api import COMMON, RTX_ONLY, SNAPSHOT, Api, describe
from xuankan_worker.engines.tensorrt.library import load_library

RTX = load_library("tensorrt_rtx").trt
SNAPSHOTS: dict[str, Api] = json.loads(SNAPSHOT.read_text())
PACKAGE = Path(__file__).parents[2] / "worker" / "xuankan_worker"
SOURCES = [*sorted((PACKAGE / "engines" / "tensorrt").glob("*.py")), PACKAGE / "releases" / "build.py"]


def words(table: dict[str, str]) -> set[str]:
    return {word for members in table.values() for word in members.split()} | set(table)


@pytest.mark.parametrize("version", sorted(SNAPSHOTS))
def test_the_standard_library_has_all_that_is_used_with_the_same_parameters(version: str) -> None:
    standard, rtx = SNAPSHOTS[version], describe(RTX)
    for kind, members in COMMON.items():
        for name in members.split():
            assert name in rtx[kind], f"RTX has no {kind}.{name}"
            assert name in standard[kind], f"{version} has no {kind}.{name}"
            for overload in rtx[kind][name]:
                assert overload in standard[kind][name], f"{kind}.{name} of {version}"


def test_versions_ten_and_eleven_were_looked_at() -> None:
    assert {version.partition(".")[0] for version in SNAPSHOTS} == {"10", "11"}


def test_rtx_has_what_is_used_of_it_alone() -> None:
    for kind, members in RTX_ONLY.items():
        for name in members.split():
            assert hasattr(getattr(RTX, kind), name), f"{kind}.{name}"


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_the_sources_use_nothing_of_the_api_that_is_not_listed(source: Path) -> None:
    kinds = [name for name in dir(RTX) if isinstance(getattr(RTX, name), type)]
    api: set[str] = set(kinds)
    for kind in kinds:
        api |= {name for name in dir(getattr(RTX, kind)) if not name.startswith("_")}
    telling = {name for name in api if "_" in name or not name.islower()}  # the rest are words like `append`
    used = {node.attr for node in ast.walk(ast.parse(source.read_text())) if isinstance(node, ast.Attribute)}
    assert used & telling - words(COMMON) - words(RTX_ONLY) == set()
