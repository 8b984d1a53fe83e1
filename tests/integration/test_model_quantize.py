"""`xuankan model quantize`: from a checkpoint to an 8-bit graph that ONNX Runtime and TensorRT take."""

# pyarrow ships no types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from tests.support import tiny_bert
from xuankan.catalogue import Catalogue
from xuankan.catalogue.parquet import read_columns
from xuankan.errors import CatalogueError, InputError, ReleaseError
from xuankan.protocol.template import Template, default_directory
from xuankan_worker.cli.quantize import quantize
from xuankan_worker.engines.tensorrt.library import load_library
from xuankan_worker.engines.tensorrt.plan import plan_file
from xuankan_worker.engines.tensorrt.shapes import Shape
from xuankan_worker.manifest import GPU_MODEL, GpuQuantization, Manifest, file_sha256
from xuankan_worker.releases import gpu_quantize, numerics
from xuankan_worker.releases.build import build
from xuankan_worker.releases.calibrate import ObservedActivations, RangeMethod, score
from xuankan_worker.releases.export import ExportSettings, export_release
from xuankan_worker.releases.gpu_quantize import Candidate, quantize_release
from xuankan_worker.releases.judge import Loss, Material
from xuankan_worker.releases.qdq import Ranges

PAPERS = Path(__file__).parents[1] / "data" / "papers.parquet"
COLUMNS = ("title", "abstract", "journal", "split")
LIBRARY = load_library("tensorrt_rtx")


def silent(_what: str, _part: float) -> None:
    """No progress."""


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of a small random cross-encoder with the package's tokenizer."""
    directory = tmp_path_factory.mktemp("quantize")
    settings = ExportSettings(name="small", max_manuscript_tokens=80, max_profile_tokens=40)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny_bert, "VOCABULARY", Template.default().tokenizer.get_vocab_size())
        patch.setattr(tiny_bert, "POSITIONS", 128)
        patch.setattr(numerics, "has_torch", lambda: False)
        checkpoint = tiny_bert.write_checkpoint(directory / "checkpoint")
        shutil.copy(default_directory() / "tokenizer.json", checkpoint)
        export_release(checkpoint, directory / "release", settings)
    return directory / "release"


@pytest.fixture
def release(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "release"))


@pytest.fixture(scope="module")
def candidates(exported: Path) -> Callable[[str], Candidate]:
    """Quantized once for each precision."""
    made: dict[str, Candidate] = {}

    def candidate(precision: Any) -> Candidate:
        if precision not in made:
            made[precision] = quantize_release(exported, PAPERS, 60, precision, judging=20)
        return made[precision]

    return candidate


def run(release: Path, *arguments: str, papers: Path = PAPERS) -> Result:
    return CliRunner().invoke(quantize, [str(release), "--calibration", str(papers), *arguments])


def at(candidate: Candidate, release: Path, **loss: float) -> Candidate:
    return replace(candidate, release=release, loss=replace(candidate.loss, **loss))


def test_the_command_writes_a_graph_and_says_what_it_costs(release: Path) -> None:
    before = Manifest.load(release)
    outcome = run(release, "--samples", "60", "--papers", "20", "--limit", "100")
    assert outcome.exit_code == 0, outcome.output
    for word in (
        "entropy",
        "percentile 99.99",
        "min-max",
        "chosen",
        "top-1",
        "MRR",
        "Kendall τ",
        "limit 100 %",
    ):
        assert word in outcome.stdout
    assert f"xuankan model build {release} --precision int8" in outcome.stdout
    manifest = Manifest.load(release)
    manifest.verify(release)
    assert manifest.files == {**before.files, "model.int8.onnx": file_sha256(release / "model.int8.onnx")}
    record = manifest.quantized["int8"]
    assert record.samples == 48  # every fifth pair measured
    assert record.score_error[record.method] == min(record.score_error.values())
    assert record.loss["papers"] == 20
    assert manifest == replace(before, files=manifest.files, quantized={"int8": record})
    assert sorted(path.name for path in release.iterdir()) == sorted([*manifest.files, "manifest.json"])


@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_onnx_runtime_and_tensorrt_take_the_same_file(
    release: Path, candidates: Callable[[str], Candidate], precision: Any
) -> None:
    path = at(candidates(precision), release).save(limit=100)
    assert path == release / f"model.{precision}.onnx"
    pairs = Material(PAPERS, 4, Template.default(), Catalogue.default()).calibration(20, silent)
    pairs = [pair._replace(input_ids=pair.input_ids[:128]) for pair in pairs]
    fp16, eight = (
        score(onnx.ModelProto.FromString(file.read_bytes()), pairs) for file in (release / GPU_MODEL, path)
    )
    assert np.sqrt(np.mean(np.square(fp16 - eight))) < 0.3 * fp16.std()
    assert not np.array_equal(fp16, eight)
    folder, engine = build(release, LIBRARY, {"cross_encoder": [Shape(64, 4)]}, precision)
    assert (engine.precision, engine.plans["cross_encoder"].model_sha256) == (precision, file_sha256(path))
    assert (folder / plan_file("cross_encoder")).stat().st_size > 10_000


def test_a_graph_that_loses_too_much_is_refused_and_nothing_is_written(
    release: Path, candidates: Callable[[str], Candidate]
) -> None:
    bad = at(candidates("int8"), release, top1=0.5, top1_loss=3.0, mrr_loss=0.5)
    before = {path: path.read_bytes() for path in release.iterdir()}
    with pytest.raises(
        ReleaseError, match=r"loses 3\.00 % of top-1 .* --limit 0\.8 %: nothing was written"
    ) as caught:
        bad.save(0.8)
    for way_out in ("--samples", "--precision fp8", "--force", "--papers", "rank 1 is 10.00 % of top-1"):
        assert way_out in str(caught.value)
    assert {path: path.read_bytes() for path in release.iterdir()} == before
    with pytest.raises(ReleaseError, match=r"0\.90 % of MRR"):
        at(bad, release, top1_loss=-3.0, mrr_loss=0.9).save(0.8)


def test_it_is_written_within_the_limit_or_when_forced(
    release: Path, candidates: Callable[[str], Candidate]
) -> None:
    at(candidates("int8"), release, top1_loss=0.8, mrr_loss=-0.5).save(0.8)
    forced = at(candidates("fp8"), release, top1_loss=50.0)
    forced.save(0.8, force=True)
    assert set(Manifest.load(release).quantized) == {"int8", "fp8"}
    Manifest.load(release).verify(release)


def test_the_command_prints_the_loss_before_it_refuses(
    release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = gpu_quantize.loss

    def lossy(*given: Any) -> Loss:
        return replace(real(*given), mrr_loss=0.81)

    monkeypatch.setattr(gpu_quantize, "loss", lossy)
    monkeypatch.setattr(gpu_quantize, "ACCEPTED_ERROR", 1.0)
    outcome = run(release, "--samples", "50", "--papers", "5", "--precision", "fp8")
    assert outcome.exit_code != 0
    assert isinstance(outcome.exception, ReleaseError)
    assert "+0.81 %" in outcome.stdout
    assert not (release / "model.fp8.onnx").exists()


def test_a_sensitive_layer_stays_in_fp16(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One layer's activation is clipped to a fiftieth; all others are as good as they get."""

    class Clipping(ObservedActivations):
        def ranges(self, method: RangeMethod) -> Ranges:
            found = super().ranges(method)
            bad = {"layer.0.activation": found.largest["layer.0.activation"] / 50}
            return Ranges({**found.largest, **bad}, found.divisors)

    monkeypatch.setattr(gpu_quantize, "ObservedActivations", Clipping)
    monkeypatch.setattr(gpu_quantize, "ACCEPTED_ERROR", 0.2)
    found = quantize_release(release, PAPERS, 60, "int8", judging=2)
    assert found.record.kept == ["layer.0.output"]
    assert min(found.record.score_error.values()) > 0.2 >= found.record.error
    assert max(found.sensitivity, key=found.sensitivity.__getitem__) == "layer.0.output"
    assert len(found.sensitivity) == len(found.layers) == 10
    names = {value.name for value in found.model.graph.initializer}
    assert {f"{layer}.weight" for layer in found.layers} & names == {"layer.0.output.weight"}


def test_at_most_half_of_the_layers_return_to_fp16(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_quantize, "ACCEPTED_ERROR", 0.0)
    found = quantize_release(release, PAPERS, 50, "fp8", judging=2)
    assert len(found.record.kept) <= 5
    assert found.record.error <= min(found.record.score_error.values())


def test_papers_that_judge_do_not_calibrate_and_trained_ones_judge_last(tmp_path: Path) -> None:
    rows = {name: values[:30] for name, values in read_columns(PAPERS, COLUMNS).items()}
    rows["split"] = ["train"] * 20 + ["test"] * 10
    pq.write_table(pa.table(rows), tmp_path / "papers.parquet")
    material = Material(tmp_path / "papers.parquet", 6, Template.default(), Catalogue.default())
    judging = [pair.input_ids[: pair.first_length].tobytes() for pair in material.rankings(silent).pairs]
    calibrating = [p.input_ids[: p.first_length].tobytes() for p in material.calibration(200, silent)]
    templated = [_manuscript(*paper) for paper in zip(rows["title"], rows["abstract"], strict=True)]
    assert len(set(judging)) == 6
    assert set(judging) <= set(templated[20:])
    assert set(calibrating) == set(templated[:20])


def _manuscript(title: str, abstract: str) -> bytes:
    template = Template.default()
    ids = template.encode_manuscript(title, abstract).ids
    return np.array([template.cls_id, *ids, template.sep_id], np.int32).tobytes()


def test_too_few_samples_are_refused(release: Path) -> None:
    with pytest.raises(InputError, match="samples: 10 calibration pairs; at least 50"):
        quantize_release(release, PAPERS, 10)


def test_a_release_without_the_fp16_graph_is_refused(release: Path) -> None:
    manifest = Manifest.load(release)
    replace(manifest, files={k: v for k, v in manifest.files.items() if k != GPU_MODEL}).save(release)
    with pytest.raises(ReleaseError, match=r"has no model\.fp16\.onnx.*xuankan model export"):
        quantize_release(release, PAPERS)


def test_a_damaged_graph_is_refused(release: Path) -> None:
    with (release / GPU_MODEL).open("ab") as file:
        file.write(b"x")
    with pytest.raises(ReleaseError, match="damaged or was changed"):
        quantize_release(release, PAPERS)


def test_papers_without_a_needed_column_are_refused(release: Path, tmp_path: Path) -> None:
    path = tmp_path / "papers.parquet"
    pq.write_table(pa.table({"title": ["x"], "abstract": ["y"], "split": ["dev"]}), path)
    with pytest.raises(CatalogueError, match="lacks the columns journal"):
        quantize_release(release, path)


def test_papers_of_unknown_journals_alone_are_refused(release: Path, tmp_path: Path) -> None:
    path = tmp_path / "papers.parquet"
    columns = {"title": ["x", "z"], "abstract": ["y", None], "journal": ["Nowhere"] * 2, "split": ["dev"] * 2}
    pq.write_table(pa.table(columns), path)
    with pytest.raises(InputError, match="2 papers, 0 of them of journals in catalogue"):
        quantize_release(release, path)


def test_a_manifest_keeps_what_it_says_of_quantization(release: Path) -> None:
    record = GpuQuantization("entropy", 400, {"entropy": 0.1}, ["layer.0.output"], 0.02, {"top1_loss": 0.1})
    replace(Manifest.load(release), quantized={"int8": record}).save(release)
    assert Manifest.load(release).quantized == {"int8": record}
    document = json.loads((release / "manifest.json").read_text())
    document["quantized"]["int8"]["surprise"] = 1
    (release / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(ReleaseError, match="surprise"):
        Manifest.load(release)
