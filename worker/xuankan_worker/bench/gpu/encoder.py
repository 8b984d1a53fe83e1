"""One run over a real release with an encoder: how many manuscripts a second, how soon, and how good."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from xuankan_worker.bench.gpu.child import ChildTask
from xuankan_worker.bench.gpu.nvml import GpuHandle
from xuankan_worker.bench.gpu.pairs import choose_manuscripts, make_pairs
from xuankan_worker.bench.gpu.run import chip, machine
from xuankan_worker.bench.gpu.systems import run_system
from xuankan_worker.manifest import Manifest, template_of

FORMAT = "xuankan-bench-encoder/1"
CANDIDATES = 100
SYSTEMS = ("worker", "raw", "plain", "quality")


@dataclass(frozen=True, slots=True)
class EncoderBench:
    """What a run measures.

    Attributes:
        release: with an encoder, and an engine that was built for it.
        papers, split: table of labelled papers, and which of them.
        out, work_dir: directories of the result, and of what the next run can use.
        manuscripts: how many feed the throughput.
        seed: chooses them.
        systems: which of `SYSTEMS`.
        workers: numbers of workers that share the GPU, one measurement each.
        job: what every system gets; paths are filled in.
        command: that was given.
    """

    release: Path
    papers: Path
    split: str
    out: Path
    work_dir: Path
    manuscripts: int
    seed: int
    systems: tuple[str, ...]
    workers: Sequence[int]
    job: ChildTask
    command: str = ""


def bench_encoder(settings: EncoderBench, report: Callable[[str], None]) -> Path:
    """Measure, and write `encoder-<chip>.json` after every system; returns the file.

    Results that an earlier run left there stay, unless this run measures them again. A system that fails has
    an `error`, and costs no other its result.

    Raises:
        ReleaseError: the release cannot be read.
        CatalogueError: the table of papers cannot be read.
        InputError: it has too few papers.
    """
    manifest = Manifest.load(settings.release)
    for directory in (settings.work_dir, settings.out):
        directory.mkdir(parents=True, exist_ok=True)
    pairs = settings.work_dir / f"{manifest.fingerprint}-{settings.manuscripts}.json"
    template = template_of(manifest, settings.release)
    if not pairs.exists():
        report("manuscripts and their candidates")
        chosen = choose_manuscripts(
            settings.papers, settings.split, settings.manuscripts, 1, template, settings.seed
        )
        make_pairs(template, chosen, CANDIDATES).save(pairs)
    job = replace(
        settings.job,
        release=str(settings.release.resolve()),
        pairs=str(pairs),
        papers=str(settings.papers.resolve()),
        split=settings.split,
    )
    gpu = GpuHandle().about()
    path = settings.out / f"encoder-{chip(gpu['name'])}.json"
    document = _earlier(path)
    document["machine"] = machine(gpu, {})
    results = document["releases"].setdefault(manifest.name, {"fingerprint": manifest.fingerprint})
    cache = Path(os.environ.get("XUANKAN_CACHE") or settings.work_dir / "cache")
    for key, module, task in _tasks(settings, job):
        report(f"{manifest.name}: {key}")
        result = run_system(module, task, cache)
        results[key] = {
            "command": settings.command,
            "measured": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            **result,
        }
        if rate := result.get("manuscripts_per_s"):
            report(f"  {rate:,.0f} manuscripts/s")
        if error := result.get("error"):
            report(f"  failed: {error.splitlines()[-1]}")
        path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    return path


def _tasks(settings: EncoderBench, job: ChildTask) -> list[tuple[str, str, ChildTask]]:
    """Name, module and job of each measurement."""
    tasks: list[tuple[str, str, ChildTask]] = []
    if "raw" in settings.systems:
        tasks.append((_varied("raw_engine_loop", job), "encoder_raw", job))
    if "worker" in settings.systems:
        for count in settings.workers:
            name = _varied(f"{count}_worker{'s' * (count > 1)}_{job.producers}_producers", job)
            tasks.append((name, "served", replace(job, workers=count)))
    if "quality" in settings.systems:
        tasks.append((_varied("quality", job), "encoder_quality", job))
    if "plain" in settings.systems:
        tasks.append(("pytorch_fp16", "encoder_plain", job))
    return tasks


def _varied(name: str, job: ChildTask) -> str:
    return f"{name}_{job.engine}_{job.max_batch}_rows"


def _earlier(path: Path) -> dict[str, Any]:
    """What earlier runs left, or a document with nothing in it."""
    fresh: dict[str, Any] = {"format": FORMAT, "releases": {}}
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
        return found if found["format"] == FORMAT else fresh
    except (OSError, ValueError, TypeError, KeyError):
        return fresh
