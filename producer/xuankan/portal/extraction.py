"""The text of a file that an author drops, over HTTP; `extract` reads it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from xuankan.catalogue import Catalogue
from xuankan.errors import XuankanError
from xuankan.portal.api_keys import Caller
from xuankan.portal.extract import MAX_FILE_BYTES, extract, extract_references
from xuankan.portal.gateway import FILES_EACH, GONE, Gateway, hung_up, whose
from xuankan.portal.problems import problem_of, unavailable
from xuankan.portal.queries import FileQuery
from xuankan.portal.schemas import encode

_TURN_S: Final = 30.0
"""How long a file waits to be read before its caller is told to come again."""
_LAST_S: Final = 6.0
"""How long a portal that drains goes on reading; less than it lets calls live."""
Extractor = Callable[[bytes, str, Catalogue], Coroutine[Any, Any, object]]


# The names of `documents.kinds`, in its order; a test compares them.
Format = Literal[
    "bibtex",
    "ris",
    "nbib",
    "isi",
    "enw",
    "csv",
    "jsonl",
    "json",
    "parquet",
    "xlsx",
    "endnote-xml",
    "pubmed-xml",
    "jats",
    "latex",
    "zip",
    "docx",
    "odt",
    "pdf",
    "markdown",
    "text",
]


class ExtractedBody(Struct):
    """A manuscript; title or abstract may be empty."""

    title: str
    abstract: str
    keywords: Sequence[str]
    references: Annotated[int, Meta(description="How many works it lists.")]
    cited: Annotated[
        Mapping[str, int] | None,
        Meta(
            description="Journal id -> how many of them are to it, for /v1/rankings; null if it lists none."
        ),
    ]


class ExtractionBody(Struct):
    """What a file holds."""

    format: Format
    manuscripts: list[ExtractedBody]
    left_out: Annotated[int, Meta(description="Records of a list that are not in manuscripts.")]
    warnings: Annotated[Sequence[str], Meta(description="What the author should check.")]


class ReferencesBody(Struct):
    """A file as a manuscript's reference list."""

    references: Annotated[int, Meta(description="How many works it lists.")]
    cited: Annotated[
        Mapping[str, int], Meta(description="Journal id -> how many of them are to it, for /v1/rankings.")
    ]
    warnings: Annotated[Sequence[str], Meta(description="What the author should check.")]


async def extraction(gateway: Gateway, request: Request, caller: Caller, query: FileQuery) -> Response:
    """`POST /v1/extract`."""
    return await _extracted(gateway, request, caller, query.name, extract, ExtractionBody)


async def references(gateway: Gateway, request: Request, caller: Caller, query: FileQuery) -> Response:
    """`POST /v1/references`."""
    return await _extracted(gateway, request, caller, query.name, extract_references, ReferencesBody)


async def _extracted(
    gateway: Gateway,
    request: Request,
    caller: Caller,
    file_name: str,
    extractor: Extractor,
    body: type[Struct],
) -> Response:
    name = whose(request, caller)
    if not gateway.files.take(name):
        raise unavailable(f"{FILES_EACH} of your files are being read: send the next one when one is done")
    try:
        async with gateway.body(request, caller, MAX_FILE_BYTES) as data:
            reading = partial(extractor, data, file_name, gateway.catalogue)
            found = await _unless_gone(gateway, request, _read(gateway, name, reading, len(data)))
    except XuankanError as error:
        raise problem_of(error) from None
    finally:
        gateway.files.give_back(name)
    if found is None:
        return Response(status_code=GONE)
    answer = encode(msgspec.convert(found, body, from_attributes=True))
    return Response(answer, 200, {"Cache-Control": "no-store"}, "application/json")


async def _read(
    gateway: Gateway, whose_file: str, reads: Callable[[], Coroutine[Any, Any, object]], size_bytes: int
) -> object:
    """Read a file when it is its turn."""
    try:
        async with asyncio.timeout(_TURN_S) as patience, gateway.reading.taken(whose_file, size_bytes):
            patience.reschedule(None)
            return await reads()
    except TimeoutError:
        raise unavailable("too many files are being read: try again in a few seconds") from None


async def _unless_gone(
    gateway: Gateway, request: Request, reading: Coroutine[Any, Any, object]
) -> object | None:
    """What was read; None if the caller went away meanwhile, and then nothing reads any more.

    Raises:
        CallProblem: the portal drains, and it takes too long.
        InputError: as of `extract`.
    """
    work = asyncio.create_task(reading)
    gone = asyncio.create_task(hung_up(request))
    draining = asyncio.create_task(gateway.draining.wait())
    try:
        await asyncio.wait((work, gone, draining), return_when=asyncio.FIRST_COMPLETED)
        if not work.done() and not gone.done():
            await asyncio.wait((work, gone), timeout=_LAST_S, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            return work.result()
        if gone.done():
            return None
        raise unavailable("the portal is shutting down: try again in a few seconds")
    finally:
        for task in (work, gone, draining):
            task.cancel()
        await asyncio.gather(work, gone, draining, return_exceptions=True)
