# Typed loosely: torch is in the `bench` extra only, and its own annotations are not strict.
# pyright: basic, reportMissingImports=false
"""The same encoder in plain PyTorch: half precision, SDPA, sorted by length, torch.topk over the corpus."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from xuankan_worker.bench.gpu.child import ChildTask, Emit, run, say
from xuankan_worker.bench.gpu.figures import spread
from xuankan_worker.bench.gpu.pairs import Pairs
from xuankan_worker.execution.evidence_rows import manuscript_rows
from xuankan_worker.manifest import Manifest
from xuankan_worker.releases.checkpoint import Checkpoint
from xuankan_worker.releases.dequantize import read_encoder

_BATCHES = (16, 64, 256)


class PlainEncoder:
    """A BERT encoder with its heads and its corpus on a device."""

    def __init__(self, checkpoint: Checkpoint, corpus: Any, neighbours: int, device: str) -> None:
        self._device, self._neighbours = device, neighbours
        self._type = torch.float16 if device == "cuda" else torch.float32
        self._heads, self._layers, self._epsilon = checkpoint.heads, checkpoint.layers, checkpoint.epsilon
        self._relu = checkpoint.activation == "relu"
        self._weights = {name: self._put(value) for name, value in checkpoint.tensors.items()}
        self._places = self._put(checkpoint.places())
        self._corpus = self._put(corpus)

    def _put(self, value: Any) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(value)).to(self._device, self._type)

    def _linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])

    def _norm(self, name: str, x: torch.Tensor) -> torch.Tensor:
        scale, shift = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return functional.layer_norm(x, x.shape[-1:], scale, shift, self._epsilon)

    def run(self, ids: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Logits, nearest papers and their cosines of rows, [B, S] on the device."""
        rows, width = ids.shape
        real = torch.arange(width, device=ids.device) < lengths[:, None]
        x = self._weights["bert.embeddings.word_embeddings.weight"][ids.long()] + self._places[:width, 0]
        x = self._norm("bert.embeddings.LayerNorm", x)
        for layer in range(self._layers):
            prefix = f"bert.encoder.layer.{layer}"
            q, k, v = (
                self._linear(f"{prefix}.attention.self.{part}", x)
                .view(rows, width, self._heads, -1)
                .transpose(1, 2)
                for part in ("query", "key", "value")
            )
            mixed = functional.scaled_dot_product_attention(q, k, v, real[:, None, None])
            mixed = mixed.transpose(1, 2).reshape(rows, width, -1)
            out = self._linear(f"{prefix}.attention.output.dense", mixed)
            x = self._norm(f"{prefix}.attention.output.LayerNorm", x + out)
            inner = self._linear(f"{prefix}.intermediate.dense", x)
            inner = functional.relu(inner) if self._relu else functional.gelu(inner, approximate="tanh")
            x = self._norm(f"{prefix}.output.LayerNorm", x + self._linear(f"{prefix}.output.dense", inner))
        mean = (x * real[:, :, None]).sum(dim=1, dtype=torch.float32) / lengths[:, None]
        mean = mean.to(self._type)
        embedding = functional.normalize(self._linear("encoder.projection", mean), dim=-1)
        best = (embedding @ self._corpus.t()).topk(self._neighbours, dim=1)
        return self._linear("encoder.classifier", mean), best.indices, best.values


def measure(job: ChildTask, emit: Emit) -> None:
    """Time passes over all manuscripts, in batches of several sizes; all results come back to the host."""
    release = Path(job.release)
    shape = Manifest.load(release).encoder
    assert shape is not None
    checkpoint, corpus = read_encoder(release)
    model = PlainEncoder(checkpoint, corpus, min(shape.neighbours, len(corpus)), job.device)
    template = job.template()
    manuscripts = sorted(Pairs.load(Path(job.pairs)).tokens, key=len, reverse=True)
    best: dict[str, Any] = {"manuscripts_per_s": 0.0}
    for size in _BATCHES:
        batches = []
        for start in range(0, len(manuscripts), size):
            part = manuscripts[start : start + size]
            rows = manuscript_rows(-(-(len(part[0]) + 2) // 8) * 8, part, template)
            batches.append((torch.from_numpy(rows.input_ids), torch.from_numpy(rows.lengths)))

        def go(batches: list[tuple[torch.Tensor, torch.Tensor]] = batches) -> float:
            started_s = time.perf_counter()
            for ids, lengths in batches:
                found = model.run(ids.to(job.device), lengths.to(job.device))
                for values in found:
                    values.cpu()
            return time.perf_counter() - started_s

        with torch.inference_mode():
            go()
            rates = [len(manuscripts) / go() for _ in range(job.repeats)]
        say(f"batches of {size}: {spread(rates)['median']:,.0f} manuscripts/s")
        if spread(rates)["median"] > best["manuscripts_per_s"]:
            best = {
                "manuscripts_per_s": spread(rates)["median"],
                "manuscripts_per_s_spread": spread(rates),
                "batch": size,
                "torch": torch.__version__,
            }
        emit(best)


if __name__ == "__main__":
    run(measure)
