"""From what is known of a request's candidates to its ranking. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan, nan
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from xuankan.protocol.ranked import EVIDENCE_PLACES, MAX_PAPER_TEXT, EvidencePaper, RankedJournal
from xuankan.protocol.wire import Request
from xuankan_worker.execution.corpus import Corpus
from xuankan_worker.execution.fusion import with_rows
from xuankan_worker.execution.served_model import ServedModel
from xuankan_worker.in_flight import Considered


def rank(
    request: Request,
    cross_encoder: NDArray[np.float32],
    served: ServedModel,
    considered: Considered | None = None,
) -> tuple[RankedJournal, ...]:
    """Rank a request's candidates, best first, and keep its top-K.

    Of a release without encoder, the fused logit of a candidate is `cross_encoder + first_stage_weight *
    first_stage`; of one with an encoder, see `execution.fusion`. Its score is the softmax over all candidates
    of the fused logits divided by the release's temperature. Equal logits are ordered by catalogue position,
    so that the ranking depends neither on the order of the candidates nor on the batches that they ran in.

    Args:
        request: the request, with N candidates.
        cross_encoder: float32 [R], finite, the cross-encoder's score of each candidate that has a row: of all
            of them, or of `considered.rows`.
        served: gives the weights and the metadata.
        considered: what the encoder step found, if the release has one.
    """
    raw = np.full(len(request.candidates), np.nan)
    if considered is None:
        raw[:] = cross_encoder
        logits = raw + served.first_stage_weight * request.first_stage.astype(np.float64)
    else:
        raw[considered.rows] = cross_encoder
        logits = _fused(considered, cross_encoder, served)
    odds = np.exp((logits - logits.max()) / served.temperature)
    scores = odds / odds.sum()
    order = np.lexsort((request.candidates, -logits))[: request.top_k]
    # Taken out of NumPy a column at a time, which for 100 places takes a fifth of the time of scalars.
    columns = zip(
        cast("list[int]", order.tolist()),
        scores[order].tolist(),
        logits[order].tolist(),
        raw[order].tolist(),
        request.first_stage[order].tolist(),
        strict=True,
    )
    journals = cast("list[int]", request.candidates[order].tolist())
    shown = _shown(considered, order, served)
    return tuple(
        RankedJournal(
            rank=place,
            journal=served.catalogue[journal].id,
            score=score,
            logit=logit,
            cross_encoder=_known(row),
            first_stage=first,
            metadata=_metadata(request, candidate, served.metadata[journal]),
            encoder=_known(parts.encoder),
            nearness=_known(parts.nearness),
            evidence=parts.evidence,
        )
        for place, ((candidate, score, logit, row, first), journal, parts) in enumerate(
            zip(columns, journals, shown, strict=True), 1
        )
    )


def _metadata(request: Request, candidate: int, known: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the catalogue knows of a journal, and how often the manuscript cites it if the request says."""
    return known if request.cited is None else {**known, "cited": int(request.cited[candidate])}


def _fused(
    considered: Considered, cross_encoder: NDArray[np.float32], served: ServedModel
) -> NDArray[np.float64]:
    """Log-probabilities of all candidates."""
    if not len(considered.rows):
        return considered.base
    assert served.encoder_step is not None
    chosen = np.zeros(len(considered.base), bool)
    chosen[considered.rows] = True
    full = np.zeros(len(chosen))
    full[considered.rows] = served.encoder_step.full(considered, cross_encoder)
    return with_rows(considered.base[None], full[None], chosen[None])[0]


class _Shown(NamedTuple):
    """What a ranking says of a candidate beside its scores."""

    encoder: float = nan
    nearness: float = nan
    evidence: tuple[EvidencePaper, ...] = ()


def _shown(considered: Considered | None, order: NDArray[np.intp], served: ServedModel) -> list[_Shown]:
    """Of the candidates of a ranking's places."""
    if considered is None or served.encoder_step is None:
        return [_Shown()] * len(order)
    corpus, first = served.encoder_step.corpus, order[:EVIDENCE_PLACES]
    near = zip(
        cast("list[list[int]]", considered.evidence[first].tolist()),
        cast("list[list[float]]", considered.cosines[first].tolist()),
        strict=True,
    )
    evidence = [
        tuple(_paper(corpus, paper, cosine) for paper, cosine in zip(*both, strict=True) if paper >= 0)
        for both in near
    ]
    evidence += [()] * (len(order) - len(first))
    parts = cast("list[list[float]]", considered.parts[order].tolist())
    return [
        _Shown(encoder, mean, papers) for (_, encoder, mean, *_), papers in zip(parts, evidence, strict=True)
    ]


def _paper(corpus: Corpus, paper: int, cosine: float) -> EvidencePaper:
    title, link = corpus.titles[paper], corpus.link(paper)
    if len(title) > MAX_PAPER_TEXT:
        title = title[: MAX_PAPER_TEXT - 1] + "…"
    return EvidencePaper(title, int(corpus.year[paper]), link, cosine)


def _known(value: float) -> float | None:
    return None if isnan(value) else value
