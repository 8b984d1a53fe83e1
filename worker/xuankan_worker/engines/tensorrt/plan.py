"""Built plans: what each is for, and which of a release's fits this GPU and this library.

A release keeps its engines beside its model: `engines/<flavour>-<version>-<target>-<precision>/` holds a plan
of the encoder, of the cross-encoder, or of both, and a manifest, which alone decides whether they may be
loaded.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, cast, get_args

from xuankan.errors import EngineUnavailable
from xuankan_worker.engines.tensorrt.layout import PlanKind
from xuankan_worker.engines.tensorrt.library import Library
from xuankan_worker.engines.tensorrt.shapes import Shape
from xuankan_worker.manifest import Manifest, file_sha256

Precision = Literal["fp16", "int8", "fp8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
ENGINES = "engines"
PLAN_KINDS: tuple[PlanKind, ...] = get_args(PlanKind)
ENGINE_MANIFEST = "engine.json"
ANY = "any"
"""The compute capability of an RTX plan that is not tied to one."""
_FORMAT = "xuankan-engine/2"


@dataclass(frozen=True, slots=True)
class Dynamic:
    """The fallback profile: any batch from 1 row of 1 token up to `rows` rows of `tokens` tokens."""

    rows: int
    tokens: int


@dataclass(frozen=True, slots=True)
class BuiltPlan:
    """One plan of an engine.

    Attributes:
        model: the release's ONNX file that it was built from.
        model_sha256: of that file.
        shapes: ascending; profile i of the plan is shapes[i].
        dynamic: the fallback, the plan's last profile; None if it has none.
        opset: of the graph.
        plan_sha256: of the plan.
        build_s: seconds the library took.
    """

    model: str
    model_sha256: str
    shapes: tuple[Shape, ...]
    dynamic: Dynamic | None
    opset: int
    plan_sha256: str
    build_s: float


@dataclass(frozen=True, slots=True)
class EngineManifest:
    """A built engine.

    Attributes:
        release: fingerprint of the release that it was built for.
        template: fingerprint of the release's tokenizer and template.
        precision: of the cross-encoder: `fp16`, `int8` or `fp8`. An encoder's is always `fp16`.
        plans: of what the release has.
        flavour, version: of the library.
        compute_capability: such as `9.0`, several joined by commas, or `any`.
        driver: of the machine that built it; None if that had no GPU.
        built: when, UTC, as in 2026-01-31T23:59:59Z.
        xuankan: version of this package.
    """

    release: str
    template: str
    precision: Precision
    plans: Mapping[PlanKind, BuiltPlan]
    flavour: str
    version: str
    compute_capability: str
    driver: str | None
    built: str
    xuankan: str

    @property
    def folder(self) -> str:
        """The name of the folder that holds it."""
        if self.compute_capability == ANY:
            target = ANY
        else:
            target = "+".join(f"sm_{one.replace('.', '')}" for one in self.compute_capability.split(","))
        return f"{self.flavour}-{self.version}-{target}-{self.precision}"

    def fits_gpu(self, capability: str) -> bool:
        """Whether it was built for GPUs of this compute capability."""
        return self.compute_capability == ANY or capability in self.compute_capability.split(",")

    @classmethod
    def load(cls, folder: Path) -> EngineManifest:
        """Read the manifest beside a plan; `verify` checks the plan.

        Raises:
            EngineUnavailable: it cannot be read or is not what it should be; the message names the field.
        """
        path = folder / ENGINE_MANIFEST
        try:
            document = json.loads(path.read_bytes())
            if not isinstance(document, dict):
                raise ValueError("it is not a JSON object")
            content = cast("dict[str, Any]", document)
            if (found := content.pop("format", None)) != _FORMAT:
                raise ValueError(f"format is {found!r}; this build reads {_FORMAT!r}")
            wanted = {part.name for part in fields(cls)}
            if wrong := sorted(content.keys() ^ wanted):
                raise ValueError(f"{wrong[0]} is {'missing' if wrong[0] in wanted else 'not a field of it'}")
            if content["precision"] not in PRECISIONS:
                raise ValueError(f"precision is {content['precision']!r}; known are {', '.join(PRECISIONS)}")
            plans: dict[str, dict[str, Any]] = dict(content["plans"])
            if not plans or plans.keys() - set(PLAN_KINDS):
                raise ValueError(f"plans are of {', '.join(plans) or 'nothing'}; known are {PLAN_KINDS}")
            content["plans"] = {kind: _built_plan(plan) for kind, plan in plans.items()}
            return cls(**content)
        except (OSError, TypeError, ValueError, KeyError) as error:
            raise EngineUnavailable(f"engine manifest {path} cannot be used: {error}") from error

    def save(self, folder: Path) -> None:
        """Write the manifest beside its plan."""
        document = {"format": _FORMAT, **asdict(self)}
        (folder / ENGINE_MANIFEST).write_text(json.dumps(document, indent=2) + "\n")

    def verify(self, folder: Path) -> None:
        """Check that every plan is there and unchanged.

        Raises:
            EngineUnavailable: one is missing or damaged.
        """
        for kind, plan in self.plans.items():
            path = folder / plan_file(kind)
            try:
                found = file_sha256(path)
            except OSError as error:
                raise EngineUnavailable(f"plan {path} cannot be read: {error}") from error
            if found != plan.plan_sha256:
                raise EngineUnavailable(
                    f"plan {path} is damaged: its SHA-256 is {found}, its manifest says {plan.plan_sha256}"
                )


def _built_plan(content: Mapping[str, Any]) -> BuiltPlan:
    parts = dict(content)
    parts["shapes"] = tuple(Shape(int(bucket), int(rows)) for bucket, rows in parts["shapes"])
    if parts["dynamic"] is not None:
        parts["dynamic"] = Dynamic(**parts["dynamic"])
    return BuiltPlan(**parts)


def plan_file(kind: PlanKind) -> str:
    """The name of a plan's file."""
    return f"{kind}.plan"


def wanted_plans(release: Manifest) -> tuple[PlanKind, ...]:
    """What an engine of a release has plans of."""
    there: dict[PlanKind, bool] = {
        "encoder": release.encoder is not None,
        "cross_encoder": release.architecture is not None,
    }
    return tuple(kind for kind in PLAN_KINDS if there[kind])


def model_file(precision: Precision) -> str:
    """The name of a release's graph of its cross-encoder for GPUs, of this precision."""
    return f"model.{precision}.onnx"


def build_command(release: Path, precision: Precision | None = None, targets: Sequence[str] = ()) -> str:
    """What an operator types to build a release's plan on the machine at hand."""
    words = ["xuankan", "model", "build", str(release)]
    if precision and precision != "fp16":
        words += ["--precision", precision]
    if targets:
        words += ["--target", ",".join(targets)]
    return shlex.join(words)


def find_plan(
    release: Path, library: Library, capability: str, precision: Precision | None = None
) -> tuple[Path, EngineManifest]:
    """The folder and the manifest of the newest engine that fits, its plans verified.

    Args:
        release: the release's directory.
        library: what will run the plan.
        capability: compute capability of the GPU, such as `9.0`.
        precision: None takes any.

    Raises:
        ReleaseError: the release's manifest cannot be read.
        EngineUnavailable: no plan fits, or the one that does is damaged; the message says why each was
            refused, and how to build one that fits.
    """
    manifest = Manifest.load(release)
    fitting: list[tuple[str, Path, EngineManifest]] = []
    refused: list[str] = []
    for path in sorted((release / ENGINES).glob(f"[!.]*/{ENGINE_MANIFEST}")):
        try:
            engine = EngineManifest.load(path.parent)
        except EngineUnavailable as error:
            refused.append(str(error))
            continue
        if reason := _misfit(engine, manifest, library, capability, precision):
            refused.append(f"{path.parent.name} {reason}")
        else:
            fitting.append((engine.built, path.parent, engine))
    if not fitting:
        command = build_command(release, precision)
        if not refused:
            raise EngineUnavailable(f"release {manifest.name} has no TensorRT engine; build one: {command}")
        raise EngineUnavailable(
            f"release {manifest.name} has no engine for {library} on a GPU of compute capability "
            f"{capability}: {'; '.join(refused)}. Build one here: {command}"
        )
    _, folder, engine = max(fitting, key=lambda found: found[:2])
    try:
        engine.verify(folder)
    except EngineUnavailable as error:
        raise EngineUnavailable(f"{error}; build it again: {_same(release, engine, library)}") from error
    return folder, engine


def _misfit(
    engine: EngineManifest, manifest: Manifest, library: Library, capability: str, precision: Precision | None
) -> str:
    """Why a plan is not for this release, library and GPU; empty if it is."""
    if precision is not None and engine.precision != precision:
        return f"is {engine.precision}, not {precision}"
    if engine.flavour != library.flavour:
        return f"was built with {engine.flavour}, but {library.flavour} is installed here"
    if engine.version != library.version:
        return f"was built with {engine.flavour} {engine.version}, but {library.version} is installed"
    if not engine.fits_gpu(capability):
        return f"is for compute capability {engine.compute_capability}"
    for plan in engine.plans.values():
        if plan.model_sha256 != (now := manifest.files.get(plan.model)):
            changed = "has changed since" if now else "is no longer part of the release"
            return f"was built from another {plan.model} (SHA-256 {plan.model_sha256[:16]}…), which {changed}"
    if missing := [kind for kind in wanted_plans(manifest) if kind not in engine.plans]:
        return f"has no plan of the {missing[0].replace('_', '-')}, which the release has"
    if engine.template != manifest.template:
        return f"was built for template {engine.template}, but the release has {manifest.template}"
    return ""


def _same(release: Path, engine: EngineManifest, library: Library) -> str:
    """The command that builds a plan like this one."""
    tied = library.is_rtx and engine.compute_capability != ANY
    targets = [f"sm_{one.replace('.', '')}" for one in engine.compute_capability.split(",")] if tied else []
    return build_command(release, engine.precision, targets)
