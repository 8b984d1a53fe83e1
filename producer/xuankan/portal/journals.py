"""Calls about the catalogue: its journals, and the values that filters can use. They do not ask the queue."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from xuankan.candidates import Filters
from xuankan.catalogue import Catalogue, Journal
from xuankan.catalogue.model import fold
from xuankan.errors import XuankanError
from xuankan.portal.api_keys import Caller
from xuankan.portal.gateway import Gateway
from xuankan.portal.problems import CallProblem, problem_of
from xuankan.portal.queries import JournalsQuery
from xuankan.portal.schemas import (
    FacetBody,
    FacetsBody,
    JournalsBody,
    encode,
    journal_body,
)

_KEPT: Final = {"Cache-Control": "private, max-age=60"}


async def journals(gateway: Gateway, request: Request, caller: Caller, query: JournalsQuery) -> Response:
    """`GET /v1/journals`."""
    del request, caller
    try:
        filters = query.filters()
    except XuankanError as error:
        raise problem_of(error) from None
    found = await asyncio.to_thread(_find, gateway.catalogue, query.q, filters)
    page = [journal_body(journal) for journal in found[query.offset : query.offset + query.limit]]
    return _json(JournalsBody(len(found), gateway.catalogue.version, page))


def _find(catalogue: Catalogue, text: str, filters: Filters) -> Sequence[Journal]:
    """Journals that pass the filters and have every word: exact titles first, then the shortest."""
    found: Sequence[Journal] = catalogue.journals
    if key := fold(text):
        named = [(fold(one.title), fold(one.id), one) for one in found]
        exact = [one for *names, one in named if key in (*names, *map(fold, one.issns))]
        words = [one for *names, one in named if all(word in " ".join(names) for word in key.split())]
        found = tuple(dict.fromkeys((*exact, *sorted(words, key=lambda one: len(one.title)))))
    if filters:
        found = [one for one in found if filters.admits(one) is True]
    return found


async def journal(gateway: Gateway, request: Request, caller: Caller, query: object) -> Response:
    """`GET /v1/journals/{journal}`."""
    del caller, query
    try:
        found = gateway.catalogue[gateway.catalogue.index(request.path_params["journal"])]
    except XuankanError as error:
        raise CallProblem("not_found", str(error).removeprefix("journal: "), "journal") from None
    return _json(journal_body(found))


async def facets(gateway: Gateway, request: Request, caller: Caller, query: object) -> Response:
    """`GET /v1/facets`."""
    del request, caller, query
    catalogue = gateway.catalogue
    return _json(
        FacetsBody(
            catalogue=catalogue.version,
            journals=len(catalogue),
            publishers=_counted(journal.publisher for journal in catalogue),
            subjects=_counted(subject for journal in catalogue for subject in journal.subjects),
            languages=_counted(language for journal in catalogue for language in journal.languages),
            open_access=_counted(journal.open_access for journal in catalogue),
        )
    )


def _json(body: object) -> Response:
    return Response(encode(body), 200, _KEPT, "application/json")


def _counted(values: Iterable[str | None]) -> list[FacetBody]:
    """The values that there are, the commonest first."""
    counts = Counter(value for value in values if value)
    return [FacetBody(*both) for both in sorted(counts.items(), key=lambda both: (-both[1], both[0]))]
