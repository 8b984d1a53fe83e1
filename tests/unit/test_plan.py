from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support import tiny_gpu_graph
from xuankan.errors import EngineUnavailable
from xuankan_worker.engines.tensorrt.library import load_library
from xuankan_worker.engines.tensorrt.plan import (
    ENGINE_MANIFEST,
    ENGINES,
    BuiltPlan,
    Dynamic,
    EngineManifest,
    build_command,
    find_plan,
    plan_file,
)
from xuankan_worker.engines.tensorrt.shapes import Shape
from xuankan_worker.manifest import Manifest, file_sha256

PLAN = plan_file("cross_encoder")
LIBRARY = load_library("tensorrt_rtx")


def add_plan(release: Path, folder: str = "one", **changes: object) -> EngineManifest:
    """Put a plan that fits into a release, or one that differs in some fields."""
    manifest = Manifest.load(release)
    directory = release / ENGINES / folder
    directory.mkdir(parents=True)
    (directory / PLAN).write_bytes(folder.encode())
    plan = BuiltPlan(
        model="model.fp16.onnx",
        model_sha256=manifest.files["model.fp16.onnx"],
        shapes=(Shape(32, 8), Shape(64, 4)),
        dynamic=Dynamic(8, 64),
        opset=21,
        plan_sha256=file_sha256(directory / PLAN),
        build_s=1.5,
    )
    of_plan = {name: changes.pop(name) for name in ("model", "model_sha256") if name in changes}
    fitting = EngineManifest(
        release=manifest.fingerprint,
        template=manifest.template,
        precision="fp16",
        plans={"cross_encoder": replace(plan, **of_plan)},  # pyright: ignore[reportArgumentType]
        flavour=LIBRARY.flavour,
        version=LIBRARY.version,
        compute_capability="any",
        driver=None,
        built="2026-01-02T03:04:05Z",
        xuankan="0.1.0",
    )
    engine = replace(fitting, **changes)  # pyright: ignore[reportArgumentType]
    engine.save(directory)
    return engine


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return tiny_gpu_graph.write_release(tmp_path / "tiny")


def test_a_manifest_is_read_as_it_was_written(tiny: Path) -> None:
    written = add_plan(tiny)
    assert EngineManifest.load(tiny / ENGINES / "one") == written


def test_the_folder_says_what_the_plan_is_for(tiny: Path) -> None:
    engine = replace(add_plan(tiny), flavour="tensorrt_rtx", version="1.6.1.120")
    assert engine.folder == "tensorrt_rtx-1.6.1.120-any-fp16"
    two = replace(engine, compute_capability="8.6,12.0", precision="int8")
    assert two.folder == "tensorrt_rtx-1.6.1.120-sm_86+sm_120-int8"


def test_of_several_plans_that_fit_the_newest_is_taken(tiny: Path) -> None:
    add_plan(tiny, "old", built="2025-12-31T00:00:00Z")
    newest = add_plan(tiny, "new", built="2026-05-01T00:00:00Z", compute_capability="8.6,9.0")
    add_plan(tiny, "other", built="2026-06-01T00:00:00Z", compute_capability="8.9")
    (tiny / ENGINES / ".build-left").mkdir()
    assert find_plan(tiny, LIBRARY, "9.0") == (tiny / ENGINES / "new", newest)


def test_a_release_without_engines_says_how_to_build_one(tiny: Path) -> None:
    with pytest.raises(EngineUnavailable) as caught:
        find_plan(tiny, LIBRARY, "9.0")
    assert str(caught.value) == (
        f"release tiny has no TensorRT engine; build one: xuankan model build {tiny}"
    )


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"flavour": "tensorrt"}, "one was built with tensorrt, but tensorrt_rtx is installed here"),
        ({"version": "1.4.0.76"}, f"with tensorrt_rtx 1.4.0.76, but {LIBRARY.version} is installed"),
        ({"compute_capability": "8.6,8.9"}, "one is for compute capability 8.6,8.9"),
        ({"model_sha256": "f" * 64}, "(SHA-256 ffffffffffffffff…), which has changed since"),
        ({"model": "model.int8.onnx"}, "another model.int8.onnx (SHA-256"),
        ({"template": "f" * 16}, "one was built for template ffffffffffffffff"),
    ],
)  # fmt: skip
def test_a_plan_that_does_not_fit_is_refused_with_the_command_that_builds_one(
    tiny: Path, changes: dict[str, str], says: str
) -> None:
    add_plan(tiny, **changes)
    with pytest.raises(EngineUnavailable) as caught:
        find_plan(tiny, LIBRARY, "9.0")
    message = str(caught.value)
    assert says in message
    assert "on a GPU of compute capability 9.0" in message
    assert message.endswith(f"Build one here: xuankan model build {tiny}")


def test_only_the_precision_that_is_asked_for_is_taken(tiny: Path) -> None:
    engine = add_plan(tiny)
    assert find_plan(tiny, LIBRARY, "9.0", "fp16")[1] == engine
    with pytest.raises(EngineUnavailable, match=r"one is fp16, not int8.*build .*--precision int8$"):
        find_plan(tiny, LIBRARY, "9.0", "int8")


def test_a_damaged_plan_is_refused_with_the_command_that_builds_it_again(tiny: Path) -> None:
    add_plan(tiny, compute_capability="8.6,8.9")
    (tiny / ENGINES / "one" / PLAN).write_bytes(b"half")
    with pytest.raises(EngineUnavailable) as caught:
        find_plan(tiny, LIBRARY, "8.9")
    assert "cross_encoder.plan is damaged" in str(caught.value)
    assert str(caught.value).endswith(f"xuankan model build {tiny} --target sm_86,sm_89")
    (tiny / ENGINES / "one" / PLAN).unlink()
    with pytest.raises(EngineUnavailable, match=r"cross_encoder\.plan cannot be read"):
        find_plan(tiny, LIBRARY, "8.9")


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("format", "xuankan-engine/9", "format is 'xuankan-engine/9'; this build reads 'xuankan-engine/2'"),
        ("plans", None, "plans is missing"),
        ("plans", {}, "plans are of nothing"),
        ("plans", {"bi_encoder": {}}, "plans are of bi_encoder"),
        ("plans", {"encoder": {"model": "x"}}, "shapes"),
        ("colour", "red", "colour is not a field of it"),
        ("precision", "fp3", "precision is 'fp3'"),
        ("plans", {"encoder": {"shapes": [[1, 2, 3]]}}, "too many values"),
    ],
)
def test_a_manifest_that_is_not_one_is_refused(tiny: Path, field: str, value: object, says: str) -> None:
    add_plan(tiny)
    path = tiny / ENGINES / "one" / ENGINE_MANIFEST
    document = json.loads(path.read_text())
    if value is None:
        del document[field]
    else:
        document[field] = value
    path.write_text(json.dumps(document))
    with pytest.raises(EngineUnavailable) as caught:
        find_plan(tiny, LIBRARY, "9.0")
    assert says in str(caught.value)
    assert str(path) in str(caught.value)


def test_the_command_can_be_pasted_into_a_shell() -> None:
    assert (
        build_command(Path("/srv/my model"), "fp8") == "xuankan model build '/srv/my model' --precision fp8"
    )
