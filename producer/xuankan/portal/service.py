"""The state of the service, for whoever integrates with it. It asks the queue, and answers without it too."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from xuankan.documents.kinds import KINDS
from xuankan.errors import ServerUnavailable
from xuankan.portal.api_keys import Caller
from xuankan.portal.extract import MAX_FILE_BYTES
from xuankan.portal.gateway import Gateway
from xuankan.portal.problems import CallProblem, problem_of
from xuankan.portal.schemas import encode


class ServiceBody(Struct):
    """What this portal is, and whether it is accepting manuscripts."""

    version: str
    catalogue: str
    journals: int
    key_required: bool
    accepting: bool
    expected_wait_s: float | None
    message: Annotated[str, Meta(description="Why it accepts none; empty if it does.")]
    extract: Annotated[Sequence[str], Meta(description="Kinds of files that /v1/extract reads.")]
    max_file_bytes: int


async def service(gateway: Gateway, request: Request, caller: Caller | None, query: object) -> Response:
    """`GET /v1/service`."""
    del request, caller, query
    wait_s, message = None, ""
    try:
        pressure = await gateway.producer.pressure("interactive")
        wait_s = pressure.expected_wait_s
        if pressure.reason is not None:
            message = problem_of(pressure.refusal()).detail
    except CallProblem as problem:
        message = problem.detail
    except ServerUnavailable as error:
        message = problem_of(error).detail
    body = ServiceBody(
        version=version("xuankan"),
        catalogue=gateway.catalogue.version,
        journals=len(gateway.catalogue),
        key_required=gateway.key_ring.key_required,
        accepting=not message,
        expected_wait_s=None if wait_s is None else round(wait_s, 1),
        message=message,
        extract=tuple(KINDS),
        max_file_bytes=MAX_FILE_BYTES,
    )
    return Response(encode(body), 200, {"Cache-Control": "no-store"}, "application/json")
