"""Rows of the evidence cross-encoder, packed for training; see `execution.evidence_rows`. NumPy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xuankan.protocol.template import Template
from xuankan_worker.execution.evidence_rows import Runs, SecondHalves
from xuankan_worker.releases.packing import Packed, Ragged, pack_pieces

JOURNAL_TOKENS = 2


@dataclass(frozen=True, slots=True)
class RowTexts:
    """What rows are made of.

    Attributes:
        manuscripts: token sequences of those to be ranked.
        titles: of the corpus: sequences that begin with the titles' tokens.
        title_lengths: integer, how many tokens each title has.
        names, profiles: of the journals.
    """

    manuscripts: Ragged
    titles: Ragged
    title_lengths: NDArray[np.integer]
    names: Ragged
    profiles: Ragged


class RowPacker:
    """Packs rows."""

    def __init__(self, texts: RowTexts, template: Template) -> None:
        titles = Runs(texts.titles.ids, texts.titles.offsets[:-1], texts.title_lengths.astype(np.int64))
        self._halves = halves = SecondHalves(
            _runs(texts.names),
            _runs(texts.profiles),
            titles,
            template,
            JOURNAL_TOKENS,
            len(texts.names),
        )
        # [SEP] is the first token of the pool, [CLS] becomes its last; manuscripts are there already if they
        # are the corpus too.
        parts = [halves.pool]
        self._manuscripts = halves.titles_at
        if texts.titles.ids is not texts.manuscripts.ids:
            self._manuscripts = len(halves.pool)
            parts.append(texts.manuscripts.ids.astype(np.int32))
        self._pool = np.concatenate([*parts, np.array([template.cls_id], np.int32)])
        self._offsets, self._lengths = texts.manuscripts.offsets, texts.manuscripts.lengths

    def pack(
        self,
        manuscripts: NDArray[np.integer],
        journals: NDArray[np.integer],
        evidence: NDArray[np.int32],
        known: NDArray[np.bool_],
    ) -> Packed:
        """Pack B rows.

        Args:
            manuscripts: int [B].
            journals: int [B], catalogue positions.
            evidence: int32 [B, 3], papers of the corpus, −1 where there is none.
            known: bool [B], False leaves the journal's own tokens out.
        """
        begins, lengths = self._halves.pieces(journals, np.where(known, journals, -1), evidence)
        ones = np.ones(len(journals), np.int64)
        first = self._manuscripts + self._offsets[manuscripts]
        firsts = np.stack([ones * (len(self._pool) - 1), first, ones * 0], axis=1)
        sizes = np.stack([ones, self._lengths[manuscripts], ones], axis=1)
        segments = np.array([0, 0, 0, *[1] * begins.shape[1]], np.int32)
        return pack_pieces(self._pool, np.hstack([firsts, begins]), np.hstack([sizes, lengths]), segments)


def _runs(ragged: Ragged) -> Runs:
    return Runs(ragged.ids, ragged.offsets[:-1], ragged.lengths)
