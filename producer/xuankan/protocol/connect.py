"""Connecting to the Redis/Valkey server, and which of its faults pass: the same for producers and workers."""

from __future__ import annotations

from typing import Any, Final, cast
from urllib.parse import urlsplit

from redis import exceptions as faults
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from xuankan.errors import InputError

COMMAND_TIMEOUT_S: Final = 5.0
"""Within this time a command is answered, or its connection is given up."""
MAX_CONNECTIONS: Final = 16
_FORMS: Final = "redis://[user:password@]host:port/db, rediss://... or unix:///path"
_BACKOFF_BASE_S: Final = 0.02
_BACKOFF_CAP_S: Final = 2.0
_PASSING: Final = (
    faults.ConnectionError,  # also while the server loads its data
    faults.TimeoutError,
    faults.ReadOnlyError,
    faults.ClusterDownError,  # also a replica whose primary is down
    faults.TryAgainError,
    faults.OutOfMemoryError,
    OSError,
)
_PASSING_REPLIES: Final = ("MISCONF", "NOREPLICAS", "UNBLOCKED", "BUSY ", "LOADING")
REFUSALS: Final = (faults.AuthenticationError, faults.AuthorizationError, faults.NoPermissionError)
"""The server does not let this user in, or not do this."""


def backoff_s(failures: int, chance: float) -> float:
    """Seconds to wait after `failures` failures in a row; `chance` in [0, 1).

    Exponential with full jitter (M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
    """
    return chance * min(_BACKOFF_CAP_S, _BACKOFF_BASE_S * 2 ** min(failures, 16))


def is_passing(error: Exception) -> bool:
    """Whether a command may succeed a little later: no connection, a restart, a failover, full memory."""
    if isinstance(error, REFUSALS):
        return False  # redis-py counts some of these among its connection errors
    return isinstance(error, _PASSING) or str(error).startswith(_PASSING_REPLIES)


def describe(url: str) -> str:
    """The URL without user, password and options, fit for messages and logs.

    Raises:
        InputError: it is not a server's URL.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "localhost", parts.port or 6379
    except ValueError as error:
        raise InputError("url", f"{error}; {_FORMS} is wanted") from None
    if parts.scheme == "unix" and parts.path:
        return f"unix://{parts.path}"
    if parts.scheme not in ("redis", "rediss"):
        raise InputError(
            "url", f"the scheme {parts.scheme!r} is none of redis, rediss, unix; {_FORMS} is wanted"
        )
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port}{parts.path.rstrip('/')}"


def open_client(
    url: str, *, timeout_s: float = COMMAND_TIMEOUT_S, connections: int = MAX_CONNECTIONS
) -> Redis:
    """A client that neither retries nor speaks RESP3; it connects when first used.

    redis-py's own retries would hide how often a command was sent, and its RESP3 pools (8.1) hand out
    connections that the server has closed.

    Raises:
        InputError: it is not a server's URL, or has an option that redis-py does not know.
    """
    describe(url)
    try:
        pool = cast(Any, BlockingConnectionPool).from_url(
            url,
            protocol=2,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=timeout_s,
            socket_connect_timeout=COMMAND_TIMEOUT_S,
            max_connections=connections,
            timeout=None,
        )
    except (ValueError, TypeError) as error:
        raise InputError("url", f"{error}; {_FORMS} is wanted") from None
    return Redis.from_pool(pool)
