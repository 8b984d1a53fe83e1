"""The suite that needs a GPU: `python -m pytest tests/gpu -m gpu -q`. It builds its own small releases."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import gpu
from tests.support.gpu import SHAPES, Say
from xuankan_worker.engines.tensorrt.engine import TensorRTEngine, open_tensorrt


@pytest.fixture(scope="package", autouse=True)
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Skip without a GPU; for this suite alone a model with the kernels of real ones, and a kernel cache."""
    if reason := gpu.missing():
        pytest.skip(reason)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XUANKAN_CACHE", str(tmp_path_factory.mktemp("cache")))
        gpu.realistic(patch)
        yield


@pytest.fixture(scope="package")
def release(world: None, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: ARG001 (comes first)
    return gpu.write_gpu_release(tmp_path_factory.mktemp("release"), SHAPES)


@pytest.fixture(scope="package")
def engine(release: Path) -> Iterator[TensorRTEngine]:
    """Four contexts of two slots."""
    engine = open_tensorrt(release, 32, contexts=4)
    yield engine
    engine.close()


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """Print a measured figure, also in a run that passes."""

    def print_line(line: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n  {line}\n")
            sys.stdout.flush()

    return print_line
