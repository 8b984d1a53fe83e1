"""A request's first step: what its encoder row says of its candidates, and which of them get rows. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from xuankan.protocol.wire import Request
from xuankan_worker.engines.base import Encoded
from xuankan_worker.execution.corpus import Corpus
from xuankan_worker.execution.evidence_rows import EvidenceRows
from xuankan_worker.execution.fusion import in_play, log_softmax
from xuankan_worker.execution.nearness import EVIDENCE, Kernel, Nearness, nearness
from xuankan_worker.in_flight import Considered
from xuankan_worker.manifest import Fusion, Weights

_PARTS = ("first_stage", "encoder", "mean", "density")
"""The columns of `Considered.parts`."""


class EncoderStep:
    """Of a release with encoder and corpus, over one catalogue.

    Attributes:
        corpus: its papers.
        fusion: its weights.
        rows: makes the rows of its cross-encoder, None if it has none.
    """

    def __init__(self, corpus: Corpus, fusion: Fusion, rows: EvidenceRows | None) -> None:
        self.corpus, self.fusion, self.rows = corpus, fusion, rows
        self._kernel = Kernel(fusion.kernel_temperature, fusion.memory_years, fusion.now)
        self._outside = corpus.journal < 0
        self._journal = np.maximum(corpus.journal, 0)

    def consider(self, requests: Sequence[Request], encoded: Encoded) -> list[Considered]:
        """Find what is known of the candidates of B requests.

        Args:
            requests: B.
            encoded: what the encoder said of their manuscripts, in their order.
        """
        # One row of candidates a request, as long as the longest; all at once, as NumPy's calls would
        # otherwise cost more than their work.
        counts: NDArray[np.int64] = np.array([len(request.candidates) for request in requests])
        places = np.arange(int(counts.max()))
        real = places < counts[:, None]
        candidates, first_stage = np.zeros(real.shape, np.int64), np.zeros(real.shape)
        candidates[real] = np.concatenate([request.candidates for request in requests])
        first_stage[real] = np.concatenate([request.first_stage for request in requests])

        row: NDArray[np.int64] = np.arange(len(requests)).reshape(-1, 1)
        seen = self._near(encoded)
        column: NDArray[np.int32] = self.corpus.logit_column[candidates]
        shares: NDArray[np.float64] = log_softmax(encoded.logits)[row, np.maximum(column, 0)]
        encoder = np.where(column < 0, np.nan, shares)
        near = (part[row, candidates] for part in (seen.mean, seen.density))
        parts = np.stack([first_stage, encoder, *near], axis=2)
        fused = _fused(parts, self.fusion.base, self.fusion.unseen_base)
        base = log_softmax(np.where(real, fused, -np.inf))
        chosen: NDArray[np.bool_] = in_play(base, self.fusion.coverage, self.fusion.most_rows) & real
        evidence: NDArray[np.int32] = seen.evidence[row, candidates]
        cosines: NDArray[np.float32] = seen.cosines[row, candidates]
        manuscripts = np.array([len(request.tokens) for request in requests])
        lengths = np.zeros(real.shape, np.int32)
        if self.rows is not None:
            lengths[chosen] = self.rows.row_lengths(
                np.broadcast_to(manuscripts[:, None], real.shape)[chosen],
                candidates[chosen],
                evidence[chosen],
            )
        order: NDArray[np.intp] = np.argsort(np.where(chosen, -base, np.inf), axis=1, kind="stable")
        fit = _fit(self.fusion, encoded.nearness[:, :EVIDENCE].mean(axis=1), base.max(axis=1))
        parts = parts.astype(np.float32)
        return [
            Considered(
                parts=parts[one, :count],
                base=base[one, :count],
                rows=(rows := order[one, :in_use]),
                lengths=lengths[one, rows],
                evidence=evidence[one, :count],
                cosines=cosines[one, :count],
                fit=None if fit is None else float(fit[one]),
            )
            for one, (count, in_use) in enumerate(zip(counts, np.count_nonzero(chosen, axis=1), strict=True))
        ]

    def full(self, considered: Considered, cross_encoder: NDArray[np.float32]) -> NDArray[np.float64]:
        """Fused scores of the candidates that have rows, float64 [R], of their scores, float32 [R]."""
        parts = considered.parts[considered.rows]
        fused = _fused(parts, self.fusion.full, self.fusion.unseen_full)
        unseen = np.isnan(parts[:, 1])
        weight = np.where(unseen, self.fusion.unseen_full.cross_encoder, self.fusion.full.cross_encoder)
        return fused + weight * cross_encoder

    def _near(self, encoded: Encoded) -> Nearness:
        papers = encoded.neighbours
        # Papers of journals that this catalogue lacks speak for none.
        cosines = np.where(self._outside[papers], -np.inf, encoded.nearness).astype(np.float32)
        journals = len(self.corpus.logit_column)
        return nearness(cosines, papers, self._journal, self.corpus.year, journals, self._kernel)


def _fused(parts: NDArray[np.floating], seen: Weights, unseen: Weights) -> NDArray[np.float64]:
    """Weighted sums, [...], of parts, [..., 4], in which NaN tells journals that the encoder lacks."""
    values = parts.astype(np.float64)
    missing = np.isnan(values[..., 1])
    values[..., 1] = np.where(missing, 0.0, values[..., 1])
    both = (values @ np.array([getattr(w, part) for part in _PARTS]) + w.constant for w in (seen, unseen))
    known, guessed = both
    return np.where(missing, guessed, known)


def _fit(
    fusion: Fusion, nearest: NDArray[np.floating], likeliest: NDArray[np.floating]
) -> NDArray[np.float64] | None:
    if (fit := fusion.fit) is None:
        return None
    logit = fit["constant"] + fit["nearest"] * nearest + fit["likeliest"] * likeliest
    return 1 / (1 + np.exp(-np.clip(logit, -30.0, 30.0)))
