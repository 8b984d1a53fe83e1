"""A request's first step: what its encoder row says of its candidates, and which of them get rows. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from xuankan.protocol.wire import Request
from xuankan_worker.engines.base import Encoded
from xuankan_worker.execution.corpus import Corpus
from xuankan_worker.execution.evidence_rows import EvidenceRows
from xuankan_worker.execution.fusion import in_play, log_softmax
from xuankan_worker.execution.nearness import Kernel, nearness
from xuankan_worker.in_flight import Considered
from xuankan_worker.manifest import Fusion, Weights

_PARTS = ("first_stage", "encoder", "mean", "density")
"""The columns of `Considered.parts`."""


class EncoderStep:
    """Of a release with encoder and corpus, over one catalogue.

    Attributes:
        corpus: its papers.
        fusion: its weights.
        rows: makes the rows of its cross-encoder.
    """

    def __init__(self, corpus: Corpus, fusion: Fusion, rows: EvidenceRows) -> None:
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
        papers = encoded.neighbours
        # Papers of journals that this catalogue lacks speak for none.
        cosines = np.where(self._outside[papers], -np.inf, encoded.nearness).astype(np.float32)
        journals = len(self.corpus.logit_column)
        seen = nearness(cosines, papers, self._journal, self.corpus.year, journals, self._kernel)
        shares = log_softmax(encoded.logits)
        return [
            self._of_one(
                request,
                shares[row],
                (seen.mean[row], seen.density[row]),
                (seen.evidence[row], seen.cosines[row]),
                float(encoded.nearness[row, :3].mean()),
            )
            for row, request in enumerate(requests)
        ]

    def full(self, considered: Considered, cross_encoder: NDArray[np.float32]) -> NDArray[np.float64]:
        """Fused scores of the candidates that have rows, float64 [R], of their scores, float32 [R]."""
        parts = considered.parts[considered.rows]
        fused = _fused(parts, self.fusion.full, self.fusion.unseen_full)
        unseen = np.isnan(parts[:, 1])
        weight = np.where(unseen, self.fusion.unseen_full.cross_encoder, self.fusion.full.cross_encoder)
        return fused + weight * cross_encoder

    def _of_one(
        self,
        request: Request,
        shares: NDArray[np.float64],
        near: tuple[NDArray[np.float32], NDArray[np.float32]],
        papers: tuple[NDArray[np.int32], NDArray[np.float32]],
        nearest: float,
    ) -> Considered:
        candidates = request.candidates
        column = self.corpus.logit_column[candidates]
        encoder = np.where(column < 0, np.nan, shares[np.maximum(column, 0)])
        parts = np.stack([request.first_stage, encoder, *(part[candidates] for part in near)], axis=1)
        base = log_softmax(_fused(parts, self.fusion.base, self.fusion.unseen_base))
        chosen = np.flatnonzero(in_play(base[None], self.fusion.coverage, self.fusion.most_rows)[0])
        rows = chosen[np.argsort(-base[chosen], kind="stable")]
        evidence = papers[0][candidates]
        return Considered(
            parts=parts.astype(np.float32),
            base=base,
            rows=rows,
            lengths=self.rows.row_lengths(len(request.tokens), candidates[rows], evidence[rows]),
            evidence=evidence,
            cosines=papers[1][candidates],
            fit=_fit(self.fusion, nearest, float(base.max())),
        )


def _fused(parts: NDArray[np.floating], seen: Weights, unseen: Weights) -> NDArray[np.float64]:
    """Weighted sums, float64 [N], of parts, [N, 4], in which NaN tells journals that the encoder lacks."""
    values = parts.astype(np.float64)
    missing = np.isnan(values[:, 1])
    values[:, 1] = np.where(missing, 0.0, values[:, 1])
    both = (values @ np.array([getattr(w, part) for part in _PARTS]) + w.constant for w in (seen, unseen))
    known, guessed = both
    return np.where(missing, guessed, known)


def _fit(fusion: Fusion, nearest: float, likeliest: float) -> float | None:
    if (fit := fusion.fit) is None:
        return None
    logit = fit["constant"] + fit["nearest"] * nearest + fit["likeliest"] * likeliest
    return 1 / (1 + math.exp(-max(-30.0, min(30.0, logit))))
