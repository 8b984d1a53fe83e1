"""The text of a file that an author drops, over HTTP; `extract` reads it."""

from __future__ import annotations

from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from xuankan.errors import XuankanError
from xuankan.portal.api_keys import Caller
from xuankan.portal.extract import MAX_FILE_BYTES, extract
from xuankan.portal.gateway import Gateway, read_body
from xuankan.portal.problems import problem_of, unavailable
from xuankan.portal.queries import FileQuery
from xuankan.portal.schemas import ExtractionBody, encode

_MAX_UPLOADS: Final = 16
"""Files that are held in memory at a time."""


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
