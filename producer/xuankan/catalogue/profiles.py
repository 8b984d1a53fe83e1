"""Profiles: what a journal publishes, told so that it differs from its nearest neighbours.

A profile reads `Title. Subjects. Terms: ... Papers: title; title; ...`, cut to a token budget with the most
telling parts first. Terms and papers are chosen by how far they lie towards the journal *and away from the
journals most like it*: generic words of a field help nobody to tell Physical Review A from B.
Needs the `data` extra.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xuankan.catalogue.sparse import Matrix, column, from_places, unit_rows
from xuankan.catalogue.terms import terms

NEIGHBOURS = 12
"""Journals that a journal is contrasted with: those of the nearest centroids."""
CONTRAST = 0.7
"""How much of the neighbours' mean weight is taken off a term's or a paper's."""
TERMS, TERMS_SHARE = 10, 0.55
"""At most so many terms, and so much of the token budget, before papers are quoted; more if room is left."""
EXAMPLES = 4
PROFILE_SUBJECTS = 3
BONUS = 0.4
"""Weight of a paper's recency and distance from the neighbours beside what it stands for."""
TITLE_TOKENS = (6, 30)
"""Shortest and longest title that is quoted: shorter ones say little, longer ones eat the budget."""


_DULL = frozenset(
    """
    according aim aims allow allowed approach article associated authors background based been case cases
    compared conclusion conclusions consider considered corresponding data describe described different
    discuss discussed due during effect effects et al existence find finding first found function given here
    high however important including increased introduce investigate investigated it known large low main
    method methods model models multi new non novel number objective obtain obtained one order over paper
    particular performed possible pre present presented problem problems proof properties propose proposed
    prove proved provide recent recently related report result results review second several show showed
    shown shows significant significantly similar small some study studied studies sub system term terms
    theorem then there they time two use used use using value values various very way ways we well when
    where while work years
    """.split()  # noqa: SIM905  # one word a line would be no easier to read
)
"""Words that may tell one journal's style from another's but tell a reader nothing."""


@dataclass(frozen=True, slots=True)
class Paper:
    """A paper that may be quoted; `row` is its place in the term matrix."""

    title: str
    year: int
    row: int


def quotable(title: str) -> bool:
    """Whether a title reads well in a profile: plain ASCII words, no formula, no reply or erratum."""
    lowered = title.lower()
    return (
        title.isascii()
        and not any(c in title for c in "$\\^_{}|;")
        and not any(
            word in lowered for word in ("comment on", "erratum", "reply to", "corrigendum", "editorial")
        )
    )


class Profiler:
    """Chooses terms and papers for every journal.

    Args:
        features: unit rows of term weights, one per paper, float [papers, terms].
        labels: each paper's journal, int [papers].
        names: the terms.
        journals: how many journals there are.
    """

    def __init__(
        self, features: Matrix, labels: NDArray[np.int64], names: Sequence[str], journals: int
    ) -> None:
        papers = features.shape[0]
        assign = from_places(np.ones(papers), labels, np.arange(papers), (journals, papers))
        self._features = features
        self._names = names
        self._members = [np.flatnonzero(labels == journal) for journal in range(journals)]
        self._centroids = unit_rows(assign @ features)
        similarity = (self._centroids @ self._centroids.T).toarray()
        np.fill_diagonal(similarity, -1.0)
        self._near = np.argsort(-similarity, axis=1)[:, : min(NEIGHBOURS, journals - 1)]

    def _contrast(self, journal: int) -> NDArray[np.float64]:
        """A weight for each term: the journal's centroid less its neighbours'."""
        own = column(self._centroids[journal].toarray())
        if not self._near.size:
            return own
        return own - CONTRAST * column(self._centroids[self._near[journal]].mean(axis=0))

    def terms(self, journal: int, exclude: str, limit: int = 3 * TERMS) -> list[str]:
        """The most telling terms, each adding papers that the others do not stand for.

        A term's weight is discounted by how far the papers that hold it are those of a term already chosen.
        Words of `exclude` (the journal's title) are passed over, as is a word of a chosen pair.
        """
        weight = self._contrast(journal)
        held = self._features[self._members[journal]] > 0
        weight[column(held.sum(axis=0)) < max(3, 0.03 * held.shape[0])] = 0
        columns = np.argsort(-weight)[: 8 * limit]
        columns = columns[weight[columns] > 0]
        together = (held[:, columns].T.astype(np.float32) @ held[:, columns].astype(np.float32)).toarray()
        size = np.diag(together)
        jaccard = together / np.maximum(size[:, None] + size[None, :] - together, 1)
        known = {_stem(word) for word in terms(exclude)}
        value = weight[columns].copy()
        chosen: list[int] = []
        while len(chosen) < limit and len(value) and (best := int(np.argmax(value))) >= 0 and value[best] > 0:
            spelled = self._names[int(columns[best])].split()
            words = {_stem(word) for word in spelled}
            if not words <= known and _DULL.isdisjoint(spelled):
                # "bose" gives way to "bose einstein": the pair says more in one word's place.
                chosen = [c for c in chosen if not {_stem(self._names[int(columns[c])])} <= words]
                chosen.append(best)
                known |= words
                value *= 1 - 0.6 * jaccard[best]
            value[best] = 0
        return [self._names[int(columns[c])] for c in chosen]

    def examples(self, journal: int, papers: Sequence[Paper], limit: int = 2 * EXAMPLES) -> list[str]:
        """Titles that together stand for what the journal publishes, the recent and the telling preferred.

        Greedy facility location: each next paper is the one nearest to the journal's papers that the chosen
        ones are far from, plus a bonus for being unlike the neighbouring journals.
        """
        if not papers:
            return []
        rows = self._features[[p.row for p in papers]]
        similarity = (rows @ self._features[self._members[journal]].T).toarray()
        contrast = rows @ self._contrast(journal)
        newest = max(p.year for p in papers)
        age = np.array([min(newest - p.year, 10) for p in papers])
        bonus = contrast / (contrast.max() + 1e-9) - age * 0.05
        covered = np.zeros(similarity.shape[1])
        scale = similarity.sum(axis=1).max()
        chosen: list[int] = []
        while len(chosen) < min(limit, len(papers)):
            gain = np.maximum(similarity - covered, 0).sum(axis=1) / scale + BONUS * bonus
            gain[chosen] = -np.inf
            chosen.append(int(np.argmax(gain)))
            covered = np.maximum(covered, similarity[chosen[-1]])
        return [papers[i].title for i in chosen]


def _stem(word: str) -> str:
    return word[:-1] if word.endswith("s") and len(word) > 3 else word


def compose(
    title: str,
    subjects: Sequence[str],
    telling: Sequence[str],
    examples: Sequence[str],
    count_tokens: Callable[[str], int],
    budget: int,
) -> tuple[str, tuple[str, ...]]:
    """The profile and the examples in it: at most `budget` tokens, cut at whole terms and titles."""
    head = f"{title}. {', '.join(subjects)}." if subjects else f"{title}."

    def text(terms_used: int, quoted: Sequence[str]) -> str:
        parts = [head]
        if terms_used:
            parts.append(f"Terms: {', '.join(telling[:terms_used])}.")
        if quoted:
            parts.append(f"Papers: {'; '.join(quoted)}.")
        return " ".join(parts)

    used = min(TERMS, len(telling))
    while used and count_tokens(text(used, ())) > budget * TERMS_SHARE:
        used -= 1
    fitted: list[str] = []
    for example in examples:
        if len(fitted) < EXAMPLES and count_tokens(text(used, (*fitted, example))) <= budget:
            fitted.append(example)
    while used < len(telling) and count_tokens(text(used + 1, fitted)) <= budget:
        used += 1
    return text(used, fitted), tuple(fitted)
