"""From the scores of a request's rows to its ranking. Pure."""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray

from xuankan.protocol.wire import RankedJournal, Request
from xuankan_worker.execution.served_model import ServedModel


def rank(
    request: Request, cross_encoder: NDArray[np.float32], served: ServedModel
) -> tuple[RankedJournal, ...]:
    """Rank a request's candidates, best first, and keep its top-K.

    The fused logit of a candidate is `cross_encoder + first_stage_weight * first_stage`; its score is the
    softmax over all candidates of the fused logits divided by the release's temperature. Equal logits are
    ordered by catalogue position, so that the ranking depends neither on the order of the candidates nor on
    the batches that they ran in.

    Args:
        request: the request.
        cross_encoder: float32 [N], finite, the model's score of each candidate.
        served: gives the weight and the metadata.
    """
    logits = cross_encoder.astype(np.float64) + served.first_stage_weight * request.first_stage.astype(
        np.float64
    )
    odds = np.exp((logits - logits.max()) / served.temperature)
    scores = odds / odds.sum()
    order = np.lexsort((request.candidates, -logits))[: request.top_k]
    places = zip(
        cast("list[int]", request.candidates[order].tolist()),
        scores[order].tolist(),
        logits[order].tolist(),
        cross_encoder[order].tolist(),
        request.first_stage[order].tolist(),
        strict=True,
    )
    return tuple(
        RankedJournal(place, served.catalogue[journal].id, score, logit, raw, first, served.metadata[journal])
        for place, (journal, score, logit, raw, first) in enumerate(places, start=1)
    )
