# Typed loosely: torch is in the `train` extra only, and its own annotations are not strict.
# pyright: basic, reportMissingImports=false
"""The loop that every training command runs: AdamW, resumable, on one GPU or several of a host.

Several: start the command with `torchrun --nproc-per-node N`. Each process takes its part of every step's
papers, and gradients are averaged, so that N processes train what one would.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, distributed, nn

from xuankan.errors import ReleaseError

SAVE_EVERY_S = 60.0
"""How often the state is saved for a run that is interrupted."""
_PACED = 40
"""Steps after which the pace is known."""
_AHEAD = 8


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast.

    Attributes:
        steps: at most.
        papers: a step, over all processes.
        rate: AdamW's highest learning rate: up from 0 over `warm_up` of the steps, then down to 0 along a
        cosine.
        weight_decay: of matrices.
        heads: factor of the rate for what does not come from a checkpoint.
        within_s: fewer steps, if their pace would take longer than this; 0 sets no limit.
    """

    steps: int
    papers: int
    rate: float
    warm_up: float = 0.05
    weight_decay: float = 0.01
    within_s: float = 0.0
    heads: float = 1.0

    def factor(self, step: int, steps: int) -> float:
        """The share of the highest learning rate at a step."""
        warm = max(1, round(self.warm_up * steps))
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, steps - warm))))


@dataclass(frozen=True, slots=True)
class Progress:
    """How training is doing: means since the last report."""

    step: int
    steps: int
    losses: tuple[float, ...]
    papers_per_s: float
    elapsed_s: float


class Objective(Protocol):
    """What is optimized.

    Attributes:
        module: whose parameters are trained, and saved.
    """

    module: nn.Module

    def batch(self, first: int, count: int) -> Any:
        """The papers number `first` to `first + count` of all steps' as host arrays; called in threads."""
        ...

    def losses(self, batch: Any) -> list[Tensor]:
        """What to minimize, the sum of its parts."""
        ...


@dataclass(frozen=True, slots=True)
class Processes:
    """The processes that train together, as torchrun tells."""

    rank: int = 0
    count: int = 1

    @classmethod
    def join(cls) -> Processes:
        """Meet the others, if there are any."""
        count = int(os.environ.get("WORLD_SIZE", "1"))
        if count == 1:
            return cls()
        if not distributed.is_initialized():
            distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        return cls(distributed.get_rank(), count)

    def device(self, name: str) -> Any:
        """The torch.device where this process computes: `auto` is its GPU, or the CPU where there is none."""
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        if name != "cuda":
            return torch.device(name)
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
        return device

    def average(self, parameters: list[nn.Parameter]) -> None:
        """Make every gradient the mean over the processes."""
        if self.count == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(flat)
        flat /= self.count
        for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))


def optimize(
    objective: Objective,
    schedule: Schedule,
    state: Path,
    settings: dict[str, Any],
    processes: Processes,
    report: Callable[[Progress], None],
) -> float:
    """Run the steps; a run that finds the state of an interrupted one goes on where it stopped.

    Args:
        objective: what to train.
        schedule: how long and how fast.
        state: file for runs that are interrupted.
        settings: of the run; a state of others is refused.
        processes: that train together.
        report: told about every tenth step.

    Returns:
        The seconds that all steps took, interrupted runs included.

    Raises:
        ReleaseError: the state is of other settings, or the loss is no longer finite.
    """
    parameters = [p for p in objective.module.parameters() if p.requires_grad]
    device = parameters[0].device
    fresh = {id(p) for name, p in objective.module.named_parameters() if not name.startswith("transformer.")}
    groups = [
        {
            "params": [p for p in parameters if (p.ndim > 1) == matrix and (id(p) in fresh) == new],
            "weight_decay": schedule.weight_decay if matrix else 0.0,
            "boost": schedule.heads if new else 1.0,
        }
        for matrix in (True, False)
        for new in (True, False)
    ]
    optimizer = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.98), eps=1e-6, fused=device.type == "cuda")
    first, spent, steps = _resume(state, settings, objective.module, optimizer, schedule.steps)
    objective.module.train()
    started = saved = reported = time.monotonic()
    sums, since = None, 0
    for number, batch in _ahead(objective, schedule, processes, first):
        if number >= steps:
            break
        for group in optimizer.param_groups:
            group["lr"] = group["boost"] * schedule.rate * schedule.factor(number, steps)
        parts = objective.losses(batch)
        torch.stack(parts).sum().backward()
        processes.average(parameters)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        now = torch.stack([part.detach() for part in parts])
        sums, since = now if sums is None else sums + now, since + 1
        if schedule.within_s and number + 1 in (_PACED // 2, _PACED):
            if device.type == "cuda":
                torch.cuda.synchronize()
            if number + 1 < _PACED:
                paced = time.monotonic()
            else:
                pace = (time.monotonic() - paced) / (_PACED - _PACED // 2)  # pyright: ignore
                steps = min(steps, _PACED + int((schedule.within_s - (time.monotonic() - started)) / pace))
        if since == 10 or number + 1 == steps:
            losses, elapsed = tuple((sums / since).tolist()), time.monotonic() - reported
            if not all(map(math.isfinite, losses)):
                raise ReleaseError(
                    f"the loss is {losses} at step {number + 1}: try a rate below {schedule.rate}"
                )
            total = spent + time.monotonic() - started
            report(Progress(number + 1, steps, losses, since * schedule.papers / elapsed, total))
            sums, since, reported = None, 0, time.monotonic()
            if processes.rank == 0 and reported - saved >= SAVE_EVERY_S:
                _save(state, settings, objective.module, optimizer, number + 1, total, steps)
                saved = time.monotonic()
    return spent + time.monotonic() - started


def _ahead(
    objective: Objective, schedule: Schedule, processes: Processes, first: int
) -> Iterator[tuple[int, Any]]:
    """Steps from `first` on, made by threads while the device is at work on those before."""
    share = schedule.papers // processes.count

    def make(number: int) -> Any:
        return objective.batch(number * schedule.papers + processes.rank * share, share)

    with ThreadPoolExecutor(4) as makers:
        waiting = [makers.submit(make, n) for n in range(first, min(first + _AHEAD, schedule.steps))]
        for number in range(first, schedule.steps):
            batch = waiting.pop(0).result()
            if number + _AHEAD < schedule.steps:
                waiting.append(makers.submit(make, number + _AHEAD))
            yield number, batch


def _save(
    path: Path,
    settings: dict[str, Any],
    module: nn.Module,
    optimizer: Any,
    step: int,
    spent: float,
    steps: int,
) -> None:
    partial = path.with_suffix(".part")
    state = {"settings": settings, "step": step, "spent": spent, "steps": steps}
    torch.save({**state, "module": module.state_dict(), "optimizer": optimizer.state_dict()}, partial)
    partial.replace(path)


def _resume(
    path: Path, settings: dict[str, Any], module: nn.Module, optimizer: Any, steps: int
) -> tuple[int, float, int]:
    if not path.exists():
        return 0, 0.0, steps
    state = torch.load(path, map_location="cpu", weights_only=True)
    if state["settings"] != settings:
        raise ReleaseError(
            f"{path} is the state of a run with other settings: finish that one, or delete the file"
        )
    module.load_state_dict(state["module"])
    optimizer.load_state_dict(state["optimizer"])
    return state["step"], state["spent"], state["steps"]
