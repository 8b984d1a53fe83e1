"""Rows that carry evidence, `[CLS] manuscript [SEP] J J name . title ; title ; title [SEP]`, as matrices.

The titles are of the journal's papers that are nearest to the manuscript, each up to `TITLE_TOKENS` tokens. A
journal without such papers has its profile in place of name and titles. J J are tokens of the journal's own,
behind the vocabulary's, of journals that the release was trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xuankan.catalogue import Catalogue
from xuankan.protocol.template import SPECIAL_TOKENS, Template
from xuankan_worker.engines.base import TokenBatch
from xuankan_worker.execution.corpus import Corpus
from xuankan_worker.execution.nearness import EVIDENCE

NAME_TOKENS, TITLE_TOKENS = 14, 20
"""The longest name and the longest title in a row; so everything fits the template's 80 tokens."""


class EvidenceSegment(NamedTuple):
    """Some rows of one manuscript.

    Attributes:
        tokens: int32 [T], the manuscript.
        journals: integer [n], catalogue positions, one a row.
        evidence: int32 [n, 3], papers of the corpus, nearest first; -1 where there is none.
    """

    tokens: NDArray[np.int32]
    journals: NDArray[np.integer]
    evidence: NDArray[np.int32]


class Runs(NamedTuple):
    """Token sequences, each a run of one array.

    Attributes:
        ids: integer [T].
        begins: int64 [N], where each begins.
        lengths: int64 [N], its tokens.
    """

    ids: NDArray[np.integer]
    begins: NDArray[np.int64]
    lengths: NDArray[np.int64]

    @classmethod
    def of(cls, sequences: Sequence[NDArray[np.int32]]) -> Runs:
        """Sequences one behind the other."""
        lengths = np.array([len(sequence) for sequence in sequences], np.int64)
        return cls(np.concatenate(sequences), np.cumsum(lengths) - lengths, lengths)

    def cut(self, tokens: int) -> Runs:
        """None longer than `tokens`."""
        return self._replace(lengths=np.minimum(self.lengths, tokens))


class SecondHalves:
    """What the second halves of rows are made of, in tokens: one pool, of which each half is a few runs.

    Serving and training share it.

    Args:
        names, profiles: of the catalogue's journals.
        titles: of the corpus.
        template: of the release.
        journal_tokens: how many of its own a journal has; 0 if the release has none.
        known: how many journals have them.

    Attributes:
        pool: int32 [P], tokens.
        titles_at: where the titles' tokens begin in it.
    """

    def __init__(
        self,
        names: Runs,
        profiles: Runs,
        titles: Runs,
        template: Template,
        journal_tokens: int,
        known: int,
    ) -> None:
        period, semicolon = (template.tokenizer.token_to_id(mark) or template.sep_id for mark in ".;")
        own = template.tokenizer.get_vocab_size() + np.arange(journal_tokens * known)
        parts = [np.array([template.sep_id, period, semicolon]), own, profiles.ids, names.ids, titles.ids]
        self.pool = np.concatenate(parts).astype(np.int32)
        at = np.cumsum([len(part) for part in parts[:-1]])
        self._own, profiles_at, names_at, self.titles_at = (int(place) for place in at)
        self._profile, self._profile_length = profiles_at + profiles.begins, profiles.lengths
        self._name, self._name_length = names_at + names.begins, names.cut(NAME_TOKENS).lengths
        self._title, self._title_length = self.titles_at + titles.begins, titles.cut(TITLE_TOKENS).lengths
        self._room = template.max_profile_tokens + template.separators - 1
        self._journal_tokens = journal_tokens

    def pieces(
        self, journals: NDArray[np.integer], own: NDArray[np.integer], evidence: NDArray[np.int32]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where the pieces of second halves begin in the pool, and their tokens, each int64 [n, 9].

        Args:
            journals: integer [n], catalogue positions.
            own: integer [n], which of the journals with tokens of their own each is; -1 leaves them out.
            evidence: int32 [n, 3], papers of the corpus, nearest first; -1 where there is none.
        """
        begins = np.zeros((len(journals), 3 + 2 * EVIDENCE), np.int64)  # the last piece is [SEP], at 0
        lengths = np.ones_like(begins)
        begins[:, 0] = self._own + self._journal_tokens * own.astype(np.int64)
        lengths[:, 0] = self._journal_tokens * (own >= 0)
        there = evidence >= 0
        alone = ~there[:, 0]
        begins[:, 1] = np.where(alone, self._profile[journals], self._name[journals])
        profile = np.minimum(self._profile_length[journals], self._room - lengths[:, 0])
        lengths[:, 1] = np.where(alone, profile, self._name_length[journals])
        papers = np.maximum(evidence, 0)
        begins[:, 2:-1:2] = [1, *[2] * (EVIDENCE - 1)]  # a period before the first title, then semicolons
        lengths[:, 2:-1:2] = there
        begins[:, 3:-1:2] = self._title[papers]
        lengths[:, 3:-1:2] = self._title_length[papers] * there
        return begins, lengths


class EvidenceRows:
    """Makes the rows of a release over a catalogue.

    Args:
        catalogue: gives names and profiles.
        corpus: gives titles, and which journals have tokens of their own.
        template: of the release.
        journal_tokens: how many of its own a journal has; 0 if the release has none.
    """

    def __init__(self, catalogue: Catalogue, corpus: Corpus, template: Template, journal_tokens: int) -> None:
        self._template, self._column = template, corpus.logit_column
        titles = Runs(corpus.tokens, corpus.token_offsets[:-1], np.diff(corpus.token_offsets))
        self._halves = SecondHalves(
            Runs.of(template.encode_profiles([journal.title for journal in catalogue.journals])),
            Runs.of(template.encode_profiles([journal.profile for journal in catalogue.journals])),
            titles,
            template,
            journal_tokens,
            corpus.logits,
        )

    def row_lengths(
        self,
        manuscript_tokens: NDArray[np.integer],
        journals: NDArray[np.integer],
        evidence: NDArray[np.int32],
    ) -> NDArray[np.int32]:
        """Tokens of rows, int32 [n].

        Args:
            manuscript_tokens: integer [n], of each row's manuscript.
            journals: integer [n], catalogue positions.
            evidence: int32 [n, 3], as in a segment.
        """
        _, lengths = self._pieces(journals, evidence)
        second = lengths.sum(axis=1) + manuscript_tokens
        return (second + SPECIAL_TOKENS - 1).astype(np.int32)

    def assemble(self, bucket: int, segments: Sequence[EvidenceSegment]) -> TokenBatch:
        """Build a batch padded to `bucket` tokens; its rows are the segments' rows in order."""
        counts = [len(segment.journals) for segment in segments]
        tokens = np.array([len(segment.tokens) for segment in segments], np.int32)
        first_lengths = np.repeat(tokens + np.int32(2), counts)
        input_ids = first_halves(bucket, [segment.tokens for segment in segments], counts, self._template)
        begins, lengths = self._pieces(
            np.concatenate([segment.journals for segment in segments]),
            np.concatenate([segment.evidence for segment in segments]),
        )
        halves = lengths.sum(axis=1)
        flat = lengths.ravel()
        # Counted through all second halves, a token is as far from its piece's first token here as it is in
        # the pool.
        places = np.arange(int(halves.sum()))
        source = places + np.repeat(begins.ravel() - (np.cumsum(flat) - flat), flat)
        column = places + np.repeat(first_lengths - (np.cumsum(halves) - halves), halves)
        input_ids[np.repeat(np.arange(len(halves)), halves), column] = self._halves.pool[source]
        return TokenBatch(input_ids, first_lengths + halves.astype(np.int32), first_lengths)

    def _pieces(
        self, journals: NDArray[np.integer], evidence: NDArray[np.int32]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return self._halves.pieces(journals, self._column[journals], evidence)


def manuscript_rows(bucket: int, manuscripts: Sequence[NDArray[np.int32]], template: Template) -> TokenBatch:
    """An encoder's batch, `[CLS] manuscript [SEP]` a row, padded to `bucket` tokens."""
    lengths = np.array([len(tokens) + 2 for tokens in manuscripts], np.int32)
    input_ids = first_halves(bucket, manuscripts, [1] * len(manuscripts), template)
    return TokenBatch(input_ids, lengths, lengths)


def first_halves(
    bucket: int, manuscripts: Sequence[NDArray[np.int32]], counts: Sequence[int], template: Template
) -> NDArray[np.int32]:
    """`[CLS] manuscript [SEP]` and padding, int32 [sum of counts, bucket]: each manuscript so many times."""
    input_ids = np.full((sum(counts), bucket), template.pad_id, dtype=np.int32)
    input_ids[:, 0] = template.cls_id
    start = 0
    for tokens, count in zip(manuscripts, counts, strict=True):
        part = input_ids[start : start + count]
        part[:, 1 : len(tokens) + 1] = tokens
        part[:, len(tokens) + 1] = template.sep_id
        start += count
    return input_ids
