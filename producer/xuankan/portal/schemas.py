"""The content of calls and answers: by it calls are checked, and from it the OpenAPI document is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Final, Literal, cast

import msgspec
from msgspec import Meta, Struct

from xuankan.candidates import Filters
from xuankan.catalogue import Catalogue, Journal
from xuankan.client.options import RankingOptions
from xuankan.client.rankings import Ranking
from xuankan.manuscript import MAX_CHARACTERS, MAX_CITED, Manuscript
from xuankan.portal.problems import CallProblem
from xuankan.protocol.keys import Lane
from xuankan.protocol.ranked import RankedJournal

_MAX_CANDIDATES: Final = 1000
"""As workers score at most."""

_Text = Annotated[str, Meta(max_length=MAX_CHARACTERS)]
_Word = Annotated[str, Meta(min_length=1, max_length=200)]
_Language = Annotated[str, Meta(pattern="^[A-Za-z]{2}$", description="An ISO 639-1 code, such as en.")]
_Words = Annotated[list[_Word], Meta(max_length=100)]
_Languages = Annotated[list[_Language], Meta(max_length=100)]
Price = Annotated[float, Meta(ge=0, le=1_000_000)]
# A filter is the same in a body and in a query, but for null, which a query cannot say.
ACCESS: Final = Meta(description="true: gold or diamond only; false: the others only.")
CHARGE: Final = Meta(description="Open-access publication costs at most this many US dollars.")
InLanguages = Annotated[_Languages, Meta(description="The journal publishes in one of these.")]
OfPublishers = Annotated[_Words, Meta(description="The publisher's name contains one of these.")]
OnSubjects = Annotated[_Words, Meta(description="One of the journal's subjects contains one of these.")]


class FiltersBody(Struct, forbid_unknown_fields=True):
    """What a journal must be to be scored. A journal of which the fact is not known does not pass."""

    open_access: Annotated[bool | None, ACCESS] = None
    max_apc_usd: Annotated[Price | None, CHARGE] = None
    languages: InLanguages = []
    publishers: OfPublishers = []
    subjects: OnSubjects = []

    def filters(self) -> Filters:
        """The same for a producer.

        Raises:
            FilterError: a text without a letter or digit.
        """
        return Filters(
            self.open_access,
            self.max_apc_usd,
            tuple(self.languages),
            tuple(self.publishers),
            tuple(self.subjects),
        )


class RankingRequest(Struct, forbid_unknown_fields=True):
    """A manuscript, and how to rank journals for it. A title or an abstract is needed, both are better."""

    title: _Text | None = None
    abstract: _Text | None = None
    keywords: Annotated[list[_Text], Meta(max_length=100)] | None = None
    cited: Annotated[
        Mapping[_Word, Annotated[int, Meta(ge=0, le=MAX_CITED)]] | None,
        Meta(
            description="Journal id -> how many of the manuscript's references are to it, as /v1/extract and "
            "/v1/references count them. It changes no score; the ranking repeats it. null: not known."
        ),
    ] = None
    top_k: Annotated[
        int, Meta(ge=1, le=_MAX_CANDIDATES, description="How many journals to return at most.")
    ] = 10
    candidates: Annotated[
        Annotated[int, Meta(ge=1, le=_MAX_CANDIDATES)] | None,
        Meta(description="How many journals the model scores; the first stage picks them. 100 if not given."),
    ] = None
    journals: Annotated[
        Annotated[list[_Word], Meta(min_length=1, max_length=_MAX_CANDIDATES)] | None,
        Meta(description="Ids of the journals to score, instead of candidates."),
    ] = None
    filters: FiltersBody | None = None
    lane: Annotated[Lane, Meta(description="bulk lets others go first.")] = "interactive"
    deadline_s: Annotated[
        Annotated[float, Meta(ge=0.1, le=604_800)] | None,
        Meta(description="Seconds after which the ranking is no longer of use."),
    ] = None

    @classmethod
    def decode(cls, body: bytes) -> RankingRequest:
        """Read a body.

        Raises:
            msgspec.DecodeError, UnicodeDecodeError, RecursionError: it is no JSON.
            msgspec.ValidationError: it is something else.
        """
        values: Any = msgspec.json.decode(body)
        if isinstance(values, dict):
            named = cast(dict[str, Any], values)
            _make_whole(named, ("top_k", "candidates"))
            if isinstance(cited := named.get("cited"), dict):
                counts = cast(dict[str, Any], cited)
                _make_whole(counts, tuple(counts))
        return msgspec.convert(cast(Any, values), cls)

    def manuscript(self) -> Manuscript:
        """The manuscript.

        Raises:
            ManuscriptError: it cannot be ranked.
        """
        texts = {"title": self.title, "abstract": self.abstract, "keywords": self.keywords}
        return replace(Manuscript.from_mapping(texts), cited=self.cited)

    def options(self) -> RankingOptions:
        """How to rank it.

        Raises:
            FilterError: a text without a letter or digit.
            CallProblem: two choices that exclude each other.
        """
        if self.journals is not None and self.candidates is not None:
            raise CallProblem(
                "unusable", "journals and candidates cannot be combined: give one", "candidates"
            )
        return RankingOptions(
            top_k=self.top_k,
            candidates=self.journals or self.candidates or 100,
            filters=None if self.filters is None else self.filters.filters(),
            lane=self.lane,
            deadline_s=self.deadline_s,
            on_full="raise",
        )

    @property
    def scored(self) -> int:
        """How many journals are scored at most."""
        return len(self.journals) if self.journals is not None else self.candidates or 100


def _make_whole(values: dict[str, Any], names: Sequence[str]) -> None:
    """Whole numbers as PHP and R write them, 7.0; JSON Schema counts them as integers too."""
    for name in names:
        if isinstance(value := values.get(name), float) and value.is_integer():
            values[name] = int(value)


class JournalBody(Struct):
    """A journal. What is not known is null or an empty list, never a guess."""

    id: str
    title: str
    publisher: str | None
    issns: Sequence[str]
    country: str | None
    homepage: str | None
    open_access: Literal["diamond", "gold", "hybrid", "subscription"] | None
    apc_usd: Annotated[
        float | None, Meta(description="List price of open-access publication, in US dollars.")
    ]
    languages: Sequence[str]
    licence: str | None
    subjects: Annotated[Sequence[str], Meta(description="What its papers are about, most common first.")]
    sjr: float | None
    quartile: str | None
    sources: Annotated[Sequence[str], Meta(description="Where the facts come from.")]
    examples: Annotated[
        Sequence[str], Meta(description="Titles of real papers in it, from which the model knows it.")
    ]


class PaperBody(Struct):
    """A paper of a journal."""

    title: str
    year: int
    link: Annotated[str | None, Meta(description="An http or https URL; null where none is certain.")]
    nearness: Annotated[float, Meta(description="Cosine to the manuscript, -1 to 1.")]


class PlaceBody(Struct):
    """A journal's place in a ranking."""

    rank: Annotated[int, Meta(ge=1)]
    score: Annotated[
        float, Meta(ge=0, le=1, description="Its share of the softmax over all scored journals.")
    ]
    logit: Annotated[float, Meta(description="What the ranking is sorted by.")]
    cross_encoder: Annotated[
        float | None, Meta(description="null if a cheaper step had shown that this score would not matter.")
    ]
    first_stage: float
    encoder: Annotated[
        float | None, Meta(description="null if the release has no encoder, or one without this journal.")
    ]
    nearness: Annotated[
        float | None,
        Meta(description="Mean cosine to its three nearest papers; null if the release has no papers."),
    ]
    evidence: Annotated[
        list[PaperBody], Meta(description="Its papers that are most like the manuscript, the nearest first.")
    ]
    cited: Annotated[
        Annotated[int, Meta(ge=0)] | None,
        Meta(description="How many of the manuscript's references are to it; null if they are not known."),
    ]
    journal: JournalBody


class TimingsBody(Struct):
    """Where the time went, in milliseconds; the parts follow each other."""

    queue: float
    batch: float
    engine: float
    rank: float
    commit: float


class RankingBody(Struct):
    """The journals that fit a manuscript, best first."""

    id: str
    status: Literal["done"]
    journals: list[PlaceBody]
    scored: Annotated[int, Meta(description="How many journals were ranked.")]
    rows: Annotated[int, Meta(description="How many of them the cross-encoder read with the manuscript.")]
    fit: Annotated[
        Annotated[float, Meta(ge=0, le=1)] | None,
        Meta(description="How probable it is that the catalogue covers the manuscript's field."),
    ]
    few_fit: Annotated[bool, Meta(description="Whether few journals here fit, whatever their order.")]
    release: Annotated[str, Meta(description="The model release that scored all of them.")]
    catalogue: Annotated[str, Meta(description="The version of the catalogue.")]
    warnings: Annotated[Sequence[str], Meta(description="What may make the ranking less reliable.")]
    timings_ms: TimingsBody


class LinksBody(Struct):
    """Where to look."""

    self: str
    events: str


class PendingBody(Struct):
    """A ranking that is not there yet."""

    id: str
    status: Literal["queued", "running"]
    lane: Lane
    expected_wait_s: Annotated[
        float | None, Meta(description="At most this long until a worker starts on it; null if unknown.")
    ]
    warnings: Sequence[str]
    links: LinksBody


class JournalsBody(Struct):
    """Journals of the catalogue."""

    total: Annotated[int, Meta(description="How many match, on all pages.")]
    catalogue: str
    journals: list[JournalBody]


class FacetBody(Struct):
    """A value that a filter can take, and how many journals have it."""

    value: str
    journals: int


class FacetsBody(Struct):
    """Values that filters can use, the commonest first."""

    catalogue: str
    journals: int
    publishers: list[FacetBody]
    subjects: list[FacetBody]
    languages: list[FacetBody]
    open_access: list[FacetBody]


def journal_body(journal: Journal) -> JournalBody:
    """A journal of the catalogue."""
    return JournalBody(**journal.metadata(), examples=journal.examples)


def ranking_body(ranking: Ranking, catalogue: Catalogue) -> RankingBody:
    """A ranking, with what the catalogue quotes of each journal's papers."""
    spent = ranking.timings
    return RankingBody(
        id=ranking.request_id,
        status="done",
        journals=[_place(place, catalogue) for place in ranking],
        scored=ranking.scored,
        rows=ranking.rows,
        fit=ranking.fit,
        few_fit=ranking.few_fit,
        release=ranking.release,
        catalogue=ranking.catalogue,
        warnings=ranking.warnings,
        timings_ms=TimingsBody(
            spent.queue_ms, spent.batch_ms, spent.engine_ms, spent.rank_ms, spent.commit_ms
        ),
    )


def _place(place: RankedJournal, catalogue: Catalogue) -> PlaceBody:
    # Facts are the worker's, whose catalogue is of the same version unless the portal was restarted since.
    known = catalogue[catalogue.index(place.journal)] if place.journal in catalogue else None
    facts: Mapping[str, Any] = {name: place.metadata.get(name) for name in _FACTS}
    return PlaceBody(
        rank=place.rank,
        score=place.score,
        logit=place.logit,
        cross_encoder=place.cross_encoder,
        first_stage=place.first_stage,
        encoder=place.encoder,
        nearness=place.nearness,
        evidence=[PaperBody(paper.title, paper.year, paper.link, paper.nearness) for paper in place.evidence],
        cited=place.metadata.get("cited"),
        journal=JournalBody(**facts, examples=known.examples if known else ()),
    )


_FACTS: Final = tuple(name for name in JournalBody.__struct_fields__ if name != "examples")


def encode(body: object) -> bytes:
    """Print JSON."""
    return msgspec.json.encode(body)
