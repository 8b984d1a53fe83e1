"""From a checkpoint or a release to a release for GPUs, compared with float32 before it is accepted."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import onnx
from tokenizers import Tokenizer

from xuankan.catalogue import Catalogue
from xuankan.errors import ReleaseError
from xuankan.protocol.template import SPECIAL_TOKENS, Template, default_directory
from xuankan_worker.engines.base import TokenBatch
from xuankan_worker.manifest import (
    GPU_MODEL,
    MANIFEST,
    MODEL,
    Architecture,
    Export,
    Manifest,
    file_sha256,
    template_of,
)
from xuankan_worker.releases.checkpoint import Checkpoint, longest_row, read_config, unsupported
from xuankan_worker.releases.dequantize import read_checkpoint
from xuankan_worker.releases.encoder_graph import computed_activation, write_encoder_graph
from xuankan_worker.releases.numerics import compare, has_torch, onnx_logits, real_batches, reference_logits

_LONGEST = 512
"""Tokens of the longest pair by default; a model may take more."""
_RECORDED = ("base_sha256", "data", "settings", "device", "torch")
"""What a manifest keeps of a checkpoint's training.json."""
_T = TypeVar("_T")
Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class ExportSettings:
    """What a checkpoint does not say of itself; None takes what its training or its release says.

    Attributes:
        name: of the release; default: the directory's.
        max_manuscript_tokens, max_profile_tokens: budgets of its template; default: three quarters of what
            the model takes, up to 512 tokens, and the rest.
        first_stage_weight: of the first stage's score beside the logit; default 0.
        temperature: logits are divided by it before the softmax; default 1.
        catalogue: whose profiles it is compared on; default: the package's.
        commit: of the source tree that makes the release.
    """

    name: str | None = None
    max_manuscript_tokens: int | None = None
    max_profile_tokens: int | None = None
    first_stage_weight: float | None = None
    temperature: float | None = None
    catalogue: Catalogue | None = None
    commit: str = ""


class Exported(NamedTuple):
    """A release, and what its graph loses against one written for TensorRT; empty if it is one."""

    manifest: Manifest
    loss: str


class _CheckpointSource(NamedTuple):
    """A checkpoint and what is known of it."""

    directory: Path
    name: str
    base_model: str
    template: Template
    tokenizer_json: bytes
    catalogue: str
    first_stage_weight: float
    temperature: float
    training: dict[str, Any]


class _Written(NamedTuple):
    """A graph, what it is of, what wrote it, how, and what it loses."""

    graph: onnx.ModelProto
    architecture: Architecture
    writer: str
    activation: str
    loss: str


def export_release(
    source: Path,
    out: Path,
    settings: ExportSettings | None = None,
    progress: Progress = lambda _what, _part: None,
) -> Exported:
    """Write the release of a cross-encoder for GPUs: `model.fp16.onnx`, manifest and template.

    Args:
        source: a Hugging Face checkpoint with `tokenizer.json`, or a release that `publish` made.
        out: gets the release; nothing is written before its graph is accepted.
        settings: what the source does not say.
        progress: called with what is being done and the share of it that is done.

    Raises:
        ReleaseError: the source cannot be read, its architecture or an operator of it is not supported, or
            the graph's logits are too far from the float32 model's.
    """
    settings = settings or ExportSettings()
    catalogue = settings.catalogue or Catalogue.default()
    with tempfile.TemporaryDirectory() as scratch:
        if (source / MANIFEST).exists():
            if out.exists() and out.samefile(source):
                raise ReleaseError(f"{out} is the release being exported: choose another directory")
            found = _of_release(source, Path(scratch), settings)
        else:
            found = _of_checkpoint(source, settings, catalogue)
        progress("writing the graph", 0.0)
        batches = real_batches(found.template, catalogue)
        written = _write(found, batches[0])
        reference, wanted = reference_logits(found.directory, batches)
        errors = compare(onnx_logits(written.graph, batches), wanted, len(batches), progress)
    out.mkdir(parents=True, exist_ok=True)
    (out / GPU_MODEL).write_bytes(written.graph.SerializeToString())
    names = [GPU_MODEL]
    if found.template.fingerprint != Template.default().fingerprint:
        found.template.save(out, found.tokenizer_json)
        names += ["tokenizer.json", "template.json"]
    manifest = Manifest(
        name=found.name,
        base_model=found.base_model,
        architecture=written.architecture,
        template=found.template.fingerprint,
        catalogue=found.catalogue,
        first_stage_weight=found.first_stage_weight,
        temperature=found.temperature,
        files={name: file_sha256(out / name) for name in names},
        export=Export(
            writer=written.writer,
            opset=next(entry.version for entry in written.graph.opset_import if not entry.domain),
            activation=written.activation,
            reference=reference,
            pairs=sum(len(batch.lengths) for batch in batches),
            max_error=errors.largest,
            rms_error=errors.rms,
            spread=errors.spread,
        ),
        training=found.training,
        commit=settings.commit,
    )
    manifest.save(out)
    return Exported(manifest, written.loss)


def _write(source: _CheckpointSource, example: TokenBatch) -> _Written:
    """The FP16 graph, checked to hold the template's pairs."""
    config, template = read_config(source.directory), source.template
    loss = ""
    if (reason := unsupported(config)) is None:
        checkpoint = Checkpoint.load(source.directory)
        graph, shape = write_encoder_graph(checkpoint), checkpoint.architecture
        writer, activation = "xuankan", computed_activation(checkpoint)
    elif has_torch():
        from xuankan_worker.releases.traced import LOSS, TorchModel

        model = TorchModel(source.directory)
        shape, loss = model.architecture, f"{reason}: {LOSS}"
        graph = model.export(example)
        writer, activation = "torch.onnx", str(config.get("hidden_act", ""))
    else:
        raise ReleaseError(
            f"{source.directory}/config.json: {reason}. Other models go through PyTorch's exporter, which "
            "is not installed: pip install 'xuankan[train]'"
        )
    if template.max_length > shape.max_length:
        raise ReleaseError(
            f"pairs of up to {template.max_length} tokens (--max-manuscript-tokens "
            f"{template.max_manuscript_tokens}, --max-profile-tokens {template.max_profile_tokens}) do not "
            f"fit the model's {shape.max_length} positions"
        )
    if (tokens := template.tokenizer.get_vocab_size()) > shape.vocabulary_size:
        raise ReleaseError(f"the tokenizer has {tokens} tokens, the model knows {shape.vocabulary_size}")
    return _Written(graph, replace(shape, max_length=template.max_length), writer, activation, loss)


def _of_release(release: Path, scratch: Path, settings: ExportSettings) -> _CheckpointSource:
    manifest = Manifest.load(release)
    manifest.verify(release)
    if MODEL not in manifest.files:
        raise ReleaseError(
            f"release {manifest.name} in {release} has no {MODEL}: export the checkpoint that it was made of"
        )
    read_checkpoint(release, scratch)
    template = template_of(manifest, release)
    directory = release if "tokenizer.json" in manifest.files else default_directory()
    tokenizer_json = (directory / "tokenizer.json").read_bytes()
    return _CheckpointSource(
        scratch,
        settings.name or f"{manifest.name}-fp16",
        manifest.base_model,
        _template(tokenizer_json, settings, template),
        tokenizer_json,
        manifest.catalogue,
        _or(settings.first_stage_weight, manifest.first_stage_weight),
        _or(settings.temperature, manifest.temperature),
        dict(manifest.training),
    )


def _of_checkpoint(checkpoint: Path, settings: ExportSettings, catalogue: Catalogue) -> _CheckpointSource:
    try:
        tokenizer_json = (checkpoint / "tokenizer.json").read_bytes()
    except OSError as error:
        raise ReleaseError(
            f"{checkpoint} has no usable tokenizer.json: {error}; transformers' "
            "AutoTokenizer.from_pretrained(...).save_pretrained(...) writes one"
        ) from error
    training = _training(checkpoint)
    data = training.get("data", {})
    known = Template.default() if data.get("template") == Template.default().fingerprint else None
    longest = min(longest_row(read_config(checkpoint)) or _LONGEST, _LONGEST)
    template = _template(tokenizer_json, settings, known, longest)
    if template.fingerprint != data.get("template", template.fingerprint):
        raise ReleaseError(
            f"{checkpoint} was trained with tokenizer and template {data['template']!r}; with budgets of "
            f"{template.max_manuscript_tokens} and {template.max_profile_tokens} tokens its tokenizer makes "
            f"{template.fingerprint!r}: give those of its training"
        )
    return _CheckpointSource(
        checkpoint,
        settings.name or checkpoint.resolve().name,
        training.get("base_model", checkpoint.resolve().name),
        template,
        tokenizer_json,
        data.get("catalogue", catalogue.version),
        _or(settings.first_stage_weight, training.get("fusion_weight", 0.0)),
        _or(settings.temperature, training.get("temperature", 1.0)),
        {
            key: training[key]
            for key in ("base_sha256", "data", "settings", "device", "torch")
            if key in training
        },
    )


def _template(
    tokenizer_json: bytes, settings: ExportSettings, known: Template | None, longest: int = _LONGEST
) -> Template:
    """The template of the settings' budgets; else the one that is known; else one for pairs of `longest`."""
    separators = known.separators if known else _separators(tokenizer_json)
    room = longest - SPECIAL_TOKENS - (separators - 1)
    manuscript = _or(settings.max_manuscript_tokens, known.max_manuscript_tokens if known else room * 3 // 4)
    profile = _or(settings.max_profile_tokens, known.max_profile_tokens if known else room - room * 3 // 4)
    try:
        return Template.build(tokenizer_json, manuscript, profile, separators)
    except ValueError as error:
        raise ReleaseError(f"tokenizer.json cannot be used: {error}") from error


def _separators(tokenizer_json: bytes) -> int:
    """How many separators a tokenizer puts between the halves of a pair; one if it puts nothing there.

    Raises:
        ReleaseError: it puts something else there, or around them, than a template can.
    """
    try:
        tokenizer = Tokenizer.from_str(tokenizer_json.decode())
    except Exception as error:  # the tokenizers library raises bare Exception
        raise ReleaseError(f"tokenizer.json cannot be used: {error}") from error
    pair = tokenizer.encode("journal", "article")
    halves = pair.sequence_ids
    if None not in halves:
        return 1
    first, second = halves.index(1), len(halves) - halves[::-1].index(0)
    before, between, after = halves.index(0), pair.tokens[second:first], halves[::-1].index(1)
    if (before, after) != (1, 1) or len(set(between)) != 1 or len(between) > 2:
        raise ReleaseError(
            f"the tokenizer makes pairs like {' '.join(pair.tokens)}; templates know [CLS] … [SEP] … [SEP] "
            "and <s> … </s> </s> … </s>"
        )
    return len(between)


def _training(checkpoint: Path) -> dict[str, Any]:
    """What `xuankan model train` wrote beside a checkpoint; empty if it did not make it."""
    path = checkpoint / "training.json"
    if not path.exists():
        return {}
    try:
        training = cast("dict[str, Any]", json.loads(path.read_bytes()))
        training["data"] = dict(training["data"])
        return training | {key: float(training[key]) for key in ("fusion_weight", "temperature")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReleaseError(f"{path} was not written by `xuankan model train`: {error!r}") from error


def _or(value: _T | None, otherwise: _T) -> _T:
    return otherwise if value is None else value
