"""Writes the corpus of a release: the papers that it knows of its journals. Needs the `data` extra.

Titles, years and links; embeddings are in the encoder's graph, in the same order. No abstract is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xuankan.catalogue.model import Catalogue
from xuankan.catalogue.parquet import read_columns
from xuankan.protocol.template import Template
from xuankan_worker.execution.evidence_rows import TITLE_TOKENS
from xuankan_worker.releases.dataset import EXCLUDED_SOURCES

_COLUMNS = ("title", "journal", "year", "source", "split", "doi", "arxiv_id")


@dataclass(frozen=True, slots=True)
class CorpusPapers:
    """Papers in the order of the graph's constant: columns of one length."""

    title: list[str]
    journal: list[str]
    year: list[int]
    link: list[str]


def link_of(doi: str | None, arxiv_id: str | None) -> str:
    """Where a paper can be read; empty where that is not certain."""
    if doi:
        return f"https://doi.org/{doi.strip()}"
    return f"https://arxiv.org/abs/{arxiv_id.strip()}" if arxiv_id else ""


def read_corpus(path: Path, splits: Sequence[str], catalogue: Catalogue) -> CorpusPapers:
    """The papers of some splits, split by split, of journals in the catalogue, from sources that may be kept.

    Raises:
        CatalogueError: the table cannot be read or lacks a column.
    """
    rows, known = read_columns(path, _COLUMNS), {journal.title for journal in catalogue}
    chosen = [
        i
        for name in splits
        for i, split in enumerate(rows["split"])
        if split == name and rows["source"][i] not in EXCLUDED_SOURCES and rows["journal"][i] in known
    ]
    return CorpusPapers(
        [rows["title"][i] for i in chosen],
        [rows["journal"][i] for i in chosen],
        [int(rows["year"][i]) for i in chosen],
        [link_of(rows["doi"][i], rows["arxiv_id"][i]) for i in chosen],
    )


def write_corpus(path: Path, papers: CorpusPapers, catalogue: Catalogue, template: Template) -> None:
    """Write `corpus.npz`.

    Args:
        path: to write.
        papers: in the order of the graph's constant.
        catalogue: whose journals, in its order, the encoder's logits are of.
        template: of the release.
    """
    ids = {journal.title: journal.id for journal in catalogue}
    number = {journal.id: i for i, journal in enumerate(catalogue)}
    tokens = [template.encode_manuscript(title, "").ids[:TITLE_TOKENS] for title in papers.title]
    titles, title_offsets = _packed(papers.title)
    links, link_offsets = _packed(papers.link)
    arrays: dict[str, Any] = {
        "journals": np.array([journal.id for journal in catalogue]),
        "journal": np.array([number[ids[title]] for title in papers.journal], np.uint16),
        "year": np.array(papers.year, np.int16),
        "titles": titles,
        "title_offsets": title_offsets,
        "links": links,
        "link_offsets": link_offsets,
        "tokens": np.concatenate(tokens).astype(np.uint16),
        "token_offsets": np.cumsum([0, *(len(ids) for ids in tokens)]),
        "logit_journals": np.array([journal.id for journal in catalogue]),
    }
    np.savez_compressed(path, **arrays)


def _packed(texts: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    parts = [text.encode() for text in texts]
    return np.frombuffer(b"".join(parts), np.uint8), np.cumsum([0, *(len(part) for part in parts)])
