"""The pairs that every system scores, in a file, so that each system's process has them at once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xuankan.catalogue import Catalogue
from xuankan.client.prepare import Preparer
from xuankan.errors import InputError
from xuankan.manuscript import Manuscript
from xuankan.protocol.template import Template
from xuankan_worker.bench.pairs import make_work
from xuankan_worker.execution.rows import Profiles
from xuankan_worker.releases.labelled import read_labelled


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """M manuscripts and the C candidates of each.

    Attributes:
        manuscripts: as a producer gets them.
        texts: of each manuscript, cut where the template cuts.
        tokens: int32 [T] each, the manuscripts' own.
        candidates: int64 [M, C], catalogue positions.
        first_stage: float32 [M, C], their scores in the first stage.
        profiles: text of each candidate's profile, by catalogue position, cut where the template cuts.
    """

    manuscripts: tuple[Manuscript, ...]
    texts: tuple[str, ...]
    tokens: tuple[NDArray[np.int32], ...]
    candidates: NDArray[np.int64]
    first_stage: NDArray[np.float32]
    profiles: dict[int, str]

    @property
    def count(self) -> int:
        """Pairs in all."""
        return self.candidates.size

    def lengths(self, profiles: Profiles) -> NDArray[np.int32]:
        """Tokens of each pair, special tokens included: int32 [M, C]."""
        rows = zip(self.tokens, self.candidates, strict=True)
        return np.stack([profiles.row_lengths(len(tokens), journals) for tokens, journals in rows])

    def text_pairs(self, manuscript: int) -> list[tuple[str, str]]:
        """The texts of one manuscript's pairs."""
        return [(self.texts[manuscript], self.profiles[int(at)]) for at in self.candidates[manuscript]]

    def save(self, path: Path) -> None:
        """Write to a JSON file."""
        document = {
            "manuscripts": [[each.title, each.abstract] for each in self.manuscripts],
            "texts": self.texts,
            "tokens": [tokens.tolist() for tokens in self.tokens],
            "candidates": self.candidates.tolist(),
            "first_stage": self.first_stage.tolist(),
            "profiles": {str(at): text for at, text in self.profiles.items()},
        }
        path.write_text(json.dumps(document))

    @classmethod
    def load(cls, path: Path) -> Pairs:
        """Read what `save` wrote."""
        document = json.loads(path.read_bytes())
        return cls(
            manuscripts=tuple(Manuscript(title, abstract) for title, abstract in document["manuscripts"]),
            texts=tuple(document["texts"]),
            tokens=tuple(np.array(tokens, dtype=np.int32) for tokens in document["tokens"]),
            candidates=np.array(document["candidates"], dtype=np.int64),
            first_stage=np.array(document["first_stage"], dtype=np.float32),
            profiles={int(at): text for at, text in document["profiles"].items()},
        )


def choose_manuscripts(
    papers: Path, split: str, count: int, least_tokens: int, template: Template, seed: int
) -> list[Manuscript]:
    """A seeded sample of papers whose title and abstract have at least so many tokens.

    Raises:
        CatalogueError: the table cannot be read.
        InputError: it has too few such papers.
    """
    read = read_labelled(papers, (split,), None, seed)
    found = [Manuscript(*texts) for texts in zip(read.title, read.abstract, strict=True)]
    long = [m for m in found if template.encode_manuscript(m.title, m.abstract).total >= least_tokens]
    if len(long) < count:
        raise InputError(
            "papers",
            f"{papers} has {len(long)} papers of split {split!r} with at least {least_tokens} tokens; "
            f"{count} are wanted",
        )
    order = np.random.default_rng(seed).permutation(len(long))[:count]
    return [long[at] for at in order]


def make_pairs(template: Template, manuscripts: Sequence[Manuscript], candidates: int) -> Pairs:
    """Pair manuscripts with the first stage's best journals of the package's catalogue."""
    preparer = Preparer.load(template, None, None)
    work = make_work(preparer, manuscripts, candidates)
    requests = [each.request for each in work]
    profiles: dict[int, str] = {}
    for each in work:
        texts = (profile for _, profile in each.texts)
        profiles.update(zip((int(at) for at in each.request.candidates), texts, strict=True))
    return Pairs(
        manuscripts=tuple(manuscripts),
        texts=tuple(each.texts[0][0] for each in work),
        tokens=tuple(request.tokens for request in requests),
        candidates=np.stack([request.candidates for request in requests]).astype(np.int64),
        first_stage=np.stack([request.first_stage for request in requests]),
        profiles=profiles,
    )


def encode_profiles(template: Template) -> Profiles:
    """The tokens of the package's catalogue, as a worker makes them."""
    return Profiles.encode((journal.profile for journal in Catalogue.default()), template)
