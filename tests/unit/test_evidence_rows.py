"""Rows that carry evidence, and the corpus that they are made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.evidence_release import JOURNAL_TOKENS, TRAINED, papers, write_corpus
from tests.support.world import catalogue
from xuankan.errors import ReleaseError
from xuankan.protocol.template import Template
from xuankan_worker.execution.corpus import Corpus
from xuankan_worker.execution.evidence_rows import EvidenceRows, EvidenceSegment, manuscript_rows

TEMPLATE = Template.default()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    path = tmp_path_factory.mktemp("corpus") / "corpus.npz"
    write_corpus(path)
    return Corpus.load(path, catalogue())


@pytest.fixture(scope="module")
def rows(corpus: Corpus) -> EvidenceRows:
    return EvidenceRows(catalogue(), corpus, TEMPLATE, JOURNAL_TOKENS)


def plain(manuscript: list[int], journal: int, evidence: list[int]) -> list[int]:
    """A row, piece by piece."""
    period, semicolon = (TEMPLATE.tokenizer.token_to_id(mark) for mark in ".;")
    own = TEMPLATE.tokenizer.get_vocab_size() + JOURNAL_TOKENS * journal
    second = list(range(own, own + JOURNAL_TOKENS)) if journal < TRAINED else []
    if evidence:
        second += TEMPLATE.encode_profile(catalogue()[journal].title).ids[:14].tolist()
        for place, paper in enumerate(evidence):
            title = TEMPLATE.encode_manuscript(papers()[paper][2], "").ids.tolist()
            second += [semicolon if place else period, *title[:20]]
    else:
        profile = TEMPLATE.encode_profile(catalogue()[journal].profile).ids.tolist()
        second += profile[: TEMPLATE.max_profile_tokens - len(second)]
    return [TEMPLATE.cls_id, *manuscript, TEMPLATE.sep_id, *second, TEMPLATE.sep_id]


SEGMENTS = st.lists(
    st.tuples(
        st.lists(st.integers(1000, 2000), min_size=1, max_size=40),
        st.lists(
            st.tuples(st.integers(0, 39), st.lists(st.integers(0, len(papers()) - 1), max_size=3)),
            min_size=1,
            max_size=5,
        ),
    ),
    min_size=1,
    max_size=4,
)


@given(SEGMENTS)
def test_a_batch_holds_every_row_as_if_it_were_put_together_alone(
    rows: EvidenceRows, segments: list[tuple[list[int], list[tuple[int, list[int]]]]]
) -> None:
    given_segments = [
        EvidenceSegment(
            np.array(manuscript, np.int32),
            np.array([journal for journal, _ in parts]),
            np.array([[*found, -1, -1, -1][:3] for _, found in parts], np.int32),
        )
        for manuscript, parts in segments
    ]
    batch = rows.assemble(160, given_segments)
    wanted = [plain(manuscript, *part) for manuscript, parts in segments for part in parts]
    for row, length, expected in zip(batch.input_ids, batch.lengths, wanted, strict=True):
        assert row[:length].tolist() == expected
        assert set(row[length:].tolist()) <= {TEMPLATE.pad_id}
    firsts = [len(manuscript) + 2 for manuscript, parts in segments for _ in parts]
    assert batch.first_lengths.tolist() == firsts
    lengths = [
        rows.row_lengths(np.full(len(one.journals), len(one.tokens)), one.journals, one.evidence)
        for one in given_segments
    ]
    assert np.concatenate(lengths).tolist() == batch.lengths.tolist()
    assert max(len(row) - first for row, first in zip(wanted, firsts, strict=True)) <= 81


def test_an_encoder_reads_manuscripts_alone() -> None:
    batch = manuscript_rows(8, [np.array([5, 6], np.int32), np.array([7], np.int32)], TEMPLATE)
    cls, sep, pad = TEMPLATE.cls_id, TEMPLATE.sep_id, TEMPLATE.pad_id
    assert batch.input_ids.tolist() == [[cls, 5, 6, sep, *[pad] * 4], [cls, 7, sep, *[pad] * 5]]
    assert batch.lengths.tolist() == batch.first_lengths.tolist() == [4, 3]


def test_the_corpus_knows_its_papers_and_journals(corpus: Corpus) -> None:
    assert len(corpus) == len(papers())
    for number, (journal, year, title, link) in enumerate(papers()):
        known = journal in catalogue()
        assert corpus.journal[number] == (catalogue().index(journal) if known else -1)
        found = (corpus.year[number], corpus.titles[number], corpus.link(number))
        assert found == (year, title, link or None)
    assert corpus.logit_column.tolist() == [*range(TRAINED), *[-1] * (40 - TRAINED)]


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("journal", [99] * len(papers()), "journal has values from 99 to 99"),
        ("year", [2000], r"year has shape \(1,\)"),
        ("title_offsets", [0, 5], "title_offsets are not"),
        ("token_offsets", [0] * (len(papers()) + 1), "token_offsets are not"),
        ("logit_journals", None, "logit_journals"),
    ],
)
def test_a_corpus_whose_parts_do_not_fit_is_refused(
    tmp_path: Path, name: str, value: list[int] | None, says: str
) -> None:
    path = tmp_path / "corpus.npz"
    write_corpus(path)
    with np.load(path) as stored:
        arrays: dict[str, Any] = dict(stored)
    if value is None:
        del arrays[name]
    else:
        arrays[name] = np.array(value)
    np.savez(path, **arrays)
    with pytest.raises(ReleaseError, match=says):
        Corpus.load(path, catalogue())


def test_what_is_no_corpus_is_refused(tmp_path: Path) -> None:
    (tmp_path / "corpus.npz").write_bytes(b"PK no")
    with pytest.raises(ReleaseError, match="not a corpus of a release"):
        Corpus.load(tmp_path / "corpus.npz", catalogue())
