"""How long the pairs of a release are, on real papers: what buckets are chosen by. Needs the `data` extra."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xuankan.catalogue.papers import Progress
from xuankan.catalogue.parquet import read_columns
from xuankan.client.options import RankingOptions
from xuankan.client.prepare import Preparer
from xuankan.errors import CatalogueError, ManuscriptError
from xuankan.manuscript import Manuscript
from xuankan_worker.execution.rows import Profiles
from xuankan_worker.manifest import Manifest, template_of

_SAMPLE = 2000
"""Papers that are looked at; their lengths are spread like those of all."""


def pair_lengths(release: Path, papers: Path, progress: Progress) -> NDArray[np.int64]:
    """Count the pairs of each length that requests for these papers make.

    Args:
        release: its template cuts the texts.
        papers: Parquet table with the columns title and abstract; a seeded sample of it is read, each
            paper with the 100 journals of the shipped catalogue that the first stage likes best.
        progress: told how far it is.

    Returns:
        int64 [L + 1], pairs of 0, 1, … L tokens, special tokens included; L is the template's longest pair.

    Raises:
        ReleaseError: the release cannot be read.
        CatalogueError: the table cannot be read, or no paper of it can be ranked.
    """
    template = template_of(Manifest.load(release), release)
    preparer = Preparer.load(template, None, None)
    profiles = Profiles.encode((journal.profile for journal in preparer.catalogue.journals), template)
    rows = read_columns(papers, ["title", "abstract"])
    chosen = np.random.default_rng(0).permutation(len(rows["title"]))[:_SAMPLE]
    counts = np.zeros(template.max_length + 1, np.int64)
    for done, paper in enumerate(chosen):
        try:
            request = preparer.request(
                Manuscript(title=rows["title"][paper], abstract=rows["abstract"][paper] or ""),
                RankingOptions(),
                request_id="-",
                reply="-",
                now_ms=0,
            )
        except ManuscriptError:
            continue
        lengths = profiles.row_lengths(len(request.tokens), request.candidates)
        counts += np.bincount(lengths, minlength=len(counts))
        progress("measuring pairs", (done + 1) / len(chosen))
    if not counts.any():
        raise CatalogueError(f"{papers} holds no paper that can be ranked")
    return counts
