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

from xuankan.errors import XuankanError
from xuankan.portal.api_keys import Caller
from xuankan.portal.gateway import Gateway
from xuankan.portal.problems import CallProblem, problem_of
from xuankan.portal.rankings import pending_body
from xuankan.portal.schemas import PendingBody, encode, ranking_body

_LOOK_S: Final = (0.2, 0.5, 1.0)
"""Between looks; the last stays. The end itself is told at once."""
_KEEP_ALIVE_S: Final = 15.0
_LONGEST_S: Final = 600.0
_MAX_STREAMS: Final = 1000


async def events(gateway: Gateway, request: Request, caller: Caller, query: object) -> Response:
    """`GET /v1/rankings/{id}/events`."""
    del query
    request_id = gateway.owned(caller, request.path_params["id"])
    if (await gateway.producer.status(request_id)).state == "unknown":
        raise CallProblem("not_found", "no such ranking is queued or kept", "id", request_id)
    if gateway.streams >= _MAX_STREAMS:
        detail = f"{_MAX_STREAMS:,} event streams are open: poll GET /v1/rankings/{request_id}?wait_s=60"
        raise CallProblem("unavailable", detail, headers={"Retry-After": "10"})
    return StreamingResponse(
        _stream(gateway, request_id),
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        media_type="text/event-stream",
    )


async def _stream(gateway: Gateway, request_id: str) -> AsyncGenerator[bytes]:
    gateway.streams += 1
    gateway.metrics.streams.set(gateway.streams)
    result = asyncio.create_task(gateway.producer.result(request_id, _LONGEST_S))
    draining = asyncio.create_task(gateway.draining.wait())
    try:
        async for event in _pending(gateway, request_id, result, draining):
            yield event
        if result.done():
            yield _event("done", encode(ranking_body(result.result(), gateway.catalogue)))
    except TimeoutError:
        return  # whoever still wants it connects again
    except XuankanError as error:
        yield _event("problem", encode(problem_of(error, request_id).body()))
    except CallProblem as problem:
        yield _event("problem", encode(problem.body()))
    finally:
        gateway.streams -= 1
        gateway.metrics.streams.set(gateway.streams)
        for task in (result, draining):
            task.cancel()
        await asyncio.gather(result, draining, return_exceptions=True)


async def _pending(
    gateway: Gateway, request_id: str, result: asyncio.Task[object], draining: asyncio.Task[object]
) -> AsyncGenerator[bytes]:
    """States until the request has ended or the portal ends."""
    loop = asyncio.get_running_loop()
    told: PendingBody | None = None
    told_s, looks = loop.time(), 0
    while not result.done() and not draining.done():
        status = await gateway.producer.status(request_id)
        if status.state in ("queued", "running"):
            state = await pending_body(gateway, request_id, status)
            if told is not None and None not in (told.expected_wait_s, state.expected_wait_s):
                # What came behind it does not hold it up, though the queue is longer by it.
                state.expected_wait_s = min(told.expected_wait_s or 0.0, state.expected_wait_s or 0.0)
            if state != told:
                yield _event(state.status, encode(state))
                told, told_s = state, loop.time()
        if loop.time() - told_s >= _KEEP_ALIVE_S:
            yield b": keep-alive\n\n"
            told_s = loop.time()
        pause_s = _LOOK_S[min(looks, len(_LOOK_S) - 1)]
        looks += 1
        await asyncio.wait({result, draining}, timeout=pause_s, return_when=asyncio.FIRST_COMPLETED)


def _event(name: str, data: bytes) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), data)
