"""Accounts for every request of a run, and for what it left on the server. The rules are stated here.

- A request that a producer was told anything of but `nothing in time` or, with a deadline, `expired`, was
  accepted: it has exactly one result.
- How it may end: a plain one `ok`, with the reference's ranking bit for bit; one with a harmful word
  `failed`, and with exactly one dead entry; one that is cancelled `ok` or `cancelled`, and `cancelled` if
  `cancel` said so; one with a deadline `ok` or `expired`, or without a result if it never reached the server.
- No request without a harmful word is `failed`, whatever happened to the workers that held it.
- Everybody who asked was told what lies on the server, and that never changed once it was visible.
- A malformed entry that names a request ends as its `invalid` result, any other as exactly one dead entry.
- On the server are left: empty streams, nothing pending, no key without a lifetime but the streams; without
  the keys that have one, memory is where it was.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tests.chaos.faults import Malformed
from tests.chaos.plan import Plan, Work
from tests.chaos.servers import Servers
from tests.chaos.watch import Results, Told, Visible, pending, read_results, sha
from tests.chaos.world import KEYS, allowed, digest, expected
from xuankan.protocol.keys import LANES
from xuankan.protocol.wire import Result

MEMORY_MARGIN_BYTES: Final = 2 * 1024 * 1024
"""What the server may use more than before, beside the dead stream: scripts, consumers, tables."""
_AT_ONCE: Final = 500


@dataclass(slots=True)
class Findings:
    """What is wrong, by kind; a run is good if nothing is."""

    wrong: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    outcomes: Counter[str] = field(default_factory=Counter[str])
    deliveries: Counter[int] = field(default_factory=Counter[int])

    def add(self, kind: str, what: str) -> None:
        """Note something wrong: `kind` is `lost`, `duplicated`, `wrong`, `left behind` and so on."""
        self.wrong.setdefault(kind, []).append(what)

    def count(self, kind: str) -> int:
        return len(self.wrong.get(kind, ()))


async def read_dead(servers: Servers) -> list[dict[bytes, bytes]]:
    """Every dead entry."""
    return [fields for _, fields in await servers.command("XRANGE", KEYS.dead, "-", "+")]


async def account(
    servers: Servers, plan: Plan, told: Told, results: Results, malformed: Sequence[Malformed]
) -> Findings:
    """Look at every request and every malformed entry."""
    findings = Findings()
    dead = await read_dead(servers)
    by_id = Counter(fields.get(b"id", b"").decode(errors="replace") for fields in dead)
    by_entry = Counter((fields.get(b"lane"), fields.get(b"entry")) for fields in dead)
    for start in range(0, len(plan.work), _AT_ONCE):
        part = plan.work[start : start + _AT_ONCE]
        kept = await read_results(servers, [work.id for work in part])
        for work in part:
            found = kept.get(work.id)
            _check_request(findings, work, found, told.by_request.get(work.id, []), by_id[work.id])
            _check_constancy(findings, work, found, results)
        await asyncio.sleep(0)
    named = [request_id for _, request_id, *_ in malformed if request_id is not None]
    refused = await read_results(servers, named)
    for variant, request_id, lane, entry in malformed:
        if request_id is None:
            burials = by_entry[lane.encode(), entry.encode()]
            if burials != 1:
                findings.add("malformed", f"{variant}: {lane} {entry} has {burials} dead entries")
            findings.outcomes["malformed: dead"] += 1
        else:
            found = refused.get(request_id)
            status = Result.decode(found[1]).status if found else "nothing"
            if status != "invalid":
                findings.add("malformed", f"{variant}: {request_id} ended as {status}")
            findings.outcomes[f"malformed: {status}"] += 1
    return findings


def _check_request(
    findings: Findings,
    work: Work,
    found: tuple[str, bytes] | None,
    said: Sequence[Mapping[str, Any]],
    burials: int,
) -> None:
    name = f"{work.id} ({work.action}, {work.lane}, {work.marker or 'harmless'})"
    if missing := set(work.producers) - {one["by"] for one in said}:
        findings.add("not answered", f"{name}: producers {sorted(missing)} were told nothing")
    for one in said:
        if one["saw"] in ("error", "unknown"):
            findings.add("lost" if one["saw"] == "unknown" else "not answered", f"{name}: {dict(one)}")
    if found is None:
        told = {one["saw"] for one in said}
        if work.action == "expire" and told <= {"expired", "nothing in time"}:
            findings.outcomes["never accepted"] += 1
        else:
            findings.add("lost", f"{name}: no result; producers were told {sorted(told)}")
        return
    result = Result.decode(found[1])
    findings.outcomes[result.status] += 1
    findings.deliveries[result.deliveries] += 1
    code = result.failure.code if result.failure else ""
    if result.status == "failed" and work.marker is None:
        findings.add("innocent failed", f"{name}: {code}, after {result.deliveries} deliveries")
    elif result.id != work.id or result.status not in allowed(work):
        findings.add("wrong", f"{name}: ended as {result.status} {code} of {result.id}")
    if result.status == "ok" and work.marker is None and digest(result.ranking) != expected(work.text):
        findings.add("wrong", f"{name}: another ranking than the reference")
    if burials != (result.status == "failed"):
        findings.add("wrong", f"{name}: {result.status}, but {burials} dead entries")
    for one in said:
        same = one["saw"] == result.status and one.get("digest", "") in ("", digest(result.ranking))
        if not same and one["saw"] not in ("nothing in time", "unknown", "error"):
            findings.add("wrong", f"{name}: {result.status} on the server, a producer was told {one}")
        if one.get("cancel") == "cancelled" and result.status != "cancelled":
            findings.add("wrong", f"{name}: cancelled, but ended as {result.status}")
        if one.get("cancel") == "unknown":
            findings.add("lost", f"{name}: accepted, but unknown when it was cancelled")


def _check_constancy(
    findings: Findings, work: Work, found: tuple[str, bytes] | None, results: Results
) -> None:
    first = results.first.get(work.id)
    now = None if found is None else Visible(found[0], sha(found[1]))
    if first is not None and first != now:
        findings.add("duplicated", f"{work.id}: first {first}, at the end {now}")
    elif results.writes[work.id] > 1:
        findings.add("duplicated", f"{work.id}: written {results.writes[work.id]} times")


async def look_at_server(servers: Servers, findings: Findings) -> None:
    """Check that nothing is queued or pending, and that every key goes by itself."""
    for (lane, entry), held in (await pending(servers)).items():
        findings.add("left behind", f"{lane} {entry} is pending: {held}")
    streams = [KEYS.stream(lane) for lane in LANES]
    for stream in streams:
        if length := await servers.command("XLEN", stream):
            findings.add("left behind", f"{stream} has {length} entries")
    for key in await _scan(servers):
        if await servers.command("PTTL", key) < 0 and key not in (*streams, KEYS.dead):
            findings.add("left behind", f"{key} has no lifetime")
        if ":ticket:" in key:
            findings.add("left behind", f"{key}: its request has ended")


async def memory_left(servers: Servers) -> int:
    """Bytes that the server uses, without the keys that have a lifetime and the dead stream."""
    for key in await _scan(servers):
        if await servers.command("PTTL", key) >= 0:
            await servers.command("DEL", key)
    await servers.command("MEMORY", "PURGE")
    dead = await servers.command("MEMORY", "USAGE", KEYS.dead, "SAMPLES", 0) or 0
    return await memory(servers) - int(dead)


async def memory(servers: Servers) -> int:
    """Bytes that the server uses."""
    return int((await servers.command("INFO", "memory"))["used_memory"])


async def _scan(servers: Servers) -> list[str]:
    cursor, keys = 0, set[str]()
    while True:
        cursor, found = await servers.command("SCAN", cursor, "COUNT", 1000)
        keys.update(one.decode() for one in found)
        if not int(cursor):
            return sorted(keys)
