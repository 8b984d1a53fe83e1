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
from xuankan.portal.gateway import Gateway, whose
from xuankan.portal.problems import CallProblem, problem_of
from xuankan.portal.rankings import pending_body
from xuankan.portal.schemas import PendingBody, encode, ranking_body

_LOOK_S: Final = (0.2, 0.5, 1.0, 1.0, 2.0, 3.0, 5.0)
"""Between looks at what waits; the last stays. The end itself is told at once, whatever these are."""
_KEEP_ALIVE_S: Final = 15.0
_LONGEST_S: Final = 600.0
_FREE_STREAMS: Final = 16
"""Of one address without a key: a browser needs one for each tab."""


async def events(gateway: Gateway, request: Request, caller: Caller, query: object) -> Response:
    """`GET /v1/rankings/{id}/events`."""
    del query
    request_id = gateway.owned(caller, request.path_params["id"])
    if (await gateway.producer.status(request_id)).state == "unknown":
        raise CallProblem("not_found", "no such ranking is queued or kept", "id", request_id)
    name, each = whose(request, caller), _FREE_STREAMS if caller.anonymous else None
    if not gateway.streams.take(name, each=each):
        raise _too_many(request_id)
    gateway.streams.give_back(name)  # the stream takes it: who hangs up before it begins has none
    return StreamingResponse(
        _stream(gateway, request_id, name, each),
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        media_type="text/event-stream",
    )


async def _stream(gateway: Gateway, request_id: str, name: str, each: int | None) -> AsyncGenerator[bytes]:
    if not gateway.streams.take(name, each=each):
        yield _event("problem", encode(_too_many(request_id).body()))
        return
    gateway.metrics.streams.set(gateway.streams.used)
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
        gateway.streams.give_back(name)
        gateway.metrics.streams.set(gateway.streams.used)
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
        running = status.state == "running"  # it stays so until its end, which is told at once
        pause_s = _KEEP_ALIVE_S if running else _LOOK_S[min(looks, len(_LOOK_S) - 1)]
        looks += 1
        await asyncio.wait({result, draining}, timeout=pause_s, return_when=asyncio.FIRST_COMPLETED)


def _too_many(request_id: str) -> CallProblem:
    detail = f"too many event streams are open: poll GET /v1/rankings/{request_id}?wait_s=60"
    return CallProblem("unavailable", detail, None, request_id, {"Retry-After": "10"})


def _event(name: str, data: bytes) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), data)
