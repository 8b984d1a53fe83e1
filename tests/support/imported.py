"""Journals that the packaged release never saw: real papers of known journals, under other names."""

from __future__ import annotations

import json
from pathlib import Path

from xuankan.catalogue import Catalogue
from xuankan.catalogue.parquet import read_columns

SAMPLE = Path(__file__).parents[1] / "data" / "papers.parquet"
OURS = {
    "annals-of-flow": ("2434-561X", "Journal of Fluid Mechanics"),
    "annals-of-computation": ("0000-0019", "Journal of Computational Physics"),
    "annals-of-detectors": (
        "0000-0027",
        (
            "Nuclear Instruments and Methods in Physics Research, Section A: Accelerators, Spectrometers, "
            "Detectors and Associated Equipment"
        ),
    ),
}
"""By id: ISSN, and the journal whose papers it has."""
IMPORTED = 4
"""Papers of each that are imported; the others are manuscripts."""


def papers(journal: str) -> list[dict[str, str]]:
    """Title and abstract of a journal's papers."""
    rows = read_columns(SAMPLE, ("title", "abstract", "journal"))
    return [
        {"title": title, "abstract": abstract}
        for title, abstract, name in zip(rows["title"], rows["abstract"], rows["journal"], strict=True)
        if name == OURS[journal][1]
    ]


def manuscripts() -> list[tuple[str, dict[str, str]]]:
    """Papers that are not imported, with their journals."""
    return [(journal, paper) for journal in OURS for paper in papers(journal)[IMPORTED:]]


def write_tables(folder: Path) -> tuple[Path, Path, Path]:
    """The packaged catalogue without the known journals, a table of ours, and one of their papers."""
    base, journals, table = folder / "base.json.gz", folder / "ours.csv", folder / "papers.jsonl"
    known = {name for _, name in OURS.values()}
    Catalogue(tuple(journal for journal in Catalogue.default() if journal.title not in known)).save(base)
    lines = [f"{journal.replace('-', ' ').title()},{issn}" for journal, (issn, _) in OURS.items()]
    journals.write_text("\n".join(["title,issns", *lines]))
    rows = [
        {**paper, "journal": issn, "year": 2015 + number, "doi": f"10.1/{journal}/{number}"}
        for journal, (issn, _) in OURS.items()
        for number, paper in enumerate(papers(journal)[:IMPORTED])
    ]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return base, journals, table
