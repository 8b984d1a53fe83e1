"""Server-sent events: how a ranking comes along, until it is there.

Workers do not tell how many rows of one request they have scored; so there are two steps, `queued` with the
wait to expect and `running`, and the end, `done` or `problem`. Each event is a whole state, so that whoever
connects again has missed nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from xuankan.client.requests import RequestStatus
from xuankan.errors import XuankanError
from xuankan.portal.api_keys import Caller
from xuankan.portal.gateway import Gateway, whose
from xuankan.portal.problems import CallProblem, problem_of
from xuankan.portal.rankings import expected_wait_s, pending_body
from xuankan.portal.schemas import encode, ranking_body
from xuankan.portal.watch import Followed
from xuankan.protocol.scripts import Kept

_KEEP_ALIVE_S: Final = 15.0
_LONGEST_S: Final = 600.0
_FREE_STREAMS: Final = 16
"""Of one address without a key: a browser needs one for each tab."""


async def events(gateway: Gateway, request: Request, caller: Caller, query: object) -> Response:
    """`GET /v1/rankings/{id}/events`."""
    del query
    request_id = gateway.owned(caller, request.path_params["id"])
    if (status := await gateway.producer.status(request_id)).state == "unknown":
        raise CallProblem("not_found", "no such ranking is queued or kept", "id", request_id)
    name, each = whose(request, caller), _FREE_STREAMS if caller.anonymous else None
    if not gateway.streams.take(name, each=each):
        raise _too_many(request_id)
    gateway.streams.give_back(name)  # the stream takes it: who hangs up before it begins has none
    return StreamingResponse(
        _stream(gateway, request_id, name, each, status),
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        media_type="text/event-stream",
    )


async def _stream(
    gateway: Gateway, request_id: str, name: str, each: int | None, status: RequestStatus
) -> AsyncGenerator[bytes]:
    if not gateway.streams.take(name, each=each):
        yield _event("problem", encode(_too_many(request_id).body()))
        return
    gateway.metrics.streams.set(gateway.streams.used)
    try:
        with gateway.watch.following(request_id) as followed, gateway.producer.replied(request_id) as reply:
            followed.see(status, await expected_wait_s(gateway, status))
            async for event in _pending(gateway, request_id, followed, reply):
                yield event
        if not gateway.draining.is_set() or reply.done():
            ranking = await gateway.producer.result(request_id, 0)
            yield _event("done", encode(ranking_body(ranking, gateway.catalogue)))
    except TimeoutError:
        return  # whoever still wants it connects again
    except XuankanError as error:
        yield _event("problem", encode(problem_of(error, request_id).body()))
    except CallProblem as problem:
        yield _event("problem", encode(problem.body()))
    finally:
        gateway.streams.give_back(name)
        gateway.metrics.streams.set(gateway.streams.used)


async def _pending(
    gateway: Gateway, request_id: str, followed: Followed, reply: asyncio.Future[Kept]
) -> AsyncGenerator[bytes]:
    """States until the request has ended or the portal ends."""
    loop = asyncio.get_running_loop()
    until_s = loop.time() + _LONGEST_S
    told_s = loop.time()
    draining = asyncio.create_task(gateway.draining.wait())
    try:
        while not reply.done() and not draining.done() and loop.time() < until_s:
            changed = asyncio.create_task(followed.changed.wait())
            ends = {changed, draining, reply}
            await asyncio.wait(ends, timeout=_KEEP_ALIVE_S, return_when=asyncio.FIRST_COMPLETED)
            told = changed.done()
            changed.cancel()
            followed.changed.clear()
            status = followed.status
            if status is not None and status.state not in ("queued", "running"):
                return
            if told and status is not None and not reply.done():
                yield _event(status.state, encode(pending_body(request_id, status, followed.wait_s)))
                told_s = loop.time()
            elif loop.time() - told_s >= _KEEP_ALIVE_S:
                yield b": keep-alive\n\n"
                told_s = loop.time()
    finally:
        draining.cancel()


def _too_many(request_id: str) -> CallProblem:
    detail = f"too many event streams are open: poll GET /v1/rankings/{request_id}?wait_s=60"
    return CallProblem("unavailable", detail, None, request_id, {"Retry-After": "10"})


def _event(name: str, data: bytes) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), data)
