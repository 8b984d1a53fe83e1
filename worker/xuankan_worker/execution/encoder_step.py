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
from xuankan_worker.manifest import Fusion, JournalPrior, Weights

_PARTS = ("first_stage", "encoder", "mean", "density")
"""The weighted columns of `Considered.parts`; one that is added as it is follows."""


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
        self._any_outside = bool(self._outside.any())
        self._journal, self._year = np.maximum(corpus.journal, 0), corpus.year
        self._prior = journal_prior(corpus, fusion.prior)

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

        seen = self._near(encoded, candidates, real)
        column: NDArray[np.int32] = self.corpus.logit_column[candidates]
        shares = np.take_along_axis(log_softmax(encoded.logits), np.maximum(column, 0), axis=1)
        encoder = np.where(column < 0, np.nan, shares)
        prior = self._prior[candidates]
        parts = np.stack([first_stage, encoder, seen.mean, seen.density, prior], axis=2)
        fused = _fused(parts, self.fusion.base, self.fusion.unseen_base)
        base = log_softmax(np.where(real, fused, -np.inf))
        rows, lengths = self._rows(requests, candidates, real, base, seen.evidence)
        fit = _fit(self.fusion, encoded.nearness[:, :EVIDENCE].mean(axis=1), base.max(axis=1))
        parts = parts.astype(np.float32)
        return [
            Considered(
                parts=parts[one, :count],
                base=base[one, :count],
                rows=rows[one],
                lengths=lengths[one],
                evidence=seen.evidence[one, :count],
                cosines=seen.cosines[one, :count],
                fit=None if fit is None else float(fit[one]),
            )
            for one, count in enumerate(counts.tolist())
        ]

    def full(self, considered: Considered, cross_encoder: NDArray[np.float32]) -> NDArray[np.float64]:
        """Fused scores of the candidates that have rows, float64 [R], of their scores, float32 [R]."""
        parts = considered.parts[considered.rows]
        fused = _fused(parts, self.fusion.full, self.fusion.unseen_full)
        unseen = np.isnan(parts[:, 1])
        weight = np.where(unseen, self.fusion.unseen_full.cross_encoder, self.fusion.full.cross_encoder)
        return fused + weight * cross_encoder

    def _rows(
        self,
        requests: Sequence[Request],
        candidates: NDArray[np.int64],
        real: NDArray[np.bool_],
        base: NDArray[np.float64],
        evidence: NDArray[np.int32],
    ) -> tuple[list[NDArray[np.intp]], list[NDArray[np.int32]]]:
        """Of each request the candidates that get rows, likeliest first, and the tokens of these rows."""
        if self.rows is None:
            none = [np.empty(0, np.intp)] * len(requests)
            return none, [np.empty(0, np.int32)] * len(requests)
        chosen: NDArray[np.bool_] = in_play(base, self.fusion.coverage, self.fusion.most_rows) & real
        manuscripts = np.array([len(request.tokens) for request in requests])
        lengths = np.zeros(real.shape, np.int32)
        lengths[chosen] = self.rows.row_lengths(
            np.broadcast_to(manuscripts[:, None], real.shape)[chosen], candidates[chosen], evidence[chosen]
        )
        order: NDArray[np.intp] = np.argsort(np.where(chosen, -base, np.inf), axis=1, kind="stable")
        in_use = np.count_nonzero(chosen, axis=1).tolist()
        rows = [order[one, :count] for one, count in enumerate(in_use)]
        return rows, [lengths[one, taken] for one, taken in enumerate(rows)]

    def _near(self, encoded: Encoded, candidates: NDArray[np.int64], real: NDArray[np.bool_]) -> Nearness:
        """What the neighbours say of each request's candidates, [B, C]."""
        papers, cosines = encoded.neighbours, encoded.nearness
        journal = self._journal[papers]
        if self._any_outside:  # papers of journals that this catalogue lacks speak for none
            cosines = np.where(self._outside[papers], np.float32(-np.inf), cosines)
        count, width = candidates.shape
        # By journal its place among a request's candidates, `width` for the others.
        column = np.full((count, len(self.corpus.logit_column)), width, np.min_scalar_type(width))
        row, place = np.nonzero(real)
        column[row, candidates[row, place]] = place
        of = np.take_along_axis(column, journal, axis=1)
        return nearness(cosines, papers, of, self._year, width, self._kernel)


def journal_prior(corpus: Corpus, prior: JournalPrior | None) -> NDArray[np.float64]:
    """What is added to the score of each journal of the catalogue, float64 [J]."""
    size, trained = len(corpus.logit_column), corpus.logit_column >= 0
    if prior is None or not trained.any():
        return np.zeros(size)
    inside = corpus.journal >= 0
    journal, age = corpus.journal[inside], prior.newest_year - corpus.year[inside]
    newest: NDArray[np.float64] = np.bincount(journal, age == 0, size)
    recent: NDArray[np.float64] = np.bincount(journal, np.exp(-np.maximum(age, 0) / prior.memory_years), size)
    added = prior.newest * np.log1p(newest) + prior.recent * np.log1p(recent)
    return np.where(trained, added - added[trained].mean(), 0.0)


def _fused(parts: NDArray[np.floating], seen: Weights, unseen: Weights) -> NDArray[np.float64]:
    """Weighted sums, [...], of parts, [..., 5], in which NaN tells journals that the encoder lacks."""
    values = parts.astype(np.float64)
    missing = np.isnan(values[..., 1])
    values[..., 1] = np.where(missing, 0.0, values[..., 1])
    weights = (np.array([*(getattr(w, part) for part in _PARTS), 1.0]) for w in (seen, unseen))
    both = (values @ of + w.constant for of, w in zip(weights, (seen, unseen), strict=True))
    known, guessed = both
    return np.where(missing, guessed, known)


def _fit(
    fusion: Fusion, nearest: NDArray[np.floating], likeliest: NDArray[np.floating]
) -> NDArray[np.float64] | None:
    if (fit := fusion.fit) is None:
        return None
    logit = fit["constant"] + fit["nearest"] * nearest + fit["likeliest"] * likeliest
    return 1 / (1 + np.exp(-np.clip(logit, -30.0, 30.0)))
