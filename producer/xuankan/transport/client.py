"""Connecting to the Redis/Valkey server, and which of its faults pass: the same for producers and workers."""

from __future__ import annotations

import logging
import random
import ssl
from collections.abc import Callable
from typing import Any, Final

from redis import exceptions as faults
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from xuankan.errors import InputError
from xuankan.protocol.keys import Keys
from xuankan.transport.connections import ConnectionPool, link_class
from xuankan.transport.discovery import Locator
from xuankan.transport.url import Address

_log = logging.getLogger("xuankan.server")
_trusted: Final[set[str]] = set()

COMMAND_TIMEOUT_S: Final = 5.0
"""Within this time a command is answered, or its connection is given up."""
MAX_CONNECTIONS: Final = 16
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
_REFUSALS: Final = (
    faults.AuthenticationError,
    faults.AuthorizationError,
    faults.NoPermissionError,
    ssl.SSLCertVerificationError,
)


def _warn_of_trust(address: Address) -> None:
    """Say once for each server that its URL turns off what TLS is for."""
    given = address.options
    if given.get("ssl_cert_reqs", "required") == "required" and given.get("ssl_check_hostname", True):
        return
    if (server := str(address)) not in _trusted:
        _trusted.add(server)
        _log.warning(
            "%s: its certificate is not verified, as the URL says (ssl_cert_reqs, ssl_check_hostname): "
            "anyone on the network path can read and change everything; use ssl_ca_certs instead",
            server,
        )


def backoff_s(failures: int) -> float:
    """Seconds to wait after `failures` failures in a row, at random; none after the first.

    The first may be a connection that died while idle, and a fresh one is tried at once. Then exponential
    with full jitter (M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
    """
    if failures < 2:
        return 0.0
    longest_s = min(_BACKOFF_CAP_S, _BACKOFF_BASE_S * 2 ** min(failures - 1, 16))
    return random.random() * longest_s  # noqa: S311  # jitter, not a secret


def is_refusal(error: BaseException | None) -> bool:
    """Whether the server does not let this user in or not do this, or its certificate is not trusted."""
    while error is not None:
        if isinstance(error, _REFUSALS):
            return True
        error = error.__cause__ or error.__context__  # redis-py wraps what fails while it connects
    return False


def is_passing(error: Exception) -> bool:
    """Whether a command may succeed a little later: no connection, a restart, a failover, full memory."""
    if is_refusal(error):
        return False  # redis-py counts some of these among its connection errors
    return isinstance(error, _PASSING) or str(error).startswith(_PASSING_REPLIES)


def describe(url: str) -> str:
    """The URL without user, password and options, fit for messages and logs.

    Raises:
        InputError: it is not a server's URL.
    """
    return str(Address.parse(url))


def open_client(
    url: str,
    keys: Keys | None = None,
    *,
    block_s: float = 0.0,
    connections: int = MAX_CONNECTIONS,
    connected: Callable[[], None] = lambda: None,
) -> Redis:
    """A client that neither retries nor speaks RESP3; it connects when first used.

    It follows a Sentinel's master and a Cluster's node by itself. redis-py's own retries would hide how often
    a command was sent, and its RESP3 pools (8.1) hand out connections that the server has closed.

    Args:
        url: see `address.FORMS`; `socket_timeout` in it takes the place of `COMMAND_TIMEOUT_S`.
        keys: the shard that is asked for; on a Cluster, its node is.
        block_s: how long commands of this client may block on the server.
        connections: at most; further commands wait for one.
        connected: called whenever a connection was made, perhaps to another server than before.

    Raises:
        InputError: it is not a server's URL, or a certificate that it names cannot be read.
    """
    address = Address.parse(url)
    common: dict[str, Any] = {"retry": Retry(NoBackoff(), 0), "protocol": 2}
    options = dict(address.options)
    if address.tls:
        # What redis-py 5 leaves out.
        secure = {"ssl_check_hostname": options.get("ssl_cert_reqs") != "none"}
        _warn_of_trust(address)
        common |= secure | {name: value for name, value in options.items() if name.startswith("ssl_")}
    connect_timeout_s = options.pop("socket_connect_timeout", COMMAND_TIMEOUT_S)
    timeout_s = options.pop("socket_timeout", COMMAND_TIMEOUT_S) + block_s
    where: dict[str, Any] = {}
    if address.path:
        where["path"] = address.path
    elif address.kind == "server":
        where["host"], where["port"] = address.nodes[0]
    else:
        asking = address.sentinel_options if address.kind == "sentinel" else options
        where["guide"] = Locator(address, (keys or Keys()).workers, {**common, **asking})
    link = link_class(tls=address.tls, unix=bool(address.path))
    every = {**common, **options, **where}
    if address.tls:
        try:
            link(**every).ssl_context.get()
        except (OSError, faults.RedisError, ValueError) as error:
            raise InputError("url", f"its ssl options cannot be used: {error}") from None
    pool = ConnectionPool(
        connection_class=link,
        connected=connected,
        socket_timeout=timeout_s,
        socket_connect_timeout=connect_timeout_s,
        max_connections=connections,
        timeout=None,
        **every,
    )
    return Redis.from_pool(pool)
