"""One place of a ranking in a result, and the papers that speak for it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from xuankan.errors import ProtocolError
from xuankan.protocol.fields import MAX_ITEMS, Fields, shown

MAX_EVIDENCE: Final = 8
"""Papers of one place of a ranking."""
MAX_PAPER_TEXT: Final = 300
"""Characters of a paper's title, and of its link."""
EVIDENCE_PLACES: Final = 100
"""Places of a ranking that carry papers, so that a result stays far below its limit."""
_LINK = re.compile(r"https?://[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class EvidencePaper:
    """A paper of a journal that is like the manuscript.

    Attributes:
        title: at most 300 characters.
        year: when it appeared.
        link: an http or https URL, None where none is certain.
        nearness: cosine of its embedding and the manuscript's, in [-1, 1].
    """

    title: str
    year: int
    link: str | None
    nearness: float

    @classmethod
    def read(cls, item: object, path: str) -> EvidencePaper:
        """Decode what stands at `path` of a message.

        Raises:
            ProtocolError: it is no paper.
        """
        fields = _map(item, path)
        link = fields.optional_text("link", MAX_PAPER_TEXT)
        if link is not None and not is_link(link):  # it becomes a link on a page
            raise ProtocolError(f"{path}.link", f"must be an http or https URL, not {shown(link)}")
        return cls(
            title=fields.text("title", MAX_PAPER_TEXT),
            year=fields.integer("year", 0, 9999),
            link=link,
            nearness=fields.number("nearness"),
        )


@dataclass(frozen=True, slots=True)
class RankedJournal:
    """One place of a ranking.

    Attributes:
        rank: 1 is the best fit.
        journal: id in the catalogue.
        score: share of the softmax over all candidates, in [0, 1].
        logit: the fused score that the ranking is sorted by. Of a release without encoder it is
            `cross_encoder + weight * first_stage`, of others the log-probability of all parts together.
        cross_encoder: the cross-encoder's raw score; None if no row was run for this journal, as the encoder
            had shown that it would not matter.
        first_stage: the first stage's log-probability, as the request carried it.
        metadata: what the catalogue knows of the journal; unknown facts are None.
        encoder: the encoder's log-probability; None if the release has no encoder, or trained it without this
            journal.
        nearness: mean cosine of the manuscript and the journal's three nearest papers; None if the release
            has no corpus.
        evidence: the journal's papers that are nearest to the manuscript, nearest first.
    """

    rank: int
    journal: str
    score: float
    logit: float
    cross_encoder: float | None
    first_stage: float
    metadata: Mapping[str, Any]
    encoder: float | None = None
    nearness: float | None = None
    evidence: tuple[EvidencePaper, ...] = ()

    def plain(self) -> dict[str, object]:
        """As a result's map holds it."""
        values = {name: getattr(self, name) for name in self.__slots__}
        # `dataclasses.asdict` takes as long as all the rest of a result.
        evidence = [
            {"title": paper.title, "year": paper.year, "link": paper.link, "nearness": paper.nearness}
            for paper in self.evidence
        ]
        return {**values, "evidence": evidence, "metadata": dict(self.metadata)}

    @classmethod
    def read(cls, item: object, path: str) -> RankedJournal:
        """Decode what stands at `path` of a message.

        Raises:
            ProtocolError: it is no place of a ranking.
        """
        fields = _map(item, path)
        papers = enumerate(fields.items("evidence", MAX_EVIDENCE))
        return cls(
            rank=fields.integer("rank", 1, MAX_ITEMS),
            journal=fields.text("journal", 256),
            score=fields.number("score"),
            logit=fields.number("logit"),
            cross_encoder=fields.optional_number("cross_encoder"),
            first_stage=fields.number("first_stage"),
            metadata=fields.mapping("metadata"),
            encoder=fields.optional_number("encoder"),
            nearness=fields.optional_number("nearness"),
            evidence=tuple(EvidencePaper.read(paper, f"{path}.evidence[{i}]") for i, paper in papers),
        )


def is_link(text: str) -> bool:
    """Whether a paper's link may be followed: an http or https URL, not too long."""
    return len(text) <= MAX_PAPER_TEXT and _LINK.fullmatch(text) is not None


def _map(item: object, path: str) -> Fields:
    if not isinstance(item, dict):
        raise ProtocolError(path, f"must be a map, not {type(item).__name__}")
    return Fields(cast(Mapping[str, object], item), path + ".")
