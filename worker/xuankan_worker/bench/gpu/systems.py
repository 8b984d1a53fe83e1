"""Starts each system's process, one at a time, and brings what they say together."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from xuankan_worker.bench.gpu.child import ChildTask
from xuankan_worker.bench.gpu.figures import flops
from xuankan_worker.bench.gpu.models import Model
from xuankan_worker.bench.gpu.pairs import Pairs, encode_profiles
from xuankan_worker.engines.tensorrt.shapes import MAX_BATCH
from xuankan_worker.manifest import Manifest

_PACKAGE = "xuankan_worker.bench.gpu"
_ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "PYTHONUNBUFFERED": "1"}
LIMIT_S = 300.0
"""No system takes so long; one that hangs must not cost the others."""


@dataclass(frozen=True, slots=True)
class System:
    """One thing that is measured.

    Attributes:
        choice: what `--systems` calls it.
        module: that measures it.
        key: its name in the results, after the model's.
        title: in tables.
    """

    choice: str
    module: str
    key: str
    title: str


SYSTEMS = (
    System("worker", "served", "worker_tensorrt_fp16", "whole worker through Valkey, TensorRT FP16"),
    System("raw", "raw", "raw_engine_loop_fp16", "raw engine loop, TensorRT FP16"),
    System("plain", "plain", "pytorch_best_fp16", "best plain PyTorch FP16"),
    System("crossencoder", "crossencoder", "crossencoder_fp32", "CrossEncoder.predict FP32, batch 16"),
    System("crossencoder", "crossencoder", "crossencoder_fp16", "CrossEncoder.predict FP16, batch 16"),
)
AGREEMENT = System("agreement", "reference", "agreement", "Kendall τ against PyTorch FP32")
CHOICES = tuple(dict.fromkeys(system.choice for system in (*SYSTEMS, AGREEMENT)))


def varied(system: System, job: ChildTask) -> System:
    """The same with several workers on the GPU, or other batches, under a name of its own."""
    key, title = system.key, system.title
    if system.choice == "worker" and job.workers > 1:
        key, title = f"{job.workers}_{key}", title.replace("whole worker", f"{job.workers} workers")
    if system.choice in ("worker", "raw") and job.max_batch != MAX_BATCH:
        key, title = f"{key}_{job.max_batch}_rows", f"{title}, {job.max_batch} rows a batch"
    return replace(system, key=key, title=title)


@dataclass(frozen=True, slots=True)
class Workload:
    """What the pairs of a model cost.

    Attributes:
        pairs: how many.
        mean_tokens: of a pair, special tokens included.
        mean_flops: of a pair, see `figures.flops`.
        shortest, longest: tokens of a pair.
    """

    pairs: int
    mean_tokens: float
    mean_flops: float
    shortest: int
    longest: int

    @classmethod
    def of(cls, model: Model) -> Workload:
        """Of the pairs that were written for a model."""
        pairs = Pairs.load(model.pairs)
        lengths = pairs.lengths(encode_profiles(model.template())).ravel()
        shape = Manifest.load(model.release).cross_encoder
        return cls(
            pairs=pairs.count,
            mean_tokens=round(float(lengths.mean()), 2),
            mean_flops=flops(shape, lengths) / pairs.count,
            shortest=int(lengths.min()),
            longest=int(np.max(lengths)),
        )

    def complete(self, result: dict[str, Any], peak_tflops: float | None) -> dict[str, Any]:
        """A system's result with what follows from its pairs per second."""
        rate: float | None = result.get("pairs_per_s")
        if rate is None:
            return {"pairs_per_s": None, **result}
        tflops = rate * self.mean_flops / 1e12
        return {
            "pairs_per_s": rate,
            "tokens_per_s": round(rate * self.mean_tokens, 1),
            "tflops_on_real_tokens": round(tflops, 2),
            "share_of_matrix_peak": None if peak_tflops is None else round(tflops / peak_tflops, 4),
            **result,
        }


def run_system(module: str, job: ChildTask, cache: Path, limit_s: float = LIMIT_S) -> dict[str, Any]:
    """Measure a system in a process of its own; what it says on stderr is passed on.

    Returns:
        The last result that it gave, with `error` if it did not end well.
    """
    with tempfile.TemporaryDirectory(prefix="xuankan-bench-") as directory:
        path, out = Path(directory) / "job.json", Path(directory) / "result"
        job.write(path)
        environment = os.environ | {"XUANKAN_CACHE": str(cache), **_ENVIRONMENT}
        with out.open("wb") as stdout:
            process = subprocess.Popen(  # noqa: S603  # our own command
                [sys.executable, "-P", "-m", f"{_PACKAGE}.{module}", str(path)],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=subprocess.PIPE,
                env=environment,
                start_new_session=True,
            )
        said: deque[str] = deque(maxlen=12)
        reader = threading.Thread(target=_pass_on, args=(process, said), daemon=True)
        reader.start()
        problem: str | None = None
        try:
            if status := process.wait(limit_s):
                problem = f"ended with status {status}"
        except subprocess.TimeoutExpired:
            problem = f"stopped after {limit_s:g} s"
        finally:
            _end(process)
            reader.join()
        lines = out.read_text().splitlines()
    result: dict[str, Any] = json.loads(lines[-1]) if lines else {}
    return result if problem is None else result | {"error": "\n".join([problem, *said])}


def _pass_on(process: subprocess.Popen[bytes], said: deque[str]) -> None:
    assert process.stderr is not None
    with process.stderr as stream:
        for raw in stream:
            line = raw.decode(errors="replace").rstrip("\n")
            said.append(line)
            sys.stderr.write(line + "\n")
            sys.stderr.flush()


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and what it started, if any of it is left."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()
