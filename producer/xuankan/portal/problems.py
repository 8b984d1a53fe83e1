"""What goes wrong, as RFC 9457 "problem details": one table of codes, and every error's place in it."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec
from starlette.responses import Response

from xuankan.errors import (
    FilterError,
    InputError,
    ProtocolError,
    QueueFull,
    RequestCancelled,
    RequestConflict,
    RequestError,
    RequestExpired,
    RequestIncompatible,
    RequestInvalid,
    ResultUnknown,
    ServerUnavailable,
    XuankanError,
)

_log = logging.getLogger("xuankan.portal")

MEDIA_TYPE: Final = "application/problem+json"
KINDS: Final[Mapping[str, tuple[int, str]]] = MappingProxyType(
    {
        "malformed": (400, "The request does not match the interface description"),
        "unauthorized": (401, "An API key is needed"),
        "not_found": (404, "Not found"),
        "method_not_allowed": (405, "Method not allowed"),
        "body_timeout": (408, "The request took too long to arrive"),
        "already_ended": (409, "The request has ended"),
        "cancelled": (410, "The request was cancelled"),
        "too_large": (413, "The request is too large"),
        "unsupported_media_type": (415, "The body is not JSON"),
        "unusable": (422, "The request cannot be used"),
        "idempotency_conflict": (422, "The idempotency key was used for something else"),
        "rate_limited": (429, "Too many requests"),
        "internal": (500, "The portal failed"),
        "ranking_failed": (502, "The manuscript could not be ranked"),
        "queue_full": (503, "The queue is full"),
        "unavailable": (503, "The queue cannot be reached"),
        "incompatible": (503, "The portal and the workers are incompatible"),
        "expired": (504, "The deadline passed before the manuscript was ranked"),
    }
)
"""Code -> status and title. Codes are for programs and stay; titles are for people."""

_RETRY_S: Final = 10
_LONGEST_RETRY_S: Final = 600
_PLACE = re.compile(r" - at `(?:key` in `)?\$\.?([^`]*)`$")
_UNKNOWN = re.compile(r"unknown field `([^`]*)`")


class ProblemBody(msgspec.Struct, omit_defaults=True, rename={"request_id": "id"}):
    """Why there is no answer (RFC 9457); `code` is a stable word for programs."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    field: str | None = None
    request_id: str | None = None


class CallProblem(Exception):
    """An answer that is a problem.

    Args:
        code: one of `KINDS`.
        detail: what went wrong this time, and the way out.
        field: the part of the request that cannot be used.
        request_id: the ranking's.
        headers: of the response.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        field: str | None = None,
        request_id: str | None = None,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.field = field
        self.request_id = request_id
        self.headers = headers

    @property
    def status(self) -> int:
        """The HTTP status."""
        return KINDS[self.code][0]

    def body(self) -> ProblemBody:
        """The content of the answer."""
        status, title = KINDS[self.code]
        kind = f"urn:xuankan:problem:{self.code}"
        return ProblemBody(kind, title, status, self.detail, self.code, self.field, self.request_id)

    def response(self) -> Response:
        """The answer."""
        return Response(
            msgspec.json.encode(self.body()),
            self.status,
            {"Cache-Control": "no-store", **self.headers},
            media_type=MEDIA_TYPE,
        )


def problem_of(error: XuankanError, request_id: str | None = None) -> CallProblem:
    """How an error is told to whoever called.

    What only the operator should see (addresses, limits, releases) goes to the log.
    """
    match error:
        case RequestConflict():
            detail = "this key was already used with another manuscript or other options: use a new key"
            return CallProblem("idempotency_conflict", detail, "Idempotency-Key", request_id)
        case InputError():
            name = f"filters.{error.field}" if _is_filter(error) else error.field
            return CallProblem("unusable", str(error).removeprefix(f"{error.field}: "), name, request_id)
        case QueueFull():
            _log.warning("refused: %s", error)
            wait_s = _RETRY_S if error.expected_wait_s is None else error.expected_wait_s
            retry_s = retry_after(min(wait_s, _LONGEST_RETRY_S))
            detail = f"too many manuscripts are waiting: try again in {retry_s} s"
            return CallProblem("queue_full", detail, None, request_id, {"Retry-After": retry_s})
        case ServerUnavailable():
            _log.error("%s", error)
            return unavailable(
                "the queue cannot be reached at the moment: try again in a few seconds", request_id
            )
        case ResultUnknown():
            detail = "no such ranking is queued or kept; rankings are kept for an hour"
            return CallProblem("not_found", detail, "id", request_id)
        case RequestCancelled():
            return CallProblem("cancelled", "it was cancelled before it was ranked", None, request_id)
        case RequestExpired():
            return CallProblem("expired", "raise deadline_s, or try again later", "deadline_s", request_id)
        case RequestIncompatible() | ProtocolError():
            _log.error("%s", error)
            detail = "the workers and this portal are configured differently; ask the portal's operator"
            return CallProblem("incompatible", detail, None, request_id)
        case RequestInvalid():
            return CallProblem("unusable", f"the worker refused it [{error.code}]", None, request_id)
        case RequestError():
            detail = f"the workers could not score it [{error.code}]; it may succeed as a new request"
            return CallProblem("ranking_failed", detail, None, request_id)
        case _:
            _log.error("unexpected: %s", error)
            return CallProblem("internal", "see the portal's log", None, request_id)


def unavailable(detail: str, request_id: str | None = None) -> CallProblem:
    """Nothing can be enqueued for now."""
    return CallProblem("unavailable", detail, None, request_id, {"Retry-After": str(_RETRY_S)})


def malformed(error: Exception, inside: str | None = None) -> CallProblem:
    """What msgspec says of something that does not fit its schema; `inside` names what was read."""
    text = str(error)
    place, unknown = _PLACE.search(text), _UNKNOWN.search(text)
    names = [found[1] for found in (place, unknown) if found is not None and found[1]]
    detail = _PLACE.sub("", text)
    return CallProblem("malformed", detail, ".".join(names) or inside)


def retry_after(seconds: float) -> str:
    """The value of `Retry-After`: whole seconds, at least one."""
    return str(max(1, math.ceil(seconds)))


def _is_filter(error: InputError) -> bool:
    return isinstance(error, FilterError) and error.field != "filters"
