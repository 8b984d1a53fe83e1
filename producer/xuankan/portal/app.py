"""The web application: calls to their handlers, errors to problems, the page, and what everybody gets."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, cast

import msgspec
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders, QueryParams
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from xuankan.errors import XuankanError
from xuankan.portal.gateway import Gateway
from xuankan.portal.openapi import document
from xuankan.portal.problems import CallProblem, malformed, problem_of
from xuankan.portal.routes import OPERATIONS, Operation
from xuankan.tracing import Traced

_log = logging.getLogger("xuankan.portal")

_SECURITY: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_CORS_HEADERS: Final = ("Authorization", "X-API-Key", "Content-Type", "Idempotency-Key")
_CORS_SHOWN: Final = ("Location", "Retry-After", "RateLimit", "RateLimit-Policy", "Idempotent-Replayed")
_PAGE: Final = Path(str(files("xuankan.portal"))) / "page"
_UNTIMED: Final = frozenset({"/v1/rankings", "/v1/rankings/{id}", "/v1/rankings/{id}/events"})


def application(gateway: Gateway) -> Starlette:
    """The ASGI application of a gateway, which it opens and closes by the lifespan protocol."""

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        async with gateway.opened():
            yield

    async def openapi(request: Request) -> Response:
        request.state.route = "/v1/openapi.json"
        body = msgspec.json.encode(document(gateway.key_ring.key_required))
        return Response(body, media_type="application/json")

    routes: list[BaseRoute] = [
        Route(path, _endpoint(gateway, path, methods), methods=list(methods))
        for path, methods in OPERATIONS.items()
    ]
    routes += [
        Route("/v1/openapi.json", openapi),
        *health_routes(gateway),
        Route("/", _index),
        Mount("/page", StaticFiles(directory=_PAGE, check_dir=False)),
    ]
    middleware = [Middleware(Traced), Middleware(_ObservedCalls, gateway=gateway)]
    if settings_origins := gateway.settings.cors_origins:
        middleware.append(
            Middleware(
                CORSMiddleware,
                allow_origins=settings_origins,
                allow_methods=["GET", "POST", "DELETE"],
                allow_headers=_CORS_HEADERS,
                expose_headers=_CORS_SHOWN,
            )
        )
    return Starlette(
        routes=routes,
        middleware=middleware,
        exception_handlers=cast(
            Any, {HTTPException: _http_problem, CallProblem: _problem, XuankanError: _error, Exception: _bug}
        ),
        lifespan=lifespan,
    )


def health_routes(gateway: Gateway) -> list[BaseRoute]:
    """`/healthz`, whether the process lives, and `/readyz`, whether traffic should come here."""

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        reason = await gateway.not_ready()
        return PlainTextResponse("ok\n") if reason is None else PlainTextResponse(f"{reason}\n", 503)

    return [Route("/healthz", healthz), Route("/readyz", readyz)]


def _endpoint(
    gateway: Gateway, path: str, methods: Mapping[str, Operation]
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        request.state.route = path
        operation = methods["GET" if request.method == "HEAD" else request.method]
        caller = None if operation.open else await gateway.admit(request, operation.counted)
        try:
            query = msgspec.convert(
                _plain(request.query_params, operation.query), operation.query, strict=False
            )
        except msgspec.ValidationError as error:
            raise malformed(error, "query") from None
        return await operation.handler(gateway, request, caller, query)

    return endpoint


def _plain(query: QueryParams, wanted: type[msgspec.Struct]) -> dict[str, str | list[str]]:
    """A query as plain values: lists where lists are wanted, or where a name comes twice."""
    plain: dict[str, str | list[str]] = {}
    for field in msgspec.structs.fields(wanted):
        if field.name in query and field.default_factory is list:
            plain[field.name] = query.getlist(field.name)
    for name in query:
        values = query.getlist(name)
        plain.setdefault(name, values[0] if len(values) == 1 else values)
    return plain


async def _index(request: Request) -> Response:
    request.state.route = "/"
    return FileResponse(_PAGE / "index.html")


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, CallProblem)
    request.state.problem = error.code
    if request.method == "HEAD":
        return Response(status_code=error.status, headers=error.headers)
    return error.response()


async def _error(request: Request, error: Exception) -> Response:
    assert isinstance(error, XuankanError)
    return await _problem(request, problem_of(error))


async def _bug(request: Request, error: Exception) -> Response:
    del error  # the server logs it
    response = await _problem(request, CallProblem("internal", "see the portal's log"))
    response.headers.update(_SECURITY)  # Starlette answers this one outside of what it observes
    return response


async def _http_problem(request: Request, error: Exception) -> Response:
    """The router's and the static files' own."""
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == 405:
        detail = f"{request.method} is not one of {headers.get('Allow', 'GET')}"
        return await _problem(request, CallProblem("method_not_allowed", detail, headers=headers))
    return await _problem(request, CallProblem("not_found", "no such path", headers=headers))


class _ObservedCalls:
    """Counts, times and logs every call, and sets the headers that every answer has."""

    def __init__(self, app: ASGIApp, gateway: Gateway) -> None:
        self._app = app
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state: dict[str, Any] = scope.setdefault("state", {})
        started_s, status = time.perf_counter(), 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers.update({**_SECURITY, **state.get("headers", {})})
                headers.setdefault("Cache-Control", "no-cache")  # the page's files have ETags
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except ClientDisconnect:
            status = 499
        finally:
            self._note(scope, state, status, time.perf_counter() - started_s)

    def _note(self, scope: Scope, state: dict[str, Any], status: int, seconds: float) -> None:
        route, metrics = state.get("route", "other"), self._gateway.metrics
        method = scope["method"] if scope["method"] in _METHODS else "other"
        metrics.requests.labels(route, method, str(status)).inc()
        if route not in _UNTIMED:
            metrics.seconds.labels(route).observe(seconds)
        if (problem := state.get("problem")) is not None:
            metrics.problems.labels(problem).inc()
        if route == "other" and status < 400:
            return  # the page's files, and probes
        facts = {
            "method": method,
            "route": route,
            "status": status,
            "ms": round(seconds * 1000, 1),
            "key": state.get("caller"),
            "problem": problem,
        }
        _log.info("call", extra={"fields": {name: fact for name, fact in facts.items() if fact is not None}})


_METHODS: Final = frozenset({"GET", "HEAD", "POST", "DELETE", "OPTIONS", "PUT", "PATCH"})
