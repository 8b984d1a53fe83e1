"""Rows of the evidence cross-encoder, packed. NumPy only.

    [CLS] manuscript [SEP] J₁ J₂ name . title ; title ; title [SEP]

J₁ J₂ are tokens of the journal's own, behind the vocabulary's; the titles are of its papers that are nearest
to the manuscript. A journal without such papers has its profile in their place, and one that was not trained
on has no tokens of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xuankan.protocol.template import Template
from xuankan_worker.releases.nearness import EVIDENCE
from xuankan_worker.releases.packing import Packed, Ragged, pack_pieces

JOURNAL_TOKENS = 2
NAME_TOKENS, TITLE_TOKENS = 14, 20
"""The longest name and the longest title in a row; so everything fits the template's 80 tokens."""


@dataclass(frozen=True, slots=True)
class Texts:
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

    def __init__(self, texts: Texts, template: Template) -> None:
        period, semicolon = (template.tokenizer.token_to_id(mark) or template.sep_id for mark in ".;")
        own = template.tokenizer.get_vocab_size() + np.arange(JOURNAL_TOKENS * len(texts.names))
        parts = [np.array([template.cls_id, template.sep_id, period, semicolon]), own]
        parts += [ragged.ids for ragged in (texts.names, texts.profiles, texts.titles)]
        same = texts.titles.ids is texts.manuscripts.ids
        if not same:
            parts.append(texts.manuscripts.ids)
        starts = np.cumsum([0, *(len(part) for part in parts)])
        self._pool = np.concatenate(parts).astype(np.int32)
        self._own, self._names, self._profiles, self._titles = starts[1:5].tolist()
        self._manuscripts = self._titles if same else int(starts[5])
        self._texts = texts
        self._budget = template.max_profile_tokens
        self._manuscript_lengths, self._name_lengths = texts.manuscripts.lengths, texts.names.lengths
        self._profile_lengths = texts.profiles.lengths
        self._title_lengths = np.minimum(texts.title_lengths.astype(np.int64), TITLE_TOKENS)

    def pack(
        self,
        manuscripts: NDArray[np.integer],
        journals: NDArray[np.integer],
        evidence: NDArray[np.integer],
        known: NDArray[np.bool_],
    ) -> Packed:
        """Pack B rows.

        Args:
            manuscripts: int [B].
            journals: int [B], catalogue positions.
            evidence: int [B, 3], papers of the corpus, −1 where there is none.
            known: bool [B], False leaves the journal's own tokens out.
        """
        texts, ones = self._texts, np.ones(len(journals), np.int64)
        none = evidence[:, 0] < 0
        begins = [ones * 0, self._manuscripts + texts.manuscripts.offsets[manuscripts], ones]
        lengths = [ones, self._manuscript_lengths[manuscripts], ones]
        begins.append(self._own + JOURNAL_TOKENS * journals.astype(np.int64))
        lengths.append(JOURNAL_TOKENS * known.astype(np.int64))
        begins.append(np.where(none, self._profiles + texts.profiles.offsets[journals],
                               self._names + texts.names.offsets[journals]))  # fmt: skip
        profile = np.minimum(self._profile_lengths[journals], self._budget - lengths[-1])
        name = np.minimum(self._name_lengths[journals], NAME_TOKENS)
        lengths.append(np.where(none, profile, name))
        for number in range(EVIDENCE):
            papers = np.maximum(evidence[:, number], 0)
            there = evidence[:, number] >= 0
            begins += [ones * (2 if number == 0 else 3), self._titles + texts.titles.offsets[papers]]
            lengths += [there.astype(np.int64), self._title_lengths[papers] * there]
        begins.append(ones)
        lengths.append(ones)
        segments = np.array([0, 0, 0, *[1] * (len(begins) - 3)], np.int32)
        return pack_pieces(self._pool, np.stack(begins, axis=1), np.stack(lengths, axis=1), segments)
