"""Scores of the same checkpoint by PyTorch in float32: what the engine's rankings are compared with."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xuankan_worker.bench.gpu.child import ChildTask, Emit, Rows, model_inputs, run
from xuankan_worker.bench.gpu.figures import kendall_tau, spread
from xuankan_worker.manifest import Manifest
from xuankan_worker.releases.scores import fused

_BATCH = 64


def measure(job: ChildTask, emit: Emit) -> None:
    """Compare the scores that the raw engine loop left behind, fused and not, ranking by ranking."""
    rows = Rows.load(job)
    ours: NDArray[np.float32] = np.load(job.scores, allow_pickle=False)
    torch: Any = import_module("torch")
    transformers: Any = import_module("transformers")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(job.checkpoint)
    model = model.float().to(job.device).eval()
    flat = np.empty(rows.pairs.count, dtype=np.float32)
    with torch.inference_mode():
        for start in range(0, len(rows.lengths), _BATCH):
            where = slice(start, start + _BATCH)
            tokens = rows.batch(where, int(rows.lengths[start]))
            given = [torch.from_numpy(part).to(job.device) for part in model_inputs(tokens)]
            logits = model(input_ids=given[0], token_type_ids=given[1], attention_mask=given[2]).logits
            flat[rows.order[where]] = logits[:, 0].float().cpu().numpy()
    theirs = flat.reshape(ours.shape)
    weight = Manifest.load(Path(job.release)).first_stage_weight
    first = rows.pairs.first_stage
    rankings = zip(fused(ours, first, weight), fused(theirs, first, weight), strict=True)
    tau = [kendall_tau(left, right) for left, right in rankings]
    alone = [kendall_tau(left, right) for left, right in zip(ours, theirs, strict=True)]
    emit(
        {
            "rankings": len(tau),
            "candidates": ours.shape[1],
            "kendall_tau": round(float(np.mean(tau)), 5),
            "kendall_tau_spread": spread(tau),
            "kendall_tau_model_score_alone": round(float(np.mean(alone)), 5),
            "score_error_rms": float(np.sqrt(np.mean((ours - theirs) ** 2))),
            "score_error_max": float(np.abs(ours - theirs).max()),
            "score_deviation": float(theirs.std()),
        }
    )


if __name__ == "__main__":
    run(measure)
