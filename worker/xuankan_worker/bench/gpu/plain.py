"""The best that plain PyTorch does: half precision, SDPA, sorted by length, large batches, torch.compile.

Tokens are made beforehand and wait in pinned memory; copies are asynchronous, and nothing waits for the GPU
before all pairs are scored. What is best differs by model and chip, so variants are tried on a sample of the
pairs until the time for it is used up, and the best one is measured on all of them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

from xuankan_worker.bench.gpu.child import ChildTask, Emit, Rows, model_inputs, run, say
from xuankan_worker.bench.gpu.figures import spread
from xuankan_worker.bench.gpu.nvml import GpuHandle, GpuMonitor, grown_bytes

_SAMPLE = 8
"""Variants are tried on every eighth pair."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to run the model.

    Attributes:
        compiled: None, or the mode of torch.compile.
        step: pairs are padded to a multiple of so many tokens; 1 runs only pairs of one length together, with
            no padding and no mask, so that SDPA may take its fastest kernel.
        tokens: of a batch, padding included; 16 to 128 rows all the same.
        layers: compile each encoder layer for each shape, rather than the whole model for any.
    """

    compiled: str | None
    step: int
    tokens: int
    layers: bool = False

    def __str__(self) -> str:
        parts = ["eager" if self.compiled is None else f"torch.compile {self.compiled}"]
        if self.layers:
            parts.append("by layer, static shapes")
        parts.append("equal lengths, no mask" if self.step == 1 else f"padded to {self.step}")
        return ", ".join([*parts, f"{self.tokens} tokens a batch"])

    def batches(self, lengths: Sequence[int]) -> list[tuple[slice, int]]:
        """Cut pairs, longest first, into batches: which rows, and padded to how many tokens."""
        found: list[tuple[slice, int]] = []
        start = 0
        while start < len(lengths):
            padded = -(-lengths[start] // self.step) * self.step
            end = min(start + min(128, max(16, self.tokens // padded)), len(lengths))
            if self.step == 1:
                while lengths[end - 1] < padded:
                    end -= 1
            found.append((slice(start, end), padded))
            start = end
        return found


_EAGER = [Variant(None, step, tokens) for step in (32, 1) for tokens in (8192, 16384, 32768)]
_COMPILED = ("default", "reduce-overhead", "max-autotune-no-cudagraphs")


class Plain:
    """A model under one variant after another."""

    def __init__(self, job: ChildTask, rows: Rows) -> None:
        self.torch: Any = import_module("torch")
        transformers: Any = import_module("transformers")
        model = transformers.AutoModelForSequenceClassification.from_pretrained(
            job.checkpoint, attn_implementation="sdpa"
        )
        self._half = job.device == "cuda"
        self.model = (model.half() if self._half else model).to(job.device).eval()
        self._device, self._rows = job.device, rows

    def prepare(self, variant: Variant, every: int) -> Callable[[], Any]:
        """A function that scores every so-many-th pair and gives float [N] on the host."""
        torch, device = self.torch, self._device
        forward = self._compiled(variant)
        rows = replace_every(self._rows, every)
        batches: list[tuple[Any, Any, Any]] = []
        for where, padded in variant.batches(rows.lengths.tolist()):
            inputs = model_inputs(rows.batch(where, padded))
            made = [torch.from_numpy(part) for part in inputs]
            if device == "cuda":
                made = [part.pin_memory() for part in made]
            batches.append((made[0], made[1], None if variant.step == 1 else made[2]))

        def score() -> Any:
            outputs: list[Any] = []
            with torch.inference_mode():
                for ids, types, mask in batches:
                    given = {
                        "input_ids": ids.to(device, non_blocking=True),
                        "token_type_ids": types.to(device, non_blocking=True),
                    }
                    if mask is not None:
                        given["attention_mask"] = mask.to(device, non_blocking=True)
                    # A captured graph overwrites its outputs at the next replay.
                    outputs.append(forward(**given).logits[:, 0].clone())
                return torch.cat(outputs).float().cpu()

        return score

    def _compiled(self, variant: Variant) -> Any:
        torch = self.torch
        torch.compiler.reset()
        layers = self._encoder_layers()
        for layer in layers:
            layer._compiled_call_impl = None
        if variant.compiled is None:
            return self.model
        torch._dynamo.config.recompile_limit = 256
        torch._dynamo.config.accumulated_recompile_limit = 4096
        if not variant.layers:
            return torch.compile(self.model, mode=variant.compiled, dynamic=True)
        for layer in layers:
            layer.compile(mode=variant.compiled, dynamic=False)
        return self.model

    def _encoder_layers(self) -> Any:
        return self.model.base_model.encoder.layer


def replace_every(rows: Rows, every: int) -> Rows:
    """Every so-many-th of the rows."""
    return replace(rows, lengths=rows.lengths[::every], order=rows.order[::every])


def measure(job: ChildTask, emit: Emit) -> None:
    """Try variants, then time the best on all pairs."""
    gpu = GpuHandle()
    before = gpu.used_bytes()
    plain = Plain(job, Rows.load(job))
    until_s = time.monotonic() + job.tune_s
    tried: dict[Variant, float] = {}

    def attempt(variant: Variant) -> None:
        try:
            score = plain.prepare(variant, _SAMPLE)
            count = len(score())  # compiles, and warms
            times: list[float] = []
            for _ in range(2):
                started_s = time.perf_counter()
                score()
                times.append(time.perf_counter() - started_s)
        except Exception as error:  # a mode that a version of PyTorch does not manage is no candidate
            say(f"{variant}: {type(error).__name__}: {str(error)[:300]}")
            return
        tried[variant] = count / min(times)
        say(f"{variant}: {tried[variant]:,.0f} pairs/s on a sample")

    for variant in _EAGER:
        attempt(variant)
    best_eager = max(tried, key=lambda variant: tried[variant])
    emit({"pairs_per_s": round(tried[best_eager], 1), "variant": f"{best_eager}, on a sample only"})
    best_padded = max((v for v in tried if v.step > 1), key=lambda variant: tried[variant])
    candidates = [replace(best_eager, compiled="default")]
    if best_eager != best_padded:
        candidates.append(replace(best_padded, compiled="default"))
    candidates.append(replace(best_padded, compiled="default", step=64, layers=True))
    candidates += [replace(best_padded, compiled=mode, step=64) for mode in _COMPILED[1:]]
    for variant in candidates:
        if time.monotonic() < until_s:
            attempt(variant)
    best = max(tried, key=lambda variant: tried[variant])
    emit(_final(plain, best, tried, gpu, before, job))


def _final(
    plain: Plain,
    variant: Variant,
    tried: dict[Variant, float],
    gpu: GpuHandle,
    before: int | None,
    job: ChildTask,
) -> dict[str, Any]:
    score = plain.prepare(variant, 1)
    count = len(score())
    started_s = time.perf_counter()
    score()
    rounds = max(1, round(job.least_s / (time.perf_counter() - started_s)))
    rates: list[float] = []
    with GpuMonitor(gpu) as watch:
        from_s = time.monotonic()
        for _ in range(job.repeats):
            started_s = time.perf_counter()
            for _ in range(rounds):
                score()
            rates.append(rounds * count / (time.perf_counter() - started_s))
        busy = watch.busy_share(from_s, time.monotonic())
    say(f"{variant}: {spread(rates)['median']:,.0f} pairs/s")
    return {
        "pairs_per_s": spread(rates)["median"],
        "pairs_per_s_spread": spread(rates),
        "variant": str(variant),
        "tried_on_a_sample": {str(each): round(rate, 1) for each, rate in tried.items()},
        "gpu_busy_share": busy,
        "gpu_memory_bytes": grown_bytes(watch.peak_bytes, before),
        "gpu_memory_process_bytes": gpu.process_bytes(os.getpid()),
    }


if __name__ == "__main__":
    run(measure)
