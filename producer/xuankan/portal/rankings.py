"""Submitting a manuscript, waiting for its ranking, looking at it again, and taking it back."""

from __future__ import annotations

import asyncio
import re
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from xuankan.client.rankings import Ranking
from xuankan.client.requests import RequestStatus
from xuankan.errors import RequestCancelled, ResultUnknown, WaitTimeout, XuankanError
from xuankan.portal.api_keys import Caller
from xuankan.portal.gateway import GONE, MAX_JSON_BYTES, Gateway, hung_up
from xuankan.portal.problems import CallProblem, malformed, problem_of, unavailable
from xuankan.portal.queries import SubmitQuery, WaitQuery
from xuankan.portal.schemas import (
    LinksBody,
    PendingBody,
    RankingRequest,
    encode,
    ranking_body,
)

_KEY: Final = re.compile("[!#-~]{1,255}")


async def submit(gateway: Gateway, request: Request, caller: Caller, query: SubmitQuery) -> Response:
    """`POST /v1/rankings`."""
    started_s = asyncio.get_running_loop().time()
    try:
        response = await _submit(gateway, request, caller, query.wait_s)
    except CallProblem as problem:
        gateway.metrics.rankings.labels(problem.code).inc()
        raise
    if response.status_code == 200:
        gateway.metrics.ranking_seconds.observe(asyncio.get_running_loop().time() - started_s)
    outcome = {200: "done", 202: "pending"}.get(response.status_code, "abandoned")
    gateway.metrics.rankings.labels(outcome).inc()
    return response


async def _submit(gateway: Gateway, request: Request, caller: Caller, wait_s: float) -> Response:
    _check_json(request)
    request_id = gateway.request_id(caller, idempotency_key := _idempotency_key(request))
    try:
        async with gateway.body(request, caller, MAX_JSON_BYTES) as body:
            asked = RankingRequest.decode(body)
    except msgspec.ValidationError as error:
        raise malformed(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise CallProblem("malformed", "the body is not JSON in UTF-8") from None
    if asked.scored > 100:
        await gateway.charge(request, caller, "ranking", asked.scored / 100 - 1)
    try:
        ticket = await gateway.producer.submit(asked.manuscript(), asked.options(), request_id=request_id)
    except XuankanError as error:
        raise problem_of(error) from None
    headers = {"Location": f"/v1/rankings/{request_id}"}
    if not ticket.new and idempotency_key is not None:
        headers["Idempotent-Replayed"] = "true"
    try:
        response = await _answer(gateway, request, request_id, wait_s, ticket.warnings)
    except CallProblem as problem:
        if problem.code == "not_found":  # it was there a moment ago
            lost = "the queue has lost the manuscript (a restart without its data?): submit it again"
            raise unavailable(lost, request_id) from None
        raise
    if response.status_code == GONE and idempotency_key is None:
        await gateway.producer.cancel(request_id)  # nobody knows its id
    response.headers.update(headers)
    return response


async def show(gateway: Gateway, request: Request, caller: Caller, query: WaitQuery) -> Response:
    """`GET /v1/rankings/{id}`."""
    request_id = gateway.owned(caller, request.path_params["id"])
    return await _answer(gateway, request, request_id, query.wait_s, ())


async def cancel(gateway: Gateway, request: Request, caller: Caller, query: object) -> Response:
    """`DELETE /v1/rankings/{id}`."""
    del query
    request_id = gateway.owned(caller, request.path_params["id"])
    producer = gateway.producer
    try:
        state = await producer.cancel(request_id)
        if state == "unknown":
            raise ResultUnknown
        if state == "finished":
            await _refuse_if_ended_otherwise(gateway, request_id)
    except XuankanError as error:
        raise problem_of(error, request_id) from None
    return Response(status_code=204)


async def _refuse_if_ended_otherwise(gateway: Gateway, request_id: str) -> None:
    try:
        await gateway.producer.result(request_id, 0)
    except RequestCancelled:
        return
    except XuankanError as error:
        code = problem_of(error).code
    else:
        code = "done"
    raise CallProblem("already_ended", f"it has already ended: {code}", None, request_id)


async def _answer(
    gateway: Gateway, request: Request, request_id: str, wait_s: float, warnings: tuple[str, ...]
) -> Response:
    """The ranking, or its progress after `wait_s`."""
    try:
        try:
            ranking = await _wait(gateway, request, request_id, wait_s)
        except WaitTimeout:
            status = await gateway.producer.status(request_id)
            if status.state in ("queued", "running"):
                return await _pending(gateway, request_id, status, warnings)
            ranking = await _wait(gateway, request, request_id, 0)  # it ended just now
    except XuankanError as error:
        raise problem_of(error, request_id) from None
    if ranking is None:
        return Response(status_code=GONE)
    body = encode(ranking_body(ranking, gateway.catalogue))
    return Response(body, 200, {"Cache-Control": "no-store"}, "application/json")


async def _wait(gateway: Gateway, request: Request, request_id: str, wait_s: float) -> Ranking | None:
    """The ranking; None if the caller went away. A portal that drains waits no longer.

    Raises:
        WaitTimeout: it is not there.
        XuankanError: as of `Producer.result`.
    """
    producer = gateway.producer
    if not wait_s or gateway.draining.is_set():
        return await producer.result(request_id, 0)
    result = asyncio.create_task(producer.result(request_id, wait_s))
    others = [asyncio.create_task(hung_up(request)), asyncio.create_task(gateway.draining.wait())]
    try:
        with gateway.metrics.waiting.track_inprogress():
            await asyncio.wait([result, *others], return_when=asyncio.FIRST_COMPLETED)
        if result.done():
            return result.result()
        if others[0].done():
            return None
        raise WaitTimeout(f"request {request_id} has no ranking yet, and the portal is shutting down")
    finally:
        for task in (result, *others):
            task.cancel()
        await asyncio.gather(result, *others, return_exceptions=True)


async def _pending(
    gateway: Gateway, request_id: str, status: RequestStatus, warnings: tuple[str, ...]
) -> Response:
    """How far a request is."""
    body = pending_body(request_id, status, await expected_wait_s(gateway, status), warnings)
    headers = {"Cache-Control": "no-store", "Retry-After": "1", "Location": body.links.self}
    return Response(encode(body), 202, headers, "application/json")


async def expected_wait_s(gateway: Gateway, status: RequestStatus) -> float | None:
    """How long it takes at most until a worker has a request; None if that is not known."""
    if status.state != "queued" or status.lane is None:
        return 0.0
    return (await gateway.producer.pressure(status.lane)).expected_wait_s


def pending_body(
    request_id: str, status: RequestStatus, wait_s: float | None, warnings: tuple[str, ...] = ()
) -> PendingBody:
    """How far a request is that has not ended; `wait_s` is the longest until a worker has it."""
    assert status.lane is not None
    here = f"/v1/rankings/{request_id}"
    return PendingBody(
        id=request_id,
        status="queued" if status.state == "queued" else "running",
        lane=status.lane,
        expected_wait_s=None if wait_s is None else round(wait_s, 1),
        warnings=warnings,
        links=LinksBody(here, f"{here}/events"),
    )


def _check_json(request: Request) -> None:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        detail = f"the content type is {kind or 'nothing'!r}: send Content-Type: application/json"
        raise CallProblem("unsupported_media_type", detail, "Content-Type")


def _idempotency_key(request: Request) -> str | None:
    """As draft-ietf-httpapi-idempotency-key-header has it, a quoted string; without quotes too."""
    if (given := request.headers.get("idempotency-key")) is None:
        return None
    key = given.strip().removeprefix('"').removesuffix('"')
    if not _KEY.fullmatch(key):
        detail = "must be 1 to 255 visible ASCII characters other than the quotation mark"
        raise CallProblem("malformed", detail, "Idempotency-Key")
    return key
