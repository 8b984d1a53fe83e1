from __future__ import annotations

import fcntl
import json
import re
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.support import gpu, tiny_encoder, tiny_gpu_graph
from xuankan.errors import EngineError, EngineUnavailable, InputError, ReleaseError
from xuankan.protocol.template import Template
from xuankan_worker.cli.build import build as command
from xuankan_worker.engines.tensorrt.layout import PlanKind
from xuankan_worker.engines.tensorrt.library import GpuIdentity, Library, find_gpu, load_library
from xuankan_worker.engines.tensorrt.plan import ENGINES, Dynamic, EngineManifest, find_plan, plan_file
from xuankan_worker.engines.tensorrt.shapes import Shape
from xuankan_worker.manifest import GPU_ENCODER, Manifest, file_sha256
from xuankan_worker.releases import build as building
from xuankan_worker.releases.build import build
from xuankan_worker.releases.dequantize import read_encoder
from xuankan_worker.releases.gpu_retrieval_graph import write_gpu_retrieval_graph

LIBRARY = load_library("tensorrt_rtx")
SHAPES = (Shape(32, 8), Shape(64, 4))
PAIRS: dict[PlanKind, tuple[Shape, ...]] = {"cross_encoder": SHAPES}
PLAN = plan_file("cross_encoder")


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return tiny_gpu_graph.write_release(tmp_path / "tiny")


def contents(release: Path) -> list[str]:
    return sorted(path.name for path in (release / ENGINES).iterdir() if path.name != ".lock")


def test_a_build_makes_a_plan_that_a_worker_finds(tiny: Path) -> None:
    told: list[tuple[str, float]] = []
    folder, engine = build(tiny, LIBRARY, PAIRS, progress=lambda what, part: told.append((what, part)))
    manifest = Manifest.load(tiny)
    gpu = find_gpu()
    assert folder.parent == tiny / ENGINES
    assert folder.name == f"tensorrt_rtx-{LIBRARY.version}-any-fp16"
    assert (folder / PLAN).stat().st_size > 10_000
    assert engine.release == manifest.fingerprint
    assert list(engine.plans) == ["cross_encoder"]
    plan = engine.plans["cross_encoder"]
    assert (plan.model, plan.model_sha256) == ("model.fp16.onnx", file_sha256(tiny / "model.fp16.onnx"))
    assert plan.plan_sha256 == file_sha256(folder / PLAN)
    assert (plan.shapes, plan.dynamic) == (SHAPES, Dynamic(8, 64))
    assert engine.driver == (gpu.driver if gpu else None)
    assert plan.opset == tiny_gpu_graph.OPSET
    assert plan.build_s > 0
    assert find_plan(tiny, LIBRARY, "9.0") == (folder, engine)
    assert contents(tiny) == [folder.name]
    assert told[-1] == ("profile 3 of 3", 1.0)
    assert [part for _, part in told] == sorted(part for _, part in told)


def test_every_shape_is_a_profile_of_its_own_and_the_fallback_is_the_last(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan cannot be loaded without a GPU, so the profiles are read where the library takes them."""
    taken: list[list[tuple[int, ...]]] = []

    def spy(builder: Any, config: Any, low: tuple[int, int], high: tuple[int, int]) -> None:
        add(builder, config, low, high)
        profile = builder.create_optimization_profile()
        profile.set_shape("tokens", low, high, high)
        taken.append([tuple(shape) for shape in profile.get_shape("tokens")])
        assert config.num_optimization_profiles == len(taken)

    add = building._add_profile  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(building, "_add_profile", spy)
    build(tiny, LIBRARY, PAIRS)
    assert taken == [[(32, 8)] * 3, [(64, 4)] * 3, [(1, 1), (64, 8), (64, 8)]]


def test_a_plan_for_chosen_gpus_fits_only_those(tiny: Path) -> None:
    folder, engine = build(tiny, LIBRARY, {"cross_encoder": SHAPES[1:]}, targets=["sm_86", "sm_120"])
    assert engine.compute_capability == "8.6,12.0"
    assert folder.name.endswith("-sm_86+sm_120-fp16")
    assert find_plan(tiny, LIBRARY, "12.0")[1] == engine
    with pytest.raises(EngineUnavailable, match=r"is for compute capability 8\.6,12\.0"):
        find_plan(tiny, LIBRARY, "9.0")


def test_an_unknown_target_is_refused_with_those_that_are_known(tiny: Path) -> None:
    with pytest.raises(InputError) as caught:
        build(tiny, LIBRARY, PAIRS, targets=["sm_86", "sm_90"])
    assert "target: 'sm_90'; TensorRT-RTX" in str(caught.value)
    assert "sm_75, sm_80, sm_86, sm_89, sm_120, sm_121; a plan built without --target" in str(caught.value)


def test_an_operator_that_the_library_lacks_is_named_with_its_node(tmp_path: Path) -> None:
    release = tiny_gpu_graph.write_release(tmp_path / "odd", operator="Frobnicate")
    with pytest.raises(EngineError) as caught:
        build(release, LIBRARY, PAIRS)
    message = str(caught.value)
    assert "node pool.rows (operator Frobnicate): Op type Frobnicate is not supported" in message
    assert "model.fp16.onnx" in message
    assert contents(release) == []


def test_a_graph_of_something_else_is_refused(tmp_path: Path) -> None:
    release = tiny_gpu_graph.write_release(tmp_path / "other", output="logits")
    with pytest.raises(ReleaseError, match="outputs logits: it was not made by `xuankan model`"):
        build(release, LIBRARY, PAIRS)


def test_a_release_without_the_graph_says_what_makes_it(tiny: Path) -> None:
    with pytest.raises(
        ReleaseError, match=r"tiny has no model\.int8\.onnx; make it: xuankan model quantize "
    ):
        build(tiny, LIBRARY, PAIRS, "int8")
    (tiny / "model.fp16.onnx").write_bytes(b"changed")
    with pytest.raises(ReleaseError, match="is damaged or was changed"):
        build(tiny, LIBRARY, PAIRS)
    (tiny / "model.fp16.onnx").unlink()
    with pytest.raises(ReleaseError, match="cannot be read"):
        build(tiny, LIBRARY, PAIRS)


def test_a_build_that_fails_leaves_the_old_plan_and_nothing_half(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, engine = build(tiny, LIBRARY, PAIRS)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(EngineManifest, "save", full)
        with pytest.raises(OSError, match="No space left"):
            build(tiny, LIBRARY, {"cross_encoder": SHAPES[:1]})
    assert contents(tiny) == [folder.name]
    assert find_plan(tiny, LIBRARY, "9.0") == (folder, engine)
    killed = tiny / ENGINES / ".build-killed" / "new"
    killed.mkdir(parents=True)
    (killed / PLAN).write_bytes(b"half")
    assert find_plan(tiny, LIBRARY, "9.0") == (folder, engine)
    _, newer = build(tiny, LIBRARY, {"cross_encoder": SHAPES[1:]})
    assert contents(tiny) == [folder.name]
    assert find_plan(tiny, LIBRARY, "9.0") == (folder, newer)


def test_an_interrupted_build_stops_and_leaves_nothing(tiny: Path) -> None:
    def interrupt(what: str, _part: float) -> None:
        if what.startswith("profile"):
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        build(tiny, LIBRARY, PAIRS, progress=interrupt)
    assert contents(tiny) == []
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_two_builds_of_one_release_do_not_mix(tiny: Path) -> None:
    (tiny / ENGINES).mkdir()
    with (tiny / ENGINES / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(EngineError, match=r"another build into .* is running"):
            build(tiny, LIBRARY, PAIRS)
    build(tiny, LIBRARY, PAIRS)


@pytest.fixture
def standard() -> Library:
    """RTX in the place of the standard library, whose API is the same as far as it is used."""
    return replace(LIBRARY, flavour="tensorrt", version="11.4.0.106")


@pytest.mark.filterwarnings("ignore:Use Deprecated in TensorRT-RTX 1.2:DeprecationWarning")
def test_the_standard_library_builds_for_the_gpu_at_hand_and_keeps_what_it_timed(
    tiny: Path, standard: Library, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(building, "find_gpu", lambda: GpuIdentity("NVIDIA H100 PCIe", "9.0", "580.95.05"))
    monkeypatch.setenv("XUANKAN_CACHE", str(tmp_path / "cache"))
    build(tiny, standard, PAIRS)
    (timings,) = (tmp_path / "cache").iterdir()
    assert timings.name == "tensorrt-11.4.0.106-NVIDIA_H100_PCIe.timing"
    assert timings.stat().st_size > 0
    folder, engine = build(tiny, standard, PAIRS, targets=["sm_90"])  # reads what the first has written
    assert folder.name == "tensorrt-11.4.0.106-sm_90-fp16"
    assert (engine.compute_capability, engine.driver) == ("9.0", "580.95.05")
    with pytest.raises(InputError, match=r"sm_86; .* this machine's GPU, NVIDIA H100 PCIe: sm_90"):
        build(tiny, standard, PAIRS, targets=["sm_86"])


@pytest.mark.skipif(find_gpu() is not None, reason="there is a GPU")
def test_the_standard_library_builds_only_where_a_gpu_is(tiny: Path, standard: Library) -> None:
    with pytest.raises(
        EngineUnavailable, match=r"TensorRT 11.4.0.106 builds on the GPU .*--library tensorrt_rtx"
    ):
        build(tiny, standard, PAIRS)


def test_the_command_builds_and_says_what_it_built(tiny: Path) -> None:
    result = CliRunner().invoke(command, [str(tiny), "--buckets", "32x4,64", "--library", "tensorrt_rtx"])
    assert result.exit_code == 0, result.output
    folder = tiny / ENGINES / f"tensorrt_rtx-{LIBRARY.version}-any-fp16"
    assert f"{folder}: " in result.stdout
    assert "tokens x rows: 32x4 64x16, any up to 64x16" in result.stdout
    assert "100.0% profile 3 of 3" in result.stderr
    document = json.loads((folder / "engine.json").read_text())
    assert document["plans"]["cross_encoder"]["shapes"] == [[32, 4], [64, 16]]


def test_the_command_chooses_default_shapes_by_the_longest_row(tiny: Path) -> None:
    result = CliRunner().invoke(command, [str(tiny), "--max-batch", "4", "--target", "sm_86"])
    assert result.exit_code == 0, result.output
    assert "tokens x rows: 64x4, any up to 64x4" in result.stdout


def test_buckets_are_written_or_measured_but_not_both(tiny: Path) -> None:
    papers = str(tiny / "manifest.json")
    result = CliRunner().invoke(command, [str(tiny), "--buckets", "64", "--lengths-from", papers])
    assert result.exit_code == 2
    assert "give either --buckets or --lengths-from" in result.output


def test_buckets_are_chosen_by_the_lengths_of_real_pairs(tmp_path: Path) -> None:
    template = Template.default()
    release = tiny_gpu_graph.write_release(tmp_path / "tiny", max_length=template.max_length)
    replace(Manifest.load(release), template=template.fingerprint).save(release)
    papers = Path(__file__).parents[1] / "data" / "papers.parquet"
    result = CliRunner().invoke(command, [str(release), "--lengths-from", str(papers)])
    assert result.exit_code == 0, result.output
    assert (match := re.search(r"--buckets ([\d,]+): (\d\.\d)% of the tokens", result.stderr))
    assert f"{match[1].rpartition(',')[2]}x16, any up to" in result.stdout
    assert 0 < float(match[2]) < 5


@pytest.mark.parametrize("pairs", [False, True])
def test_an_encoder_is_built_from_the_graph_for_cpus(tmp_path: Path, pairs: bool) -> None:
    """The release needs no other graph; a cross-encoder's plan is built of such a one too."""
    shapes = (Shape(16, 4), Shape(48, 2))
    release = gpu.write_encoder_release(tmp_path, shapes, shapes if pairs else ())
    folder, engine = find_plan(release, LIBRARY, "9.0")
    files = Manifest.load(release).files
    assert list(engine.plans) == ["encoder", *["cross_encoder"] * pairs]
    for kind, plan in engine.plans.items():
        assert plan.model == {"encoder": "encoder.onnx", "cross_encoder": "model.onnx"}[kind]
        assert plan.model_sha256 == files[plan.model]
        assert plan.plan_sha256 == file_sha256(folder / plan_file(kind))
    encoder = engine.plans["encoder"]
    assert (encoder.shapes, encoder.dynamic) == (shapes, Dynamic(4, 48))
    assert contents(release) == [folder.name]
    names = [plan_file(kind) for kind in engine.plans]
    assert sorted(path.name for path in folder.iterdir()) == sorted([*names, "engine.json"])


def test_an_encoders_own_graph_for_gpus_comes_first(tmp_path: Path) -> None:
    release = tiny_encoder.write_release(tmp_path)
    checkpoint, corpus = read_encoder(release)
    graph = write_gpu_retrieval_graph(checkpoint, corpus, tiny_encoder.NEIGHBOURS)
    (release / GPU_ENCODER).write_bytes(graph.SerializeToString())
    manifest = Manifest.load(release)
    files = {**manifest.files, GPU_ENCODER: file_sha256(release / GPU_ENCODER)}
    replace(manifest, files=files).save(release)
    _, engine = build(release, LIBRARY, {"encoder": SHAPES[:1]})
    assert engine.plans["encoder"].model == GPU_ENCODER


def test_an_encoder_of_another_shape_is_refused(tmp_path: Path) -> None:
    release = tiny_encoder.write_release(tmp_path)
    manifest = Manifest.load(release)
    assert manifest.encoder is not None
    replace(manifest, encoder=replace(manifest.encoder, journals=14)).save(release)
    with pytest.raises(ReleaseError, match=r"logits x 13, .*or not for this release"):
        build(release, LIBRARY, {"encoder": SHAPES[:1]})
    assert contents(release) == []


def test_an_engine_of_an_encoder_alone_is_too_little_for_a_release_of_both(tmp_path: Path) -> None:
    release = tiny_encoder.write_release(tmp_path)
    build(release, LIBRARY, {"encoder": SHAPES[:1]})
    manifest = Manifest.load(release)
    replace(manifest, architecture=tiny_encoder.architecture()).save(release)
    with pytest.raises(EngineUnavailable, match="has no plan of the cross-encoder, which the release has"):
        find_plan(release, LIBRARY, "9.0")
    with pytest.raises(InputError, match="buckets: no shape to build for"):
        build(release, LIBRARY, {"encoder": SHAPES[:1]})


def test_the_command_builds_what_the_release_has(tmp_path: Path) -> None:
    release = tiny_encoder.write_release(tmp_path)
    result = CliRunner().invoke(command, [str(release), "--max-batch", "4", "--library", "tensorrt_rtx"])
    assert result.exit_code == 0, result.output
    assert "encoder: " in result.stdout
    assert "tokens x rows: 48x4, any up to 48x4" in result.stdout
    result = CliRunner().invoke(command, [str(release), "--buckets", "48"])
    assert result.exit_code == 2
    assert "release tiny-encoder has no cross-encoder to choose buckets for" in result.output
