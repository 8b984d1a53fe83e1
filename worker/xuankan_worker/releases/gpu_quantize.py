"""Makes the INT8 or FP8 graph of a release for GPUs, and measures what it costs before it is accepted.

1. Pairs of real papers run through the FP16 graph: `calibrate.ObservedActivations`.
2. Each method quantizes every layer; the scores of pairs kept apart say which method is best.
3. If its error is above `ACCEPTED_ERROR`, each layer is quantized alone: the most sensitive ones return to
   FP16, one after the other, until it is not. Once half of them are back, which leaves little to gain, the
   best so far is taken.
4. The graph that will be written and the FP16 graph rank the journals of other papers, whose own journal is
   known: `judge.Loss`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import onnx

from xuankan.catalogue import Catalogue
from xuankan.errors import InputError, ReleaseError
from xuankan_worker.manifest import GPU_MODEL, GpuQuantization, Manifest, file_sha256, template_of
from xuankan_worker.releases.calibrate import ObservedActivations, methods, score
from xuankan_worker.releases.judge import Loss, Material, loss
from xuankan_worker.releases.onnx_file import read_onnx
from xuankan_worker.releases.qdq import QuantizedPrecision, Ranges, float_twin, quantized, sites
from xuankan_worker.releases.quantize import MIN_PAIRS, Pair

ACCEPTED_ERROR = 0.03
"""Root mean square error of scores, in units of their standard deviation; above it layers return to FP16. It
is no promise: the shipped model at 4.6 % lost one rank 1 of 66 and 0.48 ± 0.47 % of MRR on 300 papers."""
_HELD_OUT = 5  # every fifth pair measures and does not calibrate
Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A quantized graph that is not written yet.

    Attributes:
        release: its directory.
        precision: of the graph.
        model: the graph.
        record: how it was made; what the manifest will say.
        sensitivity: error of each layer quantized alone; empty if there was no need to know.
        layers: that could be quantized, by name.
        loss: against FP16.
    """

    release: Path
    precision: QuantizedPrecision
    model: onnx.ModelProto
    record: GpuQuantization
    sensitivity: dict[str, float]
    layers: tuple[str, ...]
    loss: Loss

    def save(self, limit: float, force: bool = False) -> Path:
        """Write the graph into the release and record it in the manifest.

        Args:
            limit: percent of top-1 or MRR that may be lost.
            force: write whatever it loses.

        Returns:
            The graph's file.

        Raises:
            ReleaseError: it loses more than the limit, or the release cannot be written.
        """
        found = self.loss
        if found.largest > limit and not force:
            better = "" if self.precision == "fp8" else " --precision fp8,"
            raise ReleaseError(
                f"{self.precision} loses {found.top1_loss:.2f} % of top-1 and {found.mrr_loss:.2f} % of MRR "
                f"against FP16 on {found.papers} papers, more than --limit {limit:g} %: nothing was written. "
                f"One paper at rank 1 is {100 / max(1, found.top1 * found.papers):.2f} % of top-1: more "
                f"--papers give a finer answer. Or try more --samples,{better} or --force to write it "
                "anyway"
            )
        path = self.release / f"model.{self.precision}.onnx"
        manifest = Manifest.load(self.release)
        try:
            new = path.with_name(f".{path.name}")  # a killed run leaves no half of a graph under its name
            new.write_bytes(self.model.SerializeToString())
            new.replace(path)
            replace(
                manifest,
                files={**manifest.files, path.name: file_sha256(path)},
                quantized={**manifest.quantized, self.precision: self.record},
            ).save(self.release)
        except OSError as error:
            raise ReleaseError(f"{path} cannot be written: {error}") from error
        return path


def quantize_release(
    release: Path,
    papers: Path,
    samples: int = 512,
    precision: QuantizedPrecision = "int8",
    judging: int = 300,
    progress: Progress = lambda _what, _part: None,
) -> Candidate:
    """Quantize the FP16 graph of a release.

    Args:
        release: its directory, as `export_release` wrote it; nothing is written yet.
        papers: Parquet table with the columns title, abstract, journal and split; see `judge.Material`.
        samples: calibration pairs, 500 to 1000; every fifth measures methods and layers.
        precision: `int8` or `fp8`.
        judging: papers that judge the result.
        progress: told how far it is.

    Raises:
        ReleaseError: the release has no FP16 graph, is damaged, or its graph has nothing to quantize.
        CatalogueError: the table cannot be read or lacks a column.
        InputError: too few samples or papers.
    """
    if samples < MIN_PAIRS:
        raise InputError(
            "samples", f"{samples} calibration pairs; at least {MIN_PAIRS} are needed, 512 are better"
        )
    manifest = Manifest.load(release)
    if GPU_MODEL not in manifest.files:
        raise ReleaseError(
            f"release {manifest.name} in {release} has no {GPU_MODEL}: make a release that has one: "
            f"xuankan model export {release} --out ANOTHER_DIR"
        )
    manifest.verify(release)
    model = read_onnx(release / GPU_MODEL)
    layers = tuple(site.name for site in sites(model))
    material = Material(papers, judging, template_of(manifest, release), Catalogue.default())
    pairs = material.calibration(samples, progress)
    search = _Search(model, precision, pairs, progress)
    method, ranges, errors = search.best_method(layers)
    kept, sensitivity, error = search.keep(layers, ranges, errors[method])
    result = quantized(model, precision, set(layers) - set(kept), ranges)
    rankings = material.rankings(progress)
    reference = score(model, rankings.pairs, lambda part: progress("ranking in FP16", part))
    found = score(result, rankings.pairs, lambda part: progress(f"ranking in {precision.upper()}", part))
    lost = loss(rankings, reference, found, manifest.first_stage_weight)
    record = GpuQuantization(method, search.samples, errors, kept, error, asdict(lost))
    return Candidate(release, precision, result, record, sensitivity, layers, lost)


class _Search:
    """Tries what could be quantized how, on pairs that calibrate nothing."""

    def __init__(
        self, model: onnx.ModelProto, precision: QuantizedPrecision, pairs: Sequence[Pair], progress: Progress
    ) -> None:
        self._model, self._progress = model, progress
        self._precision: QuantizedPrecision = precision
        self._methods = methods(precision)
        calibration = [pair for index, pair in enumerate(pairs) if index % _HELD_OUT]
        self._held_out = pairs[::_HELD_OUT]
        self.samples = len(calibration)
        self._observed = ObservedActivations(
            model,
            sites(model),
            list(dict.fromkeys(method.balance for method in self._methods)),
            calibration,
            lambda part: progress("observing activations", part),
        )
        self._reference = score(float_twin(model), self._held_out)
        self._unit = max(float(self._reference.std()), 1e-12)

    def best_method(self, layers: Sequence[str]) -> tuple[str, Ranges, dict[str, float]]:
        """The method of the least error, its ranges, and the errors of all."""
        ranges: dict[str, Ranges] = {}
        errors: dict[str, float] = {}
        for index, method in enumerate(self._methods):
            self._progress(f"trying {method.name}", index / len(self._methods))
            ranges[method.name] = self._observed.ranges(method)
            errors[method.name] = self._error(layers, ranges[method.name])
        best = min(errors, key=errors.__getitem__)
        return best, ranges[best], errors

    def keep(
        self, layers: Sequence[str], ranges: Ranges, error: float
    ) -> tuple[list[str], dict[str, float], float]:
        """The layers that stay in FP16, what each costs alone if that had to be known, and the error then."""
        if error <= ACCEPTED_ERROR:
            return [], {}, error
        alone: dict[str, float] = {}
        for index, layer in enumerate(layers):
            self._progress(f"quantizing {layer} alone", index / len(layers))
            alone[layer] = self._error([layer], ranges)
        worst_first = sorted(layers, key=lambda layer: -alone[layer])
        errors = [error]
        while errors[-1] > ACCEPTED_ERROR and len(errors) <= len(layers) // 2:
            self._progress(f"keeping {worst_first[len(errors) - 1]} in FP16", len(errors) / len(layers))
            errors.append(self._error(worst_first[len(errors) :], ranges))
        count = int(np.argmin(errors))
        return worst_first[:count], alone, errors[count]

    def _error(self, layers: Sequence[str], ranges: Ranges) -> float:
        candidate = float_twin(quantized(self._model, self._precision, layers, ranges))
        difference = score(candidate, self._held_out) - self._reference
        return round(float(np.sqrt(np.mean(np.square(difference)))) / self._unit, 5)
