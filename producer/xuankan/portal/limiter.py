"""How often somebody may call, counted on the Redis/Valkey server: one limit for all portals together."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, Literal

from xuankan.portal.addresses import household
from xuankan.portal.api_keys import Caller
from xuankan.protocol.keys import Keys
from xuankan.protocol.lua import Key, script
from xuankan.protocol.scripts import ALLOW_OOM
from xuankan.transport.server import Server

Counted = Literal["ranking", "look"]
LOOKS_PER_RANKING: Final = 10
"""Looks at rankings that are allowed for each ranking that is."""


# The generic cell rate algorithm (ITU-T I.371, the leaky bucket as a meter) keeps one number for each key:
# when its bucket will be empty again. Beside it stands when that was written: a clock that was set back since
# would leave the bucket full until it is there again, and lock its owner out.
@script(
    """
-- Answers whether it is allowed, calls that are left, ms until it would be allowed, ms until all is free.
local now = redis.call('TIME')
local now_ms = now[1] * 1000 + now[2] / 1000
local each, room, added = tonumber(each_ms), each_ms * size, each_ms * cost
local kept, written = string.match(redis.call('GET', empty_at) or '0 0', '^(%S+) (%S+)$')
local empty = math.max(kept - math.max(0, written - now_ms), now_ms)
local after = empty + added
local over = after - now_ms - room
if over > 0 then
  return {0, math.floor((room - empty + now_ms) / each), math.ceil(over), math.ceil(empty - now_ms)}
end
redis.call('SET', empty_at, string.format('%.3f %.3f', after, now_ms), 'PX', math.ceil(after - now_ms))
return {1, math.floor((room - after + now_ms) / each), 0, math.ceil(after - now_ms)}
""",
    # On a full server too, key holders fetch their rankings, and take back what fills it.
    flags=ALLOW_OOM,
)
def _take(*, empty_at: Key, each_ms: float, size: int, cost: float) -> list[int]: ...


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a call is allowed.

    Attributes:
        what: what is counted.
        allowed: whether it was counted.
        left: calls that are allowed at once from now on.
        retry_s: until it would be allowed; 0 if it is.
        reset_s: until as many are left as there can be.
        limit, window_s: as many calls in as many seconds at most.
    """

    what: Counted
    allowed: bool
    left: int
    retry_s: float
    reset_s: float
    limit: int
    window_s: int

    def headers(self) -> dict[str, str]:
        """As draft-ietf-httpapi-ratelimit-headers wants them."""
        return {
            "RateLimit-Policy": f'"{self.what}s";q={self.limit};w={self.window_s}',
            "RateLimit": f'"{self.what}s";r={self.left};t={round(self.reset_s)}',
        }


class Limiter:
    """Counts calls. What it keeps on the server lives as long as the bucket is not empty."""

    def __init__(self, server: Server, keys: Keys) -> None:
        self._server = server
        self._keys = keys

    async def take(self, caller: Caller, address: str, what: Counted, count: float) -> Verdict | None:
        """Count so many rankings or looks; None where there is no limit.

        Callers without a key are counted by their address. Looks are counted apart, so that whoever has
        submitted as much as they may can still see what becomes of it.

        Raises:
            ServerUnavailable: the server was away for too long.
        """
        allowance = caller.allowance
        if allowance is None:
            return None
        more = 1 if what == "ranking" else LOOKS_PER_RANKING
        each_ms = 60_000 / (allowance.rankings_per_minute * more)
        size = allowance.burst * more
        count = min(count, size)  # else it would never be allowed
        whose = caller.name + (f":{_hidden(address)}" if caller.anonymous else "")
        call = _take(empty_at=self._keys.rate(what, whose), each_ms=each_ms, size=size, cost=count)
        allowed, left, retry_ms, reset_ms = await self._server.call("count the call", call.send)
        window_s = max(1, round(size * each_ms / 1000))
        return Verdict(what, bool(allowed), left, retry_ms / 1000, reset_ms / 1000, size, window_s)


def _hidden(address: str) -> str:
    """A name for where somebody calls from that does not tell the address."""
    return blake2b(household(address).encode(), digest_size=12).hexdigest()
