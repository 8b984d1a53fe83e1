"""The first stage: which journals are worth the cross-encoder's time, by terms alone.

The logit of journal j for a manuscript with unit TF-IDF vector x is

    scale · <x, c_j>  +  <x E, w_j>  +  b_j  +  p_j

with c_j the journal's centroid of recency-weighted training papers, E and w_j a low-rank correction and b_j a
bias, all trained by softmax on what the centroid alone gets wrong, and p_j a prior (`fit.py`). Scores are the
log-softmax of the logits over the catalogue; on unseen papers they are calibrated as they come (the best
temperature on the dev split is 1). NumPy only.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xuankan.catalogue.model import Catalogue
from xuankan.catalogue.terms import term_counts
from xuankan.errors import CatalogueError

FORMAT = "xuankan-first-stage/1"


@dataclass(frozen=True, slots=True)
class Newcomer:
    """What is known of a journal that the first stage was not fitted to.

    Attributes:
        terms: int64 [T], ascending, the terms of its centroid.
        weights: float32 [T], theirs, times the scale.
        output: float32 [R], its w.
        bias: its b and p.
    """

    terms: NDArray[np.int64]
    weights: NDArray[np.float32]
    output: NDArray[np.float32]
    bias: float


@dataclass(frozen=True, slots=True)
class FirstStage:
    """Scores every journal of one catalogue for a manuscript. Immutable and thread-safe.

    Attributes:
        catalogue_version: version of the catalogue; `scores` are in the order of its journals.
        journals: the ids of those journals, in the same order.
        columns: each known term's number, 0 to V - 1, most common first.
        idf: float32 [V].
        starts: int64 [V + 1]. With `posted` and `weights`, the centroids as an inverted index: the postings
            of term t are those from `starts[t]` up to `starts[t + 1]`.
        posted: int64 [N], the journal of each posting.
        weights: float32 [N], the weight of each posting, times the scale.
        embedding: float32 [D, R], R ≤ 128: rows of E for the D most common terms; the others have none.
        output: float32 [J, R], the w_j.
        bias: float32 [J], the b_j.
        prior: float32 [J], the p_j.
        newcomer: for a journal known by its profile alone, the scale of its centroid and what is added to its
            bias (`newcomers.py`).
        imported: ids of the journals that it was not fitted to (`for_catalogue`).
    """

    catalogue_version: str
    journals: tuple[str, ...]
    columns: Mapping[str, int]
    idf: NDArray[np.float32]
    starts: NDArray[np.int64]
    posted: NDArray[np.int64]
    weights: NDArray[np.float32]
    embedding: NDArray[np.float32]
    output: NDArray[np.float32]
    bias: NDArray[np.float32]
    prior: NDArray[np.float32]
    newcomer: tuple[float, float]
    imported: frozenset[str] = frozenset()

    def vector(self, title: str, abstract: str) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The text's known terms, int64 [T], and their weights of Euclidean length one, float32 [T]."""
        counts = term_counts(title, abstract)
        known = [
            (column, count)
            for term, count in counts.items()
            if (column := self.columns.get(term)) is not None
        ]
        terms = np.array([column for column, _ in known], dtype=np.int64)
        weights = (1 + np.log(np.array([count for _, count in known], dtype=np.float32))) * self.idf[terms]
        return terms, weights / max(float(np.linalg.norm(weights)), 1e-9)

    def embed(self, terms: NDArray[np.int64], x: NDArray[np.float32]) -> NDArray[np.float32]:
        """`x E`, float32 [R], of what `vector` gave."""
        common = terms < len(self.embedding)
        return x[common] @ self.embedding[terms[common]]

    def logits(self, title: str, abstract: str) -> NDArray[np.float64]:
        """What each journal's probability is made of (see the module's text), float64 [J]."""
        return self._logits(*self.vector(title, abstract))

    def log_shares(self, terms: NDArray[np.int64], x: NDArray[np.float32]) -> NDArray[np.float32]:
        """`scores` of what `vector` gave."""
        return _log_softmax(self._logits(terms, x))

    def _logits(self, terms: NDArray[np.int64], x: NDArray[np.float32]) -> NDArray[np.float64]:
        logits = self.bias.astype(np.float64) + self.prior
        if len(terms):
            lengths = self.starts[terms + 1] - self.starts[terms]
            ends = np.cumsum(lengths)
            # Every posting of every term: each term's first place, counted on from there.
            offsets = np.repeat(self.starts[terms] - (ends - lengths), lengths)
            places = offsets + np.arange(len(offsets))
            weights = self.weights[places] * np.repeat(x, lengths)
            logits += np.bincount(self.posted[places], weights, minlength=len(self.journals))
            logits += self.output @ self.embed(terms, x)
        return logits

    def scores(self, title: str, abstract: str) -> NDArray[np.float32]:
        """Log-probabilities of the journals, float32 [J]; the prior alone if no term is known."""
        return self.log_shares(*self.vector(title, abstract))

    def score_many(self, titles: Sequence[str], abstracts: Sequence[str]) -> NDArray[np.float32]:
        """`scores` of several manuscripts, float32 [N, J]."""
        rows = [self.scores(title, abstract) for title, abstract in zip(titles, abstracts, strict=True)]
        return np.stack(rows) if rows else np.empty((0, len(self.journals)), np.float32)

    def for_catalogue(
        self, catalogue: Catalogue, newcomers: Mapping[str, Newcomer] | None = None
    ) -> FirstStage:
        """A first stage for another catalogue.

        Journals that this one knows (by id) keep what was fitted. Of `newcomers`, by id, papers have told
        (`from_papers.py`). Of any other journal, the centroid is the vector of its profile, and w, b and p
        are the mean of those of the known journals that its profile is like, weighted by their
        probabilities, were the profile a manuscript.
        """
        told = newcomers or {}
        if catalogue.version == self.catalogue_version and not told:
            return self
        old = {name: place for place, name in enumerate(self.journals) if name not in told}
        imported = {journal.id for journal in catalogue} - (set(old) - self.imported)
        moved = np.full(len(self.journals), -1)
        output = np.zeros((len(catalogue), self.output.shape[1]), np.float32)
        bias = np.zeros(len(catalogue), np.float32)
        prior = np.zeros(len(catalogue), np.float32)
        scale, constant = self.newcomer
        term_of = np.repeat(np.arange(len(self.idf)), np.diff(self.starts))
        added: list[tuple[NDArray[np.int64], int, NDArray[np.float32]]] = []
        for position, journal in enumerate(catalogue):
            if (before := old.get(journal.id)) is not None:
                moved[before] = position
                output[position] = self.output[before]
                bias[position], prior[position] = self.bias[before], self.prior[before]
            elif (new := told.get(journal.id)) is not None:
                added.append((new.terms, position, new.weights))
                output[position], bias[position] = new.output, new.bias
            else:
                terms, x = self.vector(journal.title, journal.profile)
                added.append((terms, position, x * np.float32(scale)))
                alike = np.exp(self.log_shares(terms, x))
                output[position] = alike @ self.output
                bias[position] = alike @ self.bias + constant
                prior[position] = alike @ self.prior
        kept = moved[self.posted] >= 0
        terms = np.concatenate([term_of[kept], *(t for t, _, _ in added)])
        posted = np.concatenate([moved[self.posted[kept]], *(np.full(len(t), p) for t, p, _ in added)])
        weights = np.concatenate([self.weights[kept], *(x for _, _, x in added)])
        order = np.lexsort((posted, terms))
        return replace(
            self,
            catalogue_version=catalogue.version,
            journals=tuple(journal.id for journal in catalogue),
            starts=np.searchsorted(terms[order], np.arange(len(self.idf) + 1)),
            posted=posted[order],
            weights=weights[order],
            output=output,
            bias=bias,
            prior=prior,
            imported=frozenset(imported),
        )

    def save(self, path: Path) -> None:
        """Write the artefact, weights and embeddings in 8 bits."""
        steps = np.zeros(len(self.journals), np.float32)
        np.maximum.at(steps, self.posted, self.weights)
        steps = np.where(steps > 0, steps / 255, 1).astype(np.float32)
        spread = np.maximum(np.abs(self.embedding).max(axis=0, initial=0), 1e-9) / 127
        gaps = np.diff(self.posted, prepend=0)
        first = self.starts[:-1][np.diff(self.starts) > 0]
        gaps[first] = self.posted[first]
        arrays: dict[str, Any] = {
            "format": np.array(FORMAT),
            "catalogue_version": np.array(self.catalogue_version),
            "journals": np.frombuffer("\n".join(self.journals).encode(), np.uint8),
            "terms": np.frombuffer("\n".join(self.columns).encode(), np.uint8),
            "idf": self.idf,
            "lengths": _small(np.diff(self.starts)),
            "gaps": _small(gaps),
            "weights": np.rint(self.weights / steps[self.posted]).astype(np.uint8),
            "steps": steps,
            "embedding": np.rint(self.embedding / spread).astype(np.int8),
            "spread": spread.astype(np.float32),
            "output": self.output.astype(np.float16),
            "bias": self.bias,
            "prior": self.prior,
            "newcomer": np.array(self.newcomer),
        }
        if self.imported:
            arrays["imported"] = np.frombuffer("\n".join(sorted(self.imported)).encode(), np.uint8)
        np.savez_compressed(path, **arrays)

    @classmethod
    def load(cls, path: Path) -> FirstStage:
        """Read an artefact written by `save`.

        Raises:
            CatalogueError: the file cannot be read or is not a first stage of this format.
        """
        try:
            # The file is ours to close: NumPy leaves it open where the content is no zip file it can read.
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            if str(arrays["format"]) != FORMAT:
                raise ValueError(f"its format is {str(arrays['format'])!r}, not {FORMAT!r}")
            return cls._from_arrays(arrays)
        except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise CatalogueError(f"{path} cannot be read as a first stage: {error}") from error

    @classmethod
    def _from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> FirstStage:
        starts = np.concatenate([[0], np.cumsum(arrays["lengths"], dtype=np.int64)])
        running = np.cumsum(arrays["gaps"], dtype=np.int64)
        # Gaps restart at each term: take off what had run up before it.
        before = np.concatenate([[0], running])[starts[:-1]]
        posted = running - np.repeat(before, arrays["lengths"])
        terms = arrays["terms"].tobytes().decode().split("\n")
        newcomer = arrays["newcomer"]
        imported = arrays.get("imported", np.empty(0, np.uint8))  # absent where it was fitted to all journals
        return cls(
            catalogue_version=str(arrays["catalogue_version"]),
            journals=tuple(arrays["journals"].tobytes().decode().split("\n")),
            columns={term: column for column, term in enumerate(terms)},
            idf=arrays["idf"],
            starts=starts,
            posted=posted,
            weights=arrays["weights"] * arrays["steps"][posted],
            embedding=arrays["embedding"] * arrays["spread"],
            output=arrays["output"].astype(np.float32),
            bias=arrays["bias"],
            prior=arrays["prior"],
            newcomer=(float(newcomer[0]), float(newcomer[1])),
            imported=frozenset(imported.tobytes().decode().split()),
        )

    @classmethod
    def default(cls) -> FirstStage:
        """The first stage shipped with the package, of the shipped catalogue; loaded once per process."""
        return _default()


def _log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float32]:
    shifted = logits - logits.max()
    return (shifted - np.log(np.exp(shifted).sum())).astype(np.float32)


def _small(counts: NDArray[np.int64]) -> NDArray[np.unsignedinteger]:
    """The same in the fewest bytes that hold them."""
    return counts.astype(np.min_scalar_type(int(counts.max(initial=0))))


@cache
def _default() -> FirstStage:
    return FirstStage.load(Path(str(files("xuankan") / "data" / "first_stage.npz")))
