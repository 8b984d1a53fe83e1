"""The server: its version, what it keeps, its memory, and what it lets this user do.

`ask` collects facts over a connection, as far as the user may; the judges are pure.
"""

from __future__ import annotations

import ipaddress
import json
import re
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast, get_args

from redis import exceptions as faults
from redis.asyncio import Redis

from xuankan.doctor.findings import Finding, Role, State, by_state
from xuankan.doctor.needs import Need, needs
from xuankan.protocol.keys import Keys
from xuankan.transport.url import Address

AREA: Final = "server"
ROLES: tuple[Role, ...] = get_args(Role)
_OLDEST: Final = {"Redis": (7, 0), "Valkey": (8, 0)}
_FULL: Final = 0.8
_SLOW_MS: Final = 20.0
_SETTINGS: Final = ("appendfsync", "min-replicas-to-write")
_ADMINS: Final = (Need(("FLUSHALL",)), Need(("CONFIG", "SET", "appendonly", "no")), Need(("ACL", "LIST")))

_ABOUT: Final = """
-- ARGV: commands as JSON. Which of them the caller may run; none is run.
local may = {}
for i, command in ipairs(cjson.decode(ARGV[1])) do
  local known, allowed = pcall(redis.acl_check_cmd, unpack(command))
  may[i] = known and allowed and 1 or 0
end
return {redis.SERVER_NAME or 'redis', redis.VALKEY_VERSION or redis.REDIS_VERSION or '', may}
"""


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What could be learned.

    Attributes:
        address: of the server.
        round_trip_ms: median of a few.
        product, version: `Redis` or `Valkey`, and such as `7.0.15`; empty if unknown.
        refused: what this user lacks of each role; None where scripts are refused, so that it is not known.
        is_admin: whether it may do what none of the roles needs.
        info: INFO's fields; None where it may not be asked.
        settings: CONFIG GET's; None likewise.
        sealed: whether requests are encrypted before they are sent.
    """

    address: Address
    round_trip_ms: float
    product: str = ""
    version: str = ""
    refused: Mapping[Role, Sequence[Need]] | None = None
    is_admin: bool = False
    info: Mapping[str, Any] | None = None
    settings: Mapping[str, str] | None = None
    sealed: bool = False


async def ask(redis: Redis, address: Address, keys: Keys, *, sealed: bool) -> ServerFacts:
    """Collect facts.

    Raises:
        redis.exceptions.RedisError, OSError: the server does not answer anything.
    """
    client = cast(Any, redis)
    await client.execute_command("TIME")  # connects
    trips: list[float] = []
    for _ in range(5):
        before_s = time.perf_counter()
        await client.execute_command("TIME")
        trips.append((time.perf_counter() - before_s) * 1000)
    info: Any = await _if_allowed(client, "INFO")
    settings: Any = await _if_allowed(client, "CONFIG GET", *_SETTINGS)
    wanted = {role: needs(role, keys) for role in ROLES}
    every = [*(need for role in ROLES for need in wanted[role]), *_ADMINS]
    about: Any = await _if_allowed(client, "EVAL", _ABOUT, 0, json.dumps([need.command for need in every]))
    product, version, admin = "", "", False
    refused: dict[Role, Sequence[Need]] | None = None
    if about is not None:
        name, version, may = about[0].decode(), about[1].decode(), cast(Sequence[int], about[2])
        product = "Valkey" if name == "valkey" else "Redis"
        allowed = {need.command for need, one in zip(every, may, strict=True) if one}
        refused = {role: [need for need in wanted[role] if need.command not in allowed] for role in ROLES}
        admin = all(need.command in allowed for need in _ADMINS)
    if info is not None:  # the only one that tells where scripts are refused
        product = "Valkey" if "valkey_version" in info else "Redis"
        version = str(info.get("valkey_version") or info.get("redis_version") or version)
    trip_ms = statistics.median(trips)
    return ServerFacts(address, trip_ms, product, version, refused, admin, info, settings, sealed)


async def _if_allowed(client: Any, *command: str | int) -> Any:
    """The answer; None where this user, or a server of somebody else's, does not give it."""
    try:
        return await client.execute_command(*command)
    except faults.ConnectionError:
        raise
    except faults.ResponseError:
        return None


def judge(facts: ServerFacts, role: Role | None) -> list[Finding]:
    """All findings about a server that answers; `role` is None for whatever this user can be."""
    found = [_reachable(facts), _version(facts), *_permissions(facts, role)]
    if facts.info is None:
        hidden = "this user may not run INFO"
        remedy = "run xuankan doctor as the operator or the producer"
        found += [Finding(AREA, name, "unknown", hidden, remedy) for name in ("persistence", "memory")]
        return found
    info = facts.info
    return [*found, _place(facts, info), _persistence(facts, info), _memory(info), _clients(info)]


def _reachable(facts: ServerFacts) -> Finding:
    where, trip = f"{facts.address}", f"answers in {facts.round_trip_ms:.2g} ms"
    if not facts.address.tls and not facts.sealed and not _is_local(facts.address):
        return Finding(
            AREA,
            "connection",
            "warning",
            f"{where} {trip}; manuscripts and passwords cross the network in the clear",
            "use rediss:// (TLS), or seal requests with XUANKAN_KEYS",
        )
    slow = facts.round_trip_ms > _SLOW_MS
    remedy = "run workers and producers near the server: each request takes several round trips"
    return by_state("warning" if slow else None, AREA, "connection", f"{where} {trip}", remedy)


def _is_local(address: Address) -> bool:
    if address.path:
        return True
    for host, _ in address.nodes:
        try:
            if not ipaddress.ip_address(host).is_loopback:
                return False
        except ValueError:
            if host != "localhost":
                return False
    return True


def _version(facts: ServerFacts) -> Finding:
    if not facts.version:
        return Finding(
            AREA, "version", "unknown", "this user may neither run INFO nor scripts", "see permissions"
        )
    oldest = _OLDEST[facts.product]
    old = tuple(int(part) for part in re.findall(r"\d+", facts.version)[:2]) < oldest
    remedy = "Redis 7.0 or Valkey 8.0 and later are supported: upgrade the server"
    return by_state("failure" if old else None, AREA, "version", f"{facts.product} {facts.version}", remedy)


_ACL_REMEDY: Final = "recreate the users with deploy/redis/make-acl and ACL LOAD"


def _permissions(facts: ServerFacts, role: Role | None) -> list[Finding]:
    def finding(state: State, fact: str, remedy: str = "") -> Finding:
        return Finding(AREA, "permissions", state, fact, remedy)

    if (refused := facts.refused) is None:
        return [
            finding("failure", "this user may not run scripts (EVAL), which every role needs", _ACL_REMEDY)
        ]
    if facts.is_admin:
        fact = "this user may do everything on the server"
        return [finding("warning", fact, "give each service a user of its own: deploy/redis/make-acl")]
    able: list[Role] = [one for one in ROLES if not _missing(refused[one])]
    if role is None and not able:
        fact = "; ".join(f"no {one}: lacks {_names(_missing(refused[one]))}" for one in ROLES)
        return [finding("failure", fact, _ACL_REMEDY)]
    found: list[Finding] = []
    wanted: list[Role] = able if role is None else [role]
    for one in wanted:
        if missing := _missing(refused[one]):
            found.append(finding("failure", f"as {one} it lacks {_names(missing)}", _ACL_REMEDY))
        elif lacking := refused[one]:
            lost = ", ".join(dict.fromkeys(need.lacking or "" for need in lacking))
            found.append(finding("warning", f"as {one} it lacks {_names(lacking)}: {lost}", _ACL_REMEDY))
        else:
            found.append(finding("ok", f"all that a{'n' if one == 'operator' else ''} {one} needs"))
    return found


def _missing(refused: Sequence[Need]) -> list[Need]:
    return [need for need in refused if need.lacking is None]


def _names(lacking: Sequence[Need]) -> str:
    """Commands with the keys that they are refused for, the first few of them."""
    named = list(dict.fromkeys(f"+{need.name} {_key(need)}".strip() for need in lacking))
    more = f" and {len(named) - 4} more" if len(named) > 4 else ""
    return ", ".join(named[:4]) + more


def _key(need: Need) -> str:
    found = next((word for word in need.command if word.startswith("{")), "")
    parts = found.split(":")
    return f"~{':'.join(parts[:3])}" if len(parts) > 2 else ""


def _place(facts: ServerFacts, info: Mapping[str, Any]) -> Finding:
    def finding(state: State, fact: str, remedy: str = "") -> Finding:
        return Finding(AREA, "topology", state, fact, remedy)

    if int(info.get("cluster_enabled", 0)) and facts.address.kind != "cluster":
        return finding("failure", "a node of a Cluster", "give its URL as redis+cluster://host:port")
    if str(info.get("role", "master")) != "master":
        master = f"{info.get('master_host')}:{info.get('master_port')}"
        fact = f"a replica of {master}, which takes no writes"
        return finding("failure", fact, "give the master's URL, or redis+sentinel://host:26379/NAME")
    replicas = int(info.get("connected_slaves", 0))
    kinds = {"server": "a single server", "sentinel": "behind Sentinels", "cluster": "a Cluster"}
    fact = f"{kinds[facts.address.kind]}, {replicas} replica{'' if replicas == 1 else 's'}"
    if replicas and facts.settings is not None and facts.settings.get("min-replicas-to-write") == "0":
        fact += ", which may lag: the latest accepted requests are lost when one takes over"
        return finding("warning", fact, "set min-replicas-to-write 1 and min-replicas-max-lag 10")
    return finding("ok", fact)


def _persistence(facts: ServerFacts, info: Mapping[str, Any]) -> Finding:
    def finding(state: State | None, fact: str, remedy: str = "") -> Finding:
        return by_state(state, AREA, "persistence", fact, remedy)

    if not int(info.get("aof_enabled", 0)):
        fact = "appendonly is off: requests that were accepted are lost when the server stops"
        remedy = "set appendonly yes and appendfsync always, as deploy/redis/xuankan.conf does"
        return finding("failure", fact, remedy)
    if str(info.get("aof_last_write_status", "ok")) != "ok":
        fact = "the last write to the append-only file failed: the server refuses requests"
        return finding("failure", fact, "check free space on its disk, and its log")
    sync = None if facts.settings is None else facts.settings.get("appendfsync")
    if sync is None:
        return finding(None, "appendonly is on (only the admin can see how it is synced)")
    lost = {"everysec": ": a power cut can lose the last second or two", "no": ": a power cut can lose more"}
    fact = f"appendonly is on, appendfsync {sync}{lost.get(sync, '')}"
    return finding("warning" if sync == "no" else None, fact, "set appendfsync always, or everysec")


def _memory(info: Mapping[str, Any]) -> Finding:
    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    policy, evicted = str(info.get("maxmemory_policy", "")), int(info.get("evicted_keys", 0))
    fact = f"{used / 2**20:,.0f} MiB used"
    if not most:
        fact += ", maxmemory is not set: the kernel kills the server when the machine runs out of memory"
        remedy = "set maxmemory to at most half of the machine's memory"
        return Finding(AREA, "memory", "warning", fact, remedy)
    fact += f" of {most / 2**20:,.0f} MiB, {policy}"
    if policy != "noeviction":
        gone = f" ({evicted:,} keys are gone)" if evicted else ""
        fact += f": when it is full the server deletes requests and rankings{gone}"
        remedy = "set maxmemory-policy noeviction, and do not share the server with a cache"
        return Finding(AREA, "memory", "failure", fact, remedy)
    full = "warning" if used >= _FULL * most else None
    return by_state(full, AREA, "memory", fact, "raise maxmemory: producers hold requests back from 80 %")


def _clients(info: Mapping[str, Any]) -> Finding:
    here, most = int(info.get("connected_clients", 0)), int(info.get("maxclients", 0))
    full = "warning" if most and here >= _FULL * most else None
    fact = f"{here:,} connected" + (f" of {most:,}" if most else "")
    return by_state(full, AREA, "clients", fact, "raise maxclients")
