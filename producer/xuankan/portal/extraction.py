"""The text of a file that an author drops, over HTTP; `extract` reads it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from xuankan.errors import XuankanError
from xuankan.portal.api_keys import Caller
from xuankan.portal.extract import MAX_FILE_BYTES, extract
from xuankan.portal.gateway import Gateway, read_body
from xuankan.portal.problems import problem_of, unavailable
from xuankan.portal.queries import FileQuery
from xuankan.portal.schemas import encode

_MAX_UPLOADS: Final = 16
"""Files that are held in memory at a time."""


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


class ExtractionBody(Struct):
    """What a file holds."""

    format: Format
    manuscripts: list[ExtractedBody]
    left_out: Annotated[int, Meta(description="Records of a list that are not in manuscripts.")]
    warnings: Annotated[Sequence[str], Meta(description="What the author should check.")]


async def extraction(gateway: Gateway, request: Request, caller: Caller, query: FileQuery) -> Response:
    """`POST /v1/extract`."""
    del caller
    if gateway.uploads >= _MAX_UPLOADS:
        raise unavailable("too many files are being read: try again in a few seconds")
    gateway.uploads += 1
    try:
        found = await extract(await read_body(request, MAX_FILE_BYTES), query.name)
    except XuankanError as error:
        raise problem_of(error) from None
    finally:
        gateway.uploads -= 1
    body = msgspec.convert(found, ExtractionBody, from_attributes=True)
    return Response(encode(body), 200, {"Cache-Control": "no-store"}, "application/json")
