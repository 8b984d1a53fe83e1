"""The manifest of a model release: what it is, what it was made from, and the hashes of its files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar, cast

from xuankan.errors import ReleaseError
from xuankan.protocol.template import Template

MANIFEST = "manifest.json"
MODEL = "model.onnx"
"""The ONNX graph of a release for CPUs, beside its manifest."""
GPU_MODEL = "model.fp16.onnx"
"""The ONNX graph of a release for GPUs; ONNX Runtime runs it too."""
ENCODER = "encoder.onnx"
"""The ONNX graph of a release's encoder for CPUs."""
GPU_ENCODER = "encoder.fp16.onnx"
"""The ONNX graph of a release's encoder for GPUs."""
CORPUS = "corpus.npz"
"""The papers of a release's journals; see `execution.corpus`."""
_FORMAT = "xuankan-release/1"


@dataclass(frozen=True, slots=True)
class Architecture:
    """The shape of a cross-encoder.

    Attributes:
        family: such as `bert`.
        layers, heads, hidden_size, intermediate_size, vocabulary_size: of the encoder.
        max_length: tokens of the longest row.
    """

    family: str
    layers: int
    heads: int
    hidden_size: int
    intermediate_size: int
    vocabulary_size: int
    max_length: int


@dataclass(frozen=True, slots=True)
class Quantization:
    """How a model became INT8.

    Attributes:
        method: how activation ranges were chosen.
        samples: calibration pairs.
        score_error: root mean square of the scores' change on pairs kept out of the calibration, in units of
            the float scores' standard deviation, by method that was tried.
    """

    method: str
    samples: int
    score_error: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class GpuQuantization:
    """How a graph for GPUs got 8 bits, and what that costs.

    Attributes:
        method: how activation ranges were chosen.
        samples: calibration pairs.
        score_error: as in `Quantization`, by method that was tried, with every linear layer quantized.
        kept: linear layers left in FP16.
        error: the same measure for what was written.
        loss: against the FP16 graph on papers whose journal is known, as `judge.Loss` has it.
    """

    method: str
    samples: int
    score_error: Mapping[str, float]
    kept: Sequence[str]
    error: float
    loss: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Export:
    """How the graph for GPUs was made, and how far it is from the float32 model.

    Attributes:
        writer: `xuankan`, whose graph is made for TensorRT, or the standard exporter's name.
        opset: of the ONNX standard.
        activation: of the feed-forward layers as the graph computes it; `gelu_tanh` for GELU by erf too.
        reference: what computed the float32 logits.
        pairs: of papers and journals of the catalogue that both computed.
        max_error, rms_error: of the graph's logits.
        spread: standard deviation of the reference's logits, which the errors are to be judged by.
    """

    writer: str
    opset: int
    activation: str
    reference: str
    pairs: int
    max_error: float
    rms_error: float
    spread: float


@dataclass(frozen=True, slots=True)
class EncoderShape:
    """The shape of an encoder.

    Attributes:
        architecture: of its layers.
        journals: J, logits of a row; which journals they are of is in the corpus.
        dimensions: D, of an embedding.
        neighbours: K, nearest papers of a row.
    """

    architecture: Architecture
    journals: int
    dimensions: int
    neighbours: int


@dataclass(frozen=True, slots=True)
class Weights:
    """Of the parts of a fused score.

    Attributes:
        first_stage, encoder, mean, density, cross_encoder: of the part of this name; `mean` and `density` are
            of the nearest papers. Unused parts are 0.
        constant: added.
    """

    first_stage: float = 0.0
    encoder: float = 0.0
    mean: float = 0.0
    density: float = 0.0
    cross_encoder: float = 0.0
    constant: float = 0.0


@dataclass(frozen=True, slots=True)
class JournalPrior:
    """What the number of a journal's papers in the corpus adds to its score.

    Every part of a ranking favours journals of many papers, so together they do it too much; and a journal
    that grows will publish more than its past says. What is added is the weighted sum of two logarithms, less
    its mean over the journals that the encoder was trained on; other journals get nothing.

    Attributes:
        newest_year: the last year of which the corpus has the papers.
        newest: weight of log(1 + papers of that year).
        recent: weight of log(1 + Σ e^(−age / memory_years)) over its papers, ages counted from that year.
        memory_years: see `recent`.
    """

    newest_year: int
    newest: float
    recent: float
    memory_years: float


@dataclass(frozen=True, slots=True)
class Fusion:
    """How the parts of a release with encoder and corpus become one ranking; see `execution.fusion`.

    Attributes:
        base: of candidates without cross-encoder rows.
        full: of candidates with them.
        unseen_base, unseen_full: in their place for journals that the encoder was not trained on: their
            weight of `encoder` is not used.
        kernel_temperature, memory_years, now: of the papers' density; see `execution.nearness`.
        coverage: rows are run for the likeliest candidates that together reach this probability,
        most_rows: but for so many at most.
        journal_tokens: of a journal's own, in rows of journals that the cross-encoder was trained on.
        fit: whether the catalogue covers a manuscript's field: the logistic function of `constant`, plus
            `nearest` times the mean cosine of the three nearest papers, plus `likeliest` times the
            log-probability of the first journal. None if the release has no opinion.
        prior: of journals; None adds nothing.
    """

    base: Weights
    full: Weights
    unseen_base: Weights
    unseen_full: Weights
    kernel_temperature: float
    memory_years: float
    now: int
    coverage: float
    most_rows: int
    journal_tokens: int
    fit: Mapping[str, float] | None = None
    prior: JournalPrior | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """One model release.

    Attributes:
        name: of the release.
        base_model: what it was fine-tuned from.
        architecture: shape of the cross-encoder, None if the release has none.
        template: fingerprint of the tokenizer and the template that it was trained with.
        catalogue: version of the catalogue whose profiles it was trained on.
        first_stage_weight: of the first stage's score in the fused score: model logit + weight × score.
        temperature: fused scores are divided by it before the softmax that makes them shares of one.
        files: SHA-256 by name of every file of the release but the manifest.
        quantization: None for a float model.
        export: None without a graph for GPUs.
        quantized: by precision, `int8` or `fp8`, how such graphs for GPUs were made of the FP16 one.
        training: what it was trained on and how.
        encoder: None if the release has none. With one go a corpus and a fusion.
        fusion: in place of `first_stage_weight`; `temperature` applies to its log-probabilities.
        commit: of the source tree that made it.
        metrics: by table of papers and split, the figures measured before release.
    """

    name: str
    base_model: str
    architecture: Architecture | None
    template: str
    catalogue: str
    first_stage_weight: float
    temperature: float
    files: Mapping[str, str]
    quantization: Quantization | None = None
    export: Export | None = None
    quantized: Mapping[str, GpuQuantization] = field(default_factory=dict[str, GpuQuantization])
    training: Mapping[str, Any] = field(default_factory=dict[str, Any])
    encoder: EncoderShape | None = None
    fusion: Fusion | None = None
    commit: str = ""
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict[str, Mapping[str, float]])

    _required: ClassVar[tuple[str, ...]] = (
        "name", "base_model", "architecture", "template", "catalogue", "first_stage_weight", "temperature",
        "files",
    )  # fmt: skip

    @property
    def fingerprint(self) -> str:
        """Hash of all that decides scores, 16 hexadecimal digits; every result names it."""
        decisive: list[Any] = [self.template, self.first_stage_weight, self.temperature]
        decisive.append(sorted(self.files.items()))
        if self.fusion is not None:
            decisive.append(asdict(self.fusion))
        return hashlib.sha256(json.dumps(decisive).encode()).hexdigest()[:16]

    @property
    def vocabulary_size(self) -> int:
        """Token ids are below it."""
        shape = self.architecture or (self.encoder and self.encoder.architecture)
        assert shape
        return shape.vocabulary_size

    @property
    def cross_encoder(self) -> Architecture:
        """Shape of the cross-encoder, where there must be one.

        Raises:
            ReleaseError: there is none.
        """
        if self.architecture is None:
            raise ReleaseError(
                f"release {self.name} has an encoder only, and this needs a cross-encoder: name a release "
                "that has one"
            )
        return self.architecture

    @classmethod
    def load(cls, directory: Path) -> Manifest:
        """Read a release's manifest; `verify` checks its files.

        Raises:
            ReleaseError: there is none, or it is not what it should be; the message names the field.
        """
        path = directory / MANIFEST
        try:
            document = json.loads(path.read_bytes())
        except FileNotFoundError as error:
            raise ReleaseError(f"{directory} is not a model release: it has no {MANIFEST}") from error
        except (OSError, ValueError) as error:
            raise ReleaseError(f"{path} cannot be read: {error}") from error
        if not isinstance(document, dict):
            raise ReleaseError(f"{path} is not a JSON object")
        content = cast("dict[str, Any]", document)
        if (found := content.pop("format", None)) != _FORMAT:
            raise ReleaseError(f"{path}: format is {found!r}; this build reads {_FORMAT!r}")
        if missing := [name for name in cls._required if name not in content]:
            raise ReleaseError(f"{path}: {missing[0]} is missing")
        if unknown := sorted(content.keys() - {part.name for part in fields(cls)}):
            raise ReleaseError(f"{path}: {unknown[0]} is not a field of a manifest")
        try:
            if content["architecture"] is not None:
                content["architecture"] = Architecture(**content["architecture"])
            if content.get("quantization") is not None:
                content["quantization"] = Quantization(**content["quantization"])
            if content.get("export") is not None:
                content["export"] = Export(**content["export"])
            content["quantized"] = {
                str(name): GpuQuantization(**record) for name, record in content.get("quantized", {}).items()
            }
            if content.get("encoder") is not None:
                content["encoder"] = _encoder_shape(content["encoder"])
            if content.get("fusion") is not None:
                content["fusion"] = _fusion(content["fusion"])
            if (content.get("encoder") is None) != (content.get("fusion") is None):
                raise ValueError("encoder and fusion go together, but only one of them is there")
            if content["architecture"] is None:
                _check_alone(content.get("fusion"))
            for name in ("first_stage_weight", "temperature"):
                content[name] = float(content[name])
            content["files"] = {str(name): str(digest) for name, digest in content["files"].items()}
            return cls(**content)
        except (TypeError, ValueError, AttributeError, KeyError) as error:
            raise ReleaseError(f"{path}: {error}") from error

    def save(self, directory: Path) -> None:
        """Write the manifest into a release's directory."""
        document = {"format": _FORMAT, **asdict(self)}
        (directory / MANIFEST).write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")

    def verify(self, directory: Path, absent: Collection[str] = ()) -> None:
        """Check that every file of the release is there and unchanged.

        Args:
            directory: of the release.
            absent: files that may be missing, as the graph may where only engines are served.

        Raises:
            ReleaseError: a file is missing or damaged; the message names it.
        """
        for name, expected in self.files.items():
            if name in absent:
                continue
            try:
                found = file_sha256(directory / name)
            except OSError as error:
                raise ReleaseError(
                    f"release {self.name}: {directory / name} cannot be read: {error}"
                ) from error
            if found != expected:
                raise ReleaseError(
                    f"release {self.name}: {directory / name} is damaged or was changed: "
                    f"its SHA-256 is {found}, the manifest says {expected}; install the release again"
                )


def _encoder_shape(content: Mapping[str, Any]) -> EncoderShape:
    parts: dict[str, Any] = {"architecture": Architecture(**content["architecture"])}
    return EncoderShape(**{**content, **parts})


def _fusion(content: Mapping[str, Any]) -> Fusion:
    weights: dict[str, Any] = {
        name: Weights(**content[name]) for name in ("base", "full", "unseen_base", "unseen_full")
    }
    if content.get("prior") is not None:
        weights["prior"] = JournalPrior(**content["prior"])
    return Fusion(**{**content, **weights})


def _check_alone(fusion: Fusion | None) -> None:
    """Refuse a release without cross-encoder that does not say how to do without."""
    if fusion is None:
        raise ValueError("architecture is null and there is no encoder: nothing is left to rank with")
    if fusion.most_rows:
        raise ValueError(
            f"fusion.most_rows is {fusion.most_rows}, but architecture is null: there is no cross-encoder"
        )


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def default_release() -> Path:
    """The directory of the release that the package carries."""
    return Path(str(files("xuankan_worker") / "data" / "model"))


def template_of(manifest: Manifest, directory: Path) -> Template:
    """The template that a release was trained with: the package's, or one that lies in its directory.

    Raises:
        ReleaseError: it is neither.
    """
    template = Template.default()
    if template.fingerprint != manifest.template and (directory / "tokenizer.json").exists():
        template = Template.load(directory)
    if template.fingerprint != manifest.template:
        raise ReleaseError(
            f"release {manifest.name} was trained with tokenizer and template {manifest.template!r}, which "
            f"is neither the package's ({Template.default().fingerprint!r}) nor in {directory}"
        )
    return template
