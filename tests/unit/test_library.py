from __future__ import annotations

import hashlib
import logging
import sys
from pathlib import Path
from types import ModuleType

import pytest

from xuankan.errors import EngineError, EngineUnavailable
from xuankan_worker.engines.tensorrt import library as seam
from xuankan_worker.engines.tensorrt.library import LoadedPlan, find_gpu, load_library


def test_rtx_says_what_it_is() -> None:
    library = load_library("tensorrt_rtx")
    assert str(library) == f"TensorRT-RTX {library.version}"
    assert "sm_86" in library.targets
    assert load_library("tensorrt_rtx").log is library.log  # TensorRT wants one logger for the process


def test_a_library_that_is_not_there_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in seam.FLAVOURS:
        monkeypatch.setitem(sys.modules, name, None)  # as if not installed
    monkeypatch.setattr(seam, "_load", seam._load.__wrapped__)  # pyright: ignore[reportPrivateUsage]
    assert seam.installed_libraries() == []
    with pytest.raises(EngineUnavailable) as caught:
        load_library()
    assert "pip install 'xuankan[gpu]'" in str(caught.value)
    assert "pip install 'xuankan[gpu-rtx]'" in str(caught.value)


def test_a_library_that_is_too_old_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    old = ModuleType("tensorrt")
    old.__dict__["__version__"] = "10.3.0"
    monkeypatch.setitem(sys.modules, "tensorrt", old)
    monkeypatch.setattr(seam, "_load", seam._load.__wrapped__)  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(EngineUnavailable, match=r"tensorrt is 10\.3\.0, but must be 10\.13 or later"):
        load_library("tensorrt")


def test_the_librarys_errors_are_collected_or_logged(caplog: pytest.LogCaptureFixture) -> None:
    library = load_library("tensorrt_rtx")
    with library.errors() as outer, library.errors() as inner:
        library.log.log(library.trt.ILogger.ERROR, "it\nbroke")
        library.log.log(library.trt.ILogger.INFO, "never mind")
    assert outer == inner == ["it broke"]
    with caplog.at_level(logging.WARNING, "xuankan_worker"):
        library.log.log(library.trt.ILogger.INTERNAL_ERROR, "again")
        library.log.log(library.trt.ILogger.WARNING, "careful")
        library.log.log(library.trt.ILogger.INFO, "never mind")
    assert [record.message for record in caplog.records] == ["again", "careful"]
    assert outer == ["it broke"]


def test_a_plan_that_cannot_be_loaded_gives_the_librarys_own_words(tmp_path: Path) -> None:
    library = load_library("tensorrt_rtx")
    plan = tmp_path / "engine.plan"
    plan.write_bytes(b"this is no plan" * 100)
    with pytest.raises(EngineError, match=r"TensorRT-RTX .* does not load plan .*engine\.plan: .+"):
        LoadedPlan(library, plan)
    plan.write_bytes(b"")
    with pytest.raises(EngineError, match="cannot be read"):
        LoadedPlan(library, plan)


@pytest.mark.skipif(find_gpu() is not None, reason="there is a GPU")
def test_without_a_gpu_no_plan_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "engine.plan").write_bytes(hashlib.sha256().digest())
    with pytest.raises(EngineUnavailable):
        LoadedPlan(load_library("tensorrt_rtx"), tmp_path / "engine.plan")


def test_the_cache_lies_where_the_user_wants_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("XUANKAN_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/editor")
    assert seam.cache_directory() == Path("/home/editor/.cache/xuankan")
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache/editor")
    assert seam.cache_directory() == Path("/var/cache/editor/xuankan")
    monkeypatch.setenv("XUANKAN_CACHE", str(tmp_path))
    first, second = seam.runtime_cache_path("a" * 64, "9.0"), seam.runtime_cache_path("a" * 64, "8.6")
    assert first.is_relative_to(tmp_path)
    assert first != second  # kernels are of one kind of GPU


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "cache.bin"
    seam.write_whole(path, b"first")
    with pytest.raises(TypeError):
        seam.write_whole(path, object())
    assert path.read_bytes() == b"first"
    assert list(path.parent.iterdir()) == [path]
