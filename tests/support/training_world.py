"""A small world to train in: three fields, two journals each, and papers made of their words."""

# pyarrow ships no types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from xuankan.candidates.fit import fit
from xuankan.catalogue import Catalogue, Journal
from xuankan.catalogue.papers import read_papers
from xuankan.protocol.template import default_directory
from xuankan_worker.releases.dataset import prepare
from xuankan_worker.releases.training_data import TrainingData

FIELDS = {
    "plasma": "plasma tokamak turbulence ion electron heating confinement instability wave magnetic",
    "ecology": "species forest habitat predator diversity climate population river soil migration",
    "algebra": "ring module ideal homology category functor group representation lattice scheme",
}
QUOTED = "ring module ideal and a quoted title"


def catalogue() -> Catalogue:
    journals: list[Journal] = []
    for field in FIELDS:
        for kind in ("Letters", "Annals"):
            quoted = (QUOTED, "another title") if (field, kind) == ("algebra", "Letters") else ()
            profile = f"{kind} of {field}. {field}. Terms: {FIELDS[field]}."
            if quoted:
                profile += f" Papers: {'; '.join(quoted)}."
            title = f"{kind} of {field}"
            journals.append(
                Journal(id=title.lower().replace(" ", "-"), title=title, profile=profile, examples=quoted)
            )
    return Catalogue(tuple(journals))


def write_papers(path: Path) -> Path:
    rng = np.random.default_rng(0)

    def paper(journal: Journal, split: str, number: int) -> dict[str, object]:
        words = FIELDS[journal.title.split()[-1]].split()
        return {
            "title": " ".join(rng.choice(words, 4)) + f" {journal.id} {split}{number}",
            "abstract": " ".join(rng.choice(words, 20)) + " we show " + journal.id.split("-")[0],
            "journal": journal.title,
            "year": 2010 + number % 7,
            "source": "arxiv_archive" if number % 3 else "pmc_oa_petermr",
            "split": split,
            "arxiv_categories": None,
            "doi": f"10.1/{journal.id}-{split}{number}" if number % 2 else None,
            "arxiv_id": None,
        }

    rows = [
        paper(journal, split, number)
        for split, count in (("train", 30), ("dev", 4), ("late", 4))
        for journal in catalogue()
        for number in range(count)
    ]
    rows.append({**rows[0], "title": "a preprint", "source": "biorxiv_preprint"})
    rows.append({**rows[0], "title": QUOTED, "journal": "Letters of algebra"})
    table = {name: [row[name] for row in rows] for name in rows[0]}
    table |= {name: pa.array(table[name], pa.string()) for name in ("arxiv_categories", "arxiv_id")}
    pq.write_table(pa.table(table), path)
    return path


def training_data(path: Path) -> TrainingData:
    papers = write_papers(path)
    first_stage = fit(read_papers(papers, "train"), catalogue())
    return prepare(
        papers, catalogue(), first_stage, default_directory(), ["dev", "late"], lambda _what, _part: None
    )
