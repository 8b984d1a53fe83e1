"""Papers whose journal is known, from tables. Needs the `data` extra (pyarrow)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xuankan.catalogue.parquet import read_columns
from xuankan.errors import InputError

_COLUMNS = ("title", "abstract", "journal")
_OPTIONAL = ("split", "arxiv_categories")
_FIELDS = {
    "mathematics": "math math-ph alg-geom dg-ga funct-an q-alg",
    "condensed matter": "cond-mat mtrl-th supr-con",
    "high energy and nuclear physics": "hep-ex hep-lat hep-ph hep-th nucl-ex nucl-th gr-qc",
    "quantum physics": "quant-ph",
    "astronomy": "astro-ph",
    "nonlinear science": "nlin adap-org chao-dyn comp-gas patt-sol solv-int",
    "other physics": "physics acc-phys ao-sci atom-ph bayes-an chem-ph plasm-ph",
    "computer science, engineering": "cs cmp-lg eess",
    "statistics": "stat",
    "biology": "q-bio",
    "economics": "q-fin econ",
}
_FIELD_OF = {archive: field for field, archives in _FIELDS.items() for archive in archives.split()}
"""By the archive of a paper's first arXiv category, of which the old ones have been renamed since."""
NO_FIELD = "other"


@dataclass(frozen=True, slots=True)
class Labelled:
    """Papers and where they appeared; journals are titles or ids of a catalogue.

    Attributes:
        title, abstract, journal, split: of each paper; `split` is empty where the table has none.
        field: of each paper, by its first arXiv category; `NO_FIELD` where the table has none.
    """

    title: list[str]
    abstract: list[str]
    journal: list[str]
    split: list[str]
    field: list[str]

    def take(self, places: Sequence[int]) -> Labelled:
        """The papers at these places."""
        columns = (self.title, self.abstract, self.journal, self.split, self.field)
        return Labelled(*([column[i] for i in places] for column in columns))


def read_labelled(path: Path, splits: Sequence[str], limit: int | None, seed: int) -> Labelled:
    """Read a Parquet table with the columns title, abstract and journal; split and arxiv_categories are used.

    Args:
        path: the table.
        splits: only papers of these; none takes all.
        limit: a random sample of this many; None takes all.
        seed: of the sample.

    Raises:
        CatalogueError: the file is no Parquet table, or lacks a column.
        InputError: no paper is left, or none of a split.
    """
    needed = (*_COLUMNS, "split") if splits else _COLUMNS
    rows = read_columns(path, needed, [name for name in _OPTIONAL if name not in needed])
    count = len(rows["journal"])
    found = [str(name) for name in rows.get("split", [""] * count)]
    for split in splits:
        if split not in found:
            known = ", ".join(sorted(set(found)))
            raise InputError("split", f"{path} holds no paper of split {split!r}; its splits are {known}")
    keep = np.flatnonzero([not splits or name in splits for name in found])
    if not len(keep):
        raise InputError("papers", f"{path} holds no papers")
    if limit is not None and limit < len(keep):
        keep = np.sort(np.random.default_rng(seed).choice(keep, limit, replace=False))
    categories = rows.get("arxiv_categories", [None] * count)

    def column(name: str) -> list[str]:
        return [str(rows[name][i] or "") for i in keep]

    return Labelled(
        *(column(name) for name in _COLUMNS),
        split=[found[i] for i in keep],
        field=[field_of(categories[i]) for i in keep],
    )


def training_papers(path: Path) -> Counter[str]:
    """How many papers of the split `train` a table has, by journal; none if it has no splits.

    Raises:
        CatalogueError: the file is no Parquet table, or lacks a column.
    """
    rows = read_columns(path, ("journal",), ("split",))
    pairs = zip(rows["journal"], rows.get("split", []), strict=False)
    return Counter(str(journal) for journal, split in pairs if split == "train")


def read_texts(path: Path) -> tuple[list[str], list[str]]:
    """Titles and abstracts of a Parquet table with these columns.

    Raises:
        CatalogueError: the file is no Parquet table, or lacks a column.
        InputError: it is empty.
    """
    rows = read_columns(path, ("title", "abstract"))
    if not rows["title"]:
        raise InputError("outside", f"{path} holds no papers")
    return [str(text or "") for text in rows["title"]], [str(text or "") for text in rows["abstract"]]


def field_of(categories: str | None) -> str:
    """The field of arXiv categories such as `math.AP,math-ph`."""
    first = (categories or "").replace(",", " ").split()[:1]
    return _FIELD_OF.get(first[0].partition(".")[0], NO_FIELD) if first else NO_FIELD
