"""Rows: `[CLS] manuscript [SEP] profile [SEP]` as padded token matrices."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xuankan.protocol.template import SPECIAL_TOKENS, Template
from xuankan_worker.engines.base import TokenBatch


class Segment(NamedTuple):
    """Some rows of one manuscript.

    Attributes:
        tokens: int32 [T], the manuscript.
        journals: integer [n], catalogue positions, one a row.
    """

    tokens: NDArray[np.int32]
    journals: NDArray[np.integer]


class Profiles:
    """The tokens of every journal's profile, made once.

    Attributes:
        lengths: int32 [J], tokens of each profile.
    """

    def __init__(self, profiles: Sequence[NDArray[np.int32]], template: Template) -> None:
        self._cls, self._sep, self._pad = template.cls_id, template.sep_id, template.pad_id
        self.lengths = np.array([len(profile) for profile in profiles], dtype=np.int32)
        # One row a journal: profile, [SEP], padding. A batch's right half is then a single gather.
        self._matrix = np.full((len(profiles), int(self.lengths.max()) + 1), self._pad, dtype=np.int32)
        for row, profile in zip(self._matrix, profiles, strict=True):
            row[: len(profile)] = profile
            row[len(profile)] = self._sep

    @classmethod
    def encode(cls, texts: Iterable[str], template: Template) -> Profiles:
        """Tokenize the profiles of a catalogue, in its order."""
        return cls(template.encode_profiles(list(texts)), template)

    def __len__(self) -> int:
        return len(self.lengths)

    def row_lengths(self, manuscript_tokens: int, journals: NDArray[np.integer]) -> NDArray[np.int32]:
        """Tokens of the rows of a manuscript with these journals, int32 [n]."""
        return self.lengths.take(journals) + np.int32(manuscript_tokens + SPECIAL_TOKENS)

    def assemble(self, bucket: int, segments: Sequence[Segment]) -> TokenBatch:
        """Build a batch padded to `bucket` tokens; its rows are the segments' rows in order."""
        rows = sum(len(segment.journals) for segment in segments)
        input_ids = np.full((rows, bucket), self._pad, dtype=np.int32)
        input_ids[:, 0] = self._cls
        lengths = np.empty(rows, dtype=np.int32)
        first_lengths = np.empty(rows, dtype=np.int32)
        start = 0
        for tokens, journals in segments:
            end, left = start + len(journals), len(tokens) + 2
            part, width = input_ids[start:end], min(bucket - left, self._matrix.shape[1])
            part[:, 1 : left - 1] = tokens
            part[:, left - 1] = self._sep
            part[:, left : left + width] = self._matrix.take(journals, axis=0)[:, :width]
            lengths[start:end] = self.row_lengths(len(tokens), journals)
            first_lengths[start:end] = left
            start = end
        return TokenBatch(input_ids, lengths, first_lengths)
