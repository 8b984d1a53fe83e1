"""Every stream and key name.

All keys of one shard share the hash tag `{namespace:shard}`, so that on a Cluster they live in one slot
and one server-side script can touch them together.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

from xuankan.errors import InputError

Lane = Literal["interactive", "bulk"]
LANES: tuple[Lane, ...] = get_args(Lane)
GROUP = "workers"
"""The consumer group that all workers of a shard share."""
ENTRY_ID_FIELD, ENTRY_REPLY_FIELD, ENTRY_REQUEST_FIELD = b"id", b"reply", b"request"
"""Fields of a stream entry: the request id and the reply address, if any, in UTF-8 (so that even an
undecodable request can be answered), and the encoded request."""

_NAMESPACE = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True)
class Keys:
    """The names of one shard. `namespace` lets deployments share a server.

    Raises:
        InputError: a namespace with characters other than letters, digits, `.`, `_`, `-`; a negative shard.
    """

    namespace: str = "xuankan"
    shard: int = 0

    def __post_init__(self) -> None:
        if not _NAMESPACE.fullmatch(self.namespace):
            raise InputError(
                "namespace", f"{self.namespace!r} is not 1 to 64 letters, digits, '.', '_' or '-'"
            )
        if self.shard < 0:
            raise InputError("shard", f"{self.shard} is negative; shards count from 0")

    def _key(self, *parts: str) -> str:
        return ":".join((f"{{{self.namespace}:{self.shard}}}", *parts))

    def stream(self, lane: Lane) -> str:
        """Stream: a lane's queued requests."""
        return self._key("queue", lane)

    @property
    def dead(self) -> str:
        """Stream: entries that no worker could turn into a ranking."""
        return self._key("dead")

    def ticket(self, request_id: str) -> str:
        """String: `lane entry reply` of a queued or running request; guards against a second submission."""
        return self._key("ticket", request_id)

    def result(self, request_id: str) -> str:
        """Hash: `body` (the encoded result) and `committed_ms` (server time when it became visible)."""
        return self._key("result", request_id)

    def reply(self, address: str) -> str:
        """List: ids of finished requests, for the one producer that waits at this address."""
        return self._key("reply", address)

    def history(self, lane: Lane, entry: str) -> str:
        """List: as JSON, the deliveries of an entry that did not end it: which, whose, alive until when."""
        return self._key("history", lane, entry)

    def rate(self, what: str, caller: str) -> str:
        """String: how much of its limit a caller of `xuankan portal` has used; expires when that is over."""
        return self._key("rate", what, caller)

    @property
    def cancellations(self) -> str:
        """Channel: ids of cancelled requests, so that workers drop them before they cost engine time."""
        return self._key("cancellations")

    def worker(self, name: str) -> str:
        """String: a live worker's status as JSON; expires when the worker stops renewing it."""
        return self._key("worker", name)

    @property
    def workers(self) -> str:
        """Set: names of the workers that have announced themselves."""
        return self._key("workers")
