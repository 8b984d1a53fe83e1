"""How a system is measured in a process of its own: a job in a JSON file, results as JSON lines on stdout."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xuankan.protocol.template import Template
from xuankan_worker.bench.gpu.pairs import Pairs, encode_profiles
from xuankan_worker.engines import TokenBatch
from xuankan_worker.engines.tensorrt.shapes import MAX_BATCH
from xuankan_worker.execution.rows import Profiles, Segment
from xuankan_worker.manifest import Manifest, template_of

Emit = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class ChildTask:
    """What one system measures.

    Attributes:
        system: its name, for those that share a module.
        checkpoint: Hugging Face's float32 files of the model.
        release: the same model as a release, with its engine.
        pairs: file of the pairs.
        scores: file that the engine's scores go to, float32 [M, C].
        engine, max_batch: as the worker's options.
        device: of PyTorch.
        repeats: measurements of each throughput.
        least_s: seconds of each at least, over the same pairs again.
        tune_s: seconds after which no further variant is tried.
        load_s: seconds under full load, and at each share of it.
        alone: rankings asked for one at a time.
        workers: processes that share the GPU.
        producers: processes that feed the worker, two at least.
        in_flight: requests in flight under full load, for each worker; one round of all manuscripts.
        papers, split: table of labelled papers, and which of them, for what judges rankings.
    """

    system: str
    checkpoint: str
    release: str
    pairs: str
    scores: str
    engine: str = "tensorrt"
    max_batch: int = MAX_BATCH
    device: str = "cuda"
    repeats: int = 3
    least_s: float = 4.0
    tune_s: float = 30.0
    load_s: float = 15.0
    alone: int = 250
    workers: int = 1
    producers: int = 8
    in_flight: int = 128
    papers: str = ""
    split: str = "test"

    def write(self, path: Path) -> None:
        """Write to a JSON file."""
        path.write_text(json.dumps(asdict(self)))

    def template(self) -> Template:
        """The release's."""
        directory = Path(self.release)
        return template_of(Manifest.load(directory), directory)


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Every pair of a job in tokens, longest first.

    Attributes:
        pairs: what they are of.
        profiles: tokens of the catalogue.
        lengths: int32 [N], descending.
        order: int64 [N], position of each among the pairs, row-major.
    """

    pairs: Pairs
    profiles: Profiles
    lengths: NDArray[np.int32]
    order: NDArray[np.int64]

    @classmethod
    def load(cls, job: ChildTask) -> Rows:
        """Read a job's pairs."""
        pairs, profiles = Pairs.load(Path(job.pairs)), encode_profiles(job.template())
        lengths = pairs.lengths(profiles).ravel()
        order = np.argsort(-lengths, kind="stable")
        return cls(pairs, profiles, lengths[order], order)

    def batch(self, where: slice, bucket: int) -> TokenBatch:
        """The token matrices of some rows, padded to `bucket` tokens."""
        columns = self.pairs.candidates.shape[1]
        segments = [
            Segment(self.pairs.tokens[at // columns], self.pairs.candidates[at // columns, [at % columns]])
            for at in self.order[where].tolist()
        ]
        return self.profiles.assemble(bucket, segments)


def model_inputs(tokens: TokenBatch) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """What Hugging Face's BERT wants of a batch: input_ids, token_type_ids, attention_mask, int64 [B, S]."""
    at: NDArray[np.int64] = np.arange(tokens.input_ids.shape[1], dtype=np.int64)
    real: NDArray[np.bool_] = np.less(at, tokens.lengths[:, None])
    second: NDArray[np.bool_] = real & np.greater_equal(at, tokens.first_lengths[:, None])
    return tokens.input_ids.astype(np.int64), second.astype(np.int64), real.astype(np.int64)


def run(measure: Callable[[ChildTask, Emit], None]) -> None:
    """Do the job of the file named on the command line.

    Whatever libraries print goes to stderr. Each emitted object stands for the whole result so far, so that
    a process that is stopped loses only what it had not emitted.
    """
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    job = ChildTask(**json.loads(Path(sys.argv[1]).read_bytes()))

    def emit(result: dict[str, Any]) -> None:
        out.write(json.dumps(result) + "\n")
        out.flush()

    measure(job, emit)


def say(text: str) -> None:
    """A line of progress."""
    sys.stderr.write(f"  {text}\n")
    sys.stderr.flush()
