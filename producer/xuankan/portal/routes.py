"""Every call of the interface: its path, its method, what it counts as, what it takes and what it answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from xuankan.portal import events, extraction, journals, rankings, service
from xuankan.portal.gateway import Gateway
from xuankan.portal.limiter import Counted
from xuankan.portal.queries import FileQuery, JournalsQuery, NoQuery, SubmitQuery, WaitQuery
from xuankan.portal.schemas import (
    FacetsBody,
    JournalBody,
    JournalsBody,
    PendingBody,
    RankingBody,
    RankingRequest,
)

Handler = Callable[[Gateway, Request, Any, Any], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Operation:
    """One call.

    Attributes:
        name: in the OpenAPI document.
        handler: answers it.
        summary: what it does, in a line.
        counted: what it counts as; None for nothing.
        open: whether it needs no API key.
        query: what its query may be.
        body: what its body is; `bytes` for a file.
        answers: status -> content: a struct, a media type, or None for nothing.
        problems: the codes of the problems that it may answer, beside those of every call.
    """

    name: str
    handler: Handler
    summary: str
    answers: Mapping[int, type[Struct] | str | None]
    counted: Counted | None = None
    open: bool = False
    query: type[Struct] = NoQuery
    body: type[Struct] | type[bytes] | None = None
    problems: tuple[str, ...] = ()


_QUEUE: Final = ("rate_limited", "unavailable")
_ENDS: Final = ("cancelled", "unusable", "ranking_failed", "incompatible", "expired")

OPERATIONS: Final[Mapping[str, Mapping[str, Operation]]] = {
    "/v1/rankings": {
        "POST": Operation(
            "submit",
            rankings.submit,
            "Rank journals for a manuscript",
            {200: RankingBody, 202: PendingBody},
            counted="ranking",
            query=SubmitQuery,
            body=RankingRequest,
            problems=(
                *("body_timeout", "too_large", "unsupported_media_type", "idempotency_conflict"),
                *("queue_full", *_QUEUE, *_ENDS),
            ),
        ),
    },
    "/v1/rankings/{id}": {
        "GET": Operation(
            "show",
            rankings.show,
            "The ranking, or its progress",
            {200: RankingBody, 202: PendingBody},
            counted="look",
            query=WaitQuery,
            problems=("not_found", *_QUEUE, *_ENDS),
        ),
        "DELETE": Operation(
            "cancel",
            rankings.cancel,
            "Cancel a manuscript's ranking",
            {204: None},
            counted="look",
            problems=("not_found", "already_ended", *_QUEUE),
        ),
    },
    "/v1/rankings/{id}/events": {
        "GET": Operation(
            "events",
            events.events,
            "The progress of a ranking, as server-sent events: queued, running, then done or problem",
            {200: "text/event-stream"},
            counted="look",
            problems=("not_found", *_QUEUE),
        ),
    },
    "/v1/journals": {
        "GET": Operation(
            "journals",
            journals.journals,
            "Journals of the catalogue",
            {200: JournalsBody},
            query=JournalsQuery,
            problems=("unusable",),
        ),
    },
    "/v1/journals/{journal}": {
        "GET": Operation(
            "journal", journals.journal, "One journal", {200: JournalBody}, problems=("not_found",)
        ),
    },
    "/v1/facets": {
        "GET": Operation("facets", journals.facets, "Values that filters can use", {200: FacetsBody}),
    },
    "/v1/extract": {
        "POST": Operation(
            "extract",
            extraction.extraction,
            "Extract titles, abstracts and keywords from a file: a paper, or a list of records",
            {200: extraction.ExtractionBody},
            counted="ranking",
            query=FileQuery,
            body=bytes,
            problems=("body_timeout", "too_large", "unusable", *_QUEUE),
        ),
    },
    "/v1/references": {
        "POST": Operation(
            "references",
            extraction.references,
            "Count the journals that a reference list cites: a bibliography, a .bbl, a pasted list, a paper",
            {200: extraction.ReferencesBody},
            counted="ranking",
            query=FileQuery,
            body=bytes,
            problems=("body_timeout", "too_large", "unusable", *_QUEUE),
        ),
    },
    "/v1/service": {
        "GET": Operation(
            "service",
            service.service,
            "What this portal is, and whether it is accepting manuscripts",
            {200: service.ServiceBody},
            open=True,
        ),
    },
}
