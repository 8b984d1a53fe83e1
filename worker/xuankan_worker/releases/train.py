# Typed loosely: torch is in the `train` extra only, and its own annotations are not strict.
# pyright: basic, reportMissingImports=false
"""Trains the cross-encoder. Needs the `train` extra; runs on a GPU, or, for a smoke test, on the CPU.

A listwise softmax over a paper's own journal and drawn negatives, on top of the first stage's logits (see
`batches.py`). A classifier over the journals, reading the manuscript alone, shares the encoder and is thrown
away at the end.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from xuankan.candidates.quality import quality_of, ranks_of
from xuankan.errors import ReleaseError
from xuankan_worker.releases.batches import Step, Steps
from xuankan_worker.releases.dataset import Lists, TrainingData
from xuankan_worker.releases.packed import PackedBatch, PackedCrossEncoder
from xuankan_worker.releases.packing import Packer
from xuankan_worker.releases.scores import fit_fusion_weight, fit_temperature, fused

Array = NDArray[np.float32]
SAVE_EVERY_S = 60.0
"""How often the state is saved for a run that is interrupted."""


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """Hyper-parameters, chosen on the dev split."""

    steps: int = 2400
    papers: int = 128
    """Papers a step."""
    pass_papers: int = 128
    """Papers that are on the device at a time; gradients of a step's passes are summed."""
    negatives: int = 23
    rate: float = 3e-4
    """AdamW's highest learning rate: up from 0 over `warm_up` of the steps, then down to 0 along a cosine."""
    warm_up: float = 0.05
    weight_decay: float = 0.01
    dropout: float = 0.1
    auxiliary: float = 0.2
    """Weight of the classifier's loss."""
    first_stage_scale: float = 0.5
    """Factor of the first stage's logits in training: at 0 the model learns to rank on its own, at 1 only
    what the first stage does not know. Half gave the best fused ranking, and a model of use on its own."""
    masked: float = 0.15
    """Share of the tokens that are masked."""
    activation: str | None = None
    layers: int | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """How training is doing: means since the last report."""

    step: int
    steps: int
    loss: float
    auxiliary_loss: float
    pairs_per_s: float
    elapsed_s: float


def train(
    data: TrainingData,
    base: Path,
    out: Path,
    settings: TrainSettings,
    device: str,
    report: Callable[[Progress], None],
    say: Callable[[str], None],
    about: dict[str, Any],
) -> dict[str, Any]:
    """Train, evaluate on the splits that `data` holds, and write a checkpoint in Hugging Face's format.

    A run that finds the state of an interrupted one with the same settings in `out` goes on where it stopped.

    Args:
        data: see `dataset.prepare`.
        base: BERT checkpoint to start from.
        out: gets `config.json`, `model.safetensors`, `tokenizer.json`, `training.json`, and
            `scores-SPLIT.npy`, the model's score of each candidate.
        settings: hyper-parameters.
        device: `cuda`, `cpu`, ...
        report: told about every tenth step.
        say: told in words what happens beside the steps.
        about: what else `training.json` should say (commit, base model, ...).

    Returns:
        The content of `training.json`.

    Raises:
        ReleaseError: the base model or the state cannot be used, or the loss is no longer finite.
    """
    started = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(settings.seed)
    torch.backends.cuda.matmul.allow_tf32 = True
    where = torch.device(device)
    model = PackedCrossEncoder(
        base, data.journals, settings.activation, settings.layers, settings.dropout
    ).to(where)
    elapsed = _optimize(model, data, settings, out, report)
    model.save(out)
    (out / "tokenizer.json").write_bytes(data.tokenizer_json)
    document = {
        **about,
        "data": data.about,
        "settings": asdict(settings),
        "device": torch.cuda.get_device_name(where) if where.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "training_s": round(elapsed, 1),
        **evaluate_splits(model, data, out, say),
        "total_s": round(time.monotonic() - started, 1),
    }
    (out / "training.json").write_text(json.dumps(document, indent=2) + "\n")
    (out / "state.pt").unlink(missing_ok=True)
    return document


def _optimize(
    model: PackedCrossEncoder,
    data: TrainingData,
    settings: TrainSettings,
    out: Path,
    report: Callable[[Progress], None],
) -> float:
    """Run the steps; returns the seconds that they took, interrupted runs included."""
    where = next(model.parameters()).device
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=settings.rate,
        betas=(0.9, 0.98),
        eps=1e-6,
        fused=where.type == "cuda",
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate(step, settings))
    state = out / "state.pt"
    first, spent = _resume(state, settings, model, optimizer, schedule)
    model.train()
    started = saved = reported = time.monotonic()
    losses = torch.zeros(2, device=where)
    since, pairs = 0, 0
    steps = Steps(
        data,
        settings.steps * settings.papers,
        settings.negatives,
        settings.first_stage_scale,
        settings.masked,
        settings.seed,
    )
    for number, passes in _ahead(steps, settings, first):
        for piece in passes:
            loss, auxiliary = _losses(model, piece, where)
            ((loss + settings.auxiliary * auxiliary) / len(passes)).backward()
            losses += torch.stack([loss.detach(), auxiliary.detach()]) / len(passes)
            pairs += piece.added.size
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        since += 1
        if since == 10 or number + 1 == settings.steps:
            means = (losses / since).tolist()
            if not math.isfinite(means[0]):
                raise ReleaseError(
                    f"the loss is {means[0]} at step {number + 1}: try a lower rate than {settings.rate}"
                )
            now = time.monotonic()
            report(
                Progress(
                    step=number + 1,
                    steps=settings.steps,
                    loss=means[0],
                    auxiliary_loss=means[1],
                    pairs_per_s=pairs / (now - reported),
                    elapsed_s=spent + now - started,
                )
            )
            losses.zero_()
            since, pairs, reported = 0, 0, now
            if now - saved >= SAVE_EVERY_S:
                _save_state(state, settings, model, optimizer, schedule, number + 1, spent + now - started)
                saved = time.monotonic()
    return spent + time.monotonic() - started


def pick_device(name: str) -> str:
    """`auto` is the first GPU, or the CPU where there is none."""
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


def learning_rate(step: int, settings: TrainSettings) -> float:
    """The factor of the highest learning rate at a step."""
    warm = max(1, round(settings.warm_up * settings.steps))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, settings.steps - warm)))


def _ahead(steps: Steps, settings: TrainSettings, first: int) -> Iterator[tuple[int, list[Step]]]:
    """Steps from `first` on, made by a thread while the device is at work on the one before."""

    def make(number: int) -> list[Step]:
        begin, end = number * settings.papers, (number + 1) * settings.papers
        return [
            steps.step(start, min(settings.pass_papers, end - start))
            for start in range(begin, end, settings.pass_papers)
        ]

    with ThreadPoolExecutor(4) as makers:
        waiting = [makers.submit(make, n) for n in range(first, min(first + 8, settings.steps))]
        for number in range(first, settings.steps):
            passes = waiting.pop(0).result()
            if number + 8 < settings.steps:
                waiting.append(makers.submit(make, number + 8))
            yield number, passes


def _losses(model: PackedCrossEncoder, step: Step, where: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    papers, listed = step.added.shape
    weight = torch.from_numpy(step.weight).to(where)
    added = torch.from_numpy(step.added).to(where)
    first = model.first_tokens(PackedBatch(step.packed, where))
    logits = model.scores(first[: papers * listed]).view(papers, listed) + added
    own = torch.zeros(papers, dtype=torch.long, device=where)
    listwise = functional.cross_entropy(logits, own, reduction="none")
    classes = functional.cross_entropy(
        model.classifier(first[papers * listed :]), torch.from_numpy(step.truth).to(where), reduction="none"
    )
    return (weight * listwise).mean(), (weight * classes).mean()


def _save_state(
    path: Path, settings: TrainSettings, model: Any, optimizer: Any, schedule: Any, step: int, spent: float
) -> None:
    partial = path.with_suffix(".part")
    torch.save(
        {
            "settings": asdict(settings),
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state_dict(),
            "step": step,
            "spent": spent,
        },
        partial,
    )
    partial.replace(path)


def _resume(
    path: Path, settings: TrainSettings, model: Any, optimizer: Any, schedule: Any
) -> tuple[int, float]:
    if not path.exists():
        return 0, 0.0
    state = torch.load(path, map_location="cpu", weights_only=True)
    if state["settings"] != asdict(settings):
        raise ReleaseError(
            f"{path} is the state of a run with other settings: finish that one, or delete the file"
        )
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    return state["step"], state["spent"]


def score_lists(model: PackedCrossEncoder, lists: Lists, data: TrainingData, pass_papers: int = 16) -> Array:
    """The model's score of every candidate, float32 [N, C]."""
    where = next(model.parameters()).device
    packer = Packer(lists.manuscripts, data.profiles, data.template)
    count = lists.candidates.shape[1]
    scores = np.empty(lists.candidates.shape, dtype=np.float32)
    model.eval()
    with torch.inference_mode():
        for start in range(0, len(lists), pass_papers):
            papers = np.arange(start, min(start + pass_papers, len(lists)))
            packed = packer.pack(np.repeat(papers, count), lists.candidates[papers].astype(np.int64).ravel())
            first = model.first_tokens(PackedBatch(packed, where))
            scores[papers] = model.scores(first).cpu().numpy().reshape(len(papers), count)
    return scores


def evaluate_splits(
    model: PackedCrossEncoder, data: TrainingData, out: Path, say: Callable[[str], None]
) -> dict[str, Any]:
    """Fit the fusion weight on dev, and measure every evaluation split with it.

    Returns:
        `fusion_weight` and `quality`: per split, of the first stage, the model alone, and both fused.
    """
    document: dict[str, Any] = {}
    weight, temperature = 1.0, 1.0
    for name in sorted((name for name in data.splits if name != "train"), key=lambda name: name != "dev"):
        lists = data.splits[name]
        started = time.monotonic()
        scores = score_lists(model, lists, data)
        rate = scores.size / (time.monotonic() - started)
        np.save(out / f"scores-{name}.npy", scores)
        if name == "dev":
            weight = fit_fusion_weight(scores, lists.first_stage, lists.candidates, lists.truth)
            both = fused(scores, lists.first_stage, weight)
            temperature = fit_temperature(both, lists.candidates, lists.truth)
        document[name] = {
            kind: quality_of(ranks_of(values, lists.candidates, lists.truth)).as_dict()
            for kind, values in (
                ("first_stage", lists.first_stage),
                ("model", scores),
                ("fused", fused(scores, lists.first_stage, weight)),
            )
        }
        say(f"{name} ({rate:,.0f} pairs/s): {json.dumps(document[name])}")
    return {"fusion_weight": weight, "temperature": temperature, "quality": document}
