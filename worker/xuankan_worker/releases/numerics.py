"""Compares an exported graph with the float32 model on real pairs, papers × journals of the catalogue."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray

from xuankan.catalogue import Catalogue
from xuankan.errors import ReleaseError
from xuankan.protocol.template import Template
from xuankan_worker.engines.base import TokenBatch
from xuankan_worker.engines.host import cores
from xuankan_worker.engines.runtime import VERSION, open_session
from xuankan_worker.engines.sequence import SEQUENCE_INPUTS, sequence_feed
from xuankan_worker.execution.rows import Profiles, Segment
from xuankan_worker.releases.checkpoint import Checkpoint, read_config, unsupported
from xuankan_worker.releases.graph import write_graph

JOURNALS = 12
"""Journals of the catalogue that each of the package's papers is paired with."""
TOLERANCE = 0.03
"""Root mean square error that is accepted, as a share of the standard deviation of the reference's logits.

FP16 alone made 0.0005 of it in the shipped model and 0.016 in an untrained BERT-base, whose logits are all
alike; one pair of seventy that is computed wrongly makes 0.1.
"""


class NumericErrors(NamedTuple):
    """Largest and root mean square difference of logits, and the reference's standard deviation."""

    largest: float
    rms: float
    spread: float


def real_batches(template: Template, catalogue: Catalogue) -> list[TokenBatch]:
    """A batch for each of the package's papers, with journals from all over the catalogue, rows padded."""
    count = min(JOURNALS, len(catalogue.journals))
    chosen = [catalogue.journals[index * len(catalogue.journals) // count] for index in range(count)]
    profiles = Profiles.encode((journal.profile for journal in chosen), template)
    journals = np.arange(count)
    batches: list[TokenBatch] = []
    for line in (files("xuankan") / "data" / "manuscripts.jsonl").read_text().splitlines():
        paper = json.loads(line)
        tokens = template.encode_manuscript(paper["title"], paper["abstract"]).ids
        longest = int(profiles.row_lengths(len(tokens), journals).max())
        batches.append(profiles.assemble(longest, [Segment(tokens, journals)]))
    return batches


def has_torch() -> bool:
    """Whether PyTorch and transformers are installed."""
    return find_spec("torch") is not None and find_spec("transformers") is not None


def reference_logits(
    checkpoint: Path, batches: Sequence[TokenBatch]
) -> tuple[str, Iterator[NDArray[np.float32]]]:
    """The float32 model's logits, one array [B] a batch, and what computes them.

    PyTorch where it is installed; else the graph for CPUs, which has an attention and embeddings of its own.

    Raises:
        ReleaseError: without PyTorch there is no reference for this family.
    """
    if has_torch():
        from xuankan_worker.releases.traced import TorchModel

        model = TorchModel(checkpoint)
        return model.version, (model.logits(batch) for batch in batches)
    if (reason := unsupported(read_config(checkpoint))) is None:
        try:
            graph = write_graph(Checkpoint.load(checkpoint))
            return f"ONNX Runtime {VERSION}, float32 graph for CPUs", onnx_logits(graph, batches)
        except ReleaseError as error:
            reason = str(error)
    raise ReleaseError(
        f"{reason}. The export must be compared with PyTorch's float32 model, which is not installed: "
        "pip install 'xuankan[train]'"
    )


def onnx_logits(model: onnx.ModelProto, batches: Sequence[TokenBatch]) -> Iterator[NDArray[np.float32]]:
    """A graph's logits on ONNX Runtime's CPU kernels, one array [B] a batch."""
    session = open_session(model.SerializeToString(), threads=cores())
    sequence_major = {value.name for value in session.get_inputs()} == set(SEQUENCE_INPUTS)
    for batch in batches:
        feed = sequence_feed(batch) if sequence_major else asdict(batch)
        yield session.run(["scores"], feed)[0]


def compare(
    found: Iterator[NDArray[np.float32]],
    wanted: Iterator[NDArray[np.float32]],
    batches: int,
    progress: Callable[[str, float], None],
) -> NumericErrors:
    """Errors of the logits `found`, batch by batch.

    Raises:
        ReleaseError: they are further from those wanted than `TOLERANCE`, or not finite.
    """
    pairs: list[NDArray[np.float32]] = []
    for number, both in enumerate(zip(found, wanted, strict=True)):
        pairs.append(np.stack(both))
        progress("comparing with float32", (number + 1) / batches)
    scores, reference = np.split(np.concatenate(pairs, axis=1).astype(np.float64).ravel(), 2)
    if not np.isfinite(scores).all():
        raise ReleaseError(
            f"{np.count_nonzero(~np.isfinite(scores))} of {len(scores)} logits in FP16 are not finite: some "
            "activation is beyond FP16's range"
        )
    error = scores - reference
    errors = NumericErrors(
        float(np.abs(error).max()), float(np.sqrt(np.mean(np.square(error)))), float(reference.std())
    )
    if errors.rms > TOLERANCE * errors.spread:
        raise ReleaseError(
            f"the graph is not the model: logits of {len(scores)} real pairs differ by {errors.rms:.3g} "
            f"(root mean square; {errors.largest:.3g} at most), more than {TOLERANCE:.0%} of their standard "
            f"deviation {errors.spread:.3g}"
        )
    return errors
