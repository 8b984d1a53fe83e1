"""The queue: who serves it, and whether they and this installation can understand each other."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from redis import exceptions as faults
from redis.asyncio import Redis

from xuankan.doctor.findings import Finding, Role
from xuankan.doctor.package import Package
from xuankan.protocol.keys import LANES, Keys, Lane

AREA: Final = "queue"


@dataclass(frozen=True, slots=True)
class QueueFacts:
    """What could be learned; None is what this user may not ask.

    Attributes:
        workers: what each live worker says of itself.
        waiting: requests of each lane on its stream.
        dead: dead letters.
    """

    workers: Sequence[Mapping[str, Any]] | None
    waiting: Mapping[Lane, int | None]
    dead: int | None


async def ask(redis: Redis, keys: Keys) -> QueueFacts:
    """Collect facts.

    Raises:
        redis.exceptions.RedisError, OSError: the server is away.
    """
    client = cast(Any, redis)

    async def answer(*command: str) -> Any:
        try:
            return await client.execute_command(*command)
        except faults.NoPermissionError:
            return None

    names = cast(set[bytes] | None, await answer("SMEMBERS", keys.workers))
    workers: list[Mapping[str, Any]] | None = None if names is None else []
    for name in sorted(names or ()):
        key = keys.worker(name.decode())
        # Operators may GET, producers MGET; a worker may do neither.
        beat: Any = await answer("GET", key)
        if beat is None and (several := await answer("MGET", key)) is not None:
            beat = several[0]
        elif beat is None and await answer("EXISTS", key):
            workers = None
            break
        if beat is not None and workers is not None:
            workers.append(_facts(beat))
    waiting: dict[Lane, int | None] = {lane: await answer("XLEN", keys.stream(lane)) for lane in LANES}
    return QueueFacts(workers, waiting, await answer("XLEN", keys.dead))


def _facts(beat: bytes) -> Mapping[str, Any]:
    try:
        loaded: object = json.loads(beat)
    except ValueError:
        return {}
    return cast(Mapping[str, Any], loaded) if isinstance(loaded, dict) else {}


def judge(facts: QueueFacts, package: Package, namespace: str, role: Role | None) -> list[Finding]:
    """Findings about the queue of a namespace."""
    found = [_workers(facts, namespace, role), *_fit(facts, package)]
    if facts.dead:
        letters = "1 dead letter" if facts.dead == 1 else f"{facts.dead:,} dead letters"
        found.append(
            Finding(AREA, "dead letters", "warning", letters, "see xuankan dead list for the reasons")
        )
    elif facts.dead is not None:
        found.append(Finding(AREA, "dead letters", "ok", "none"))
    return found


def _workers(facts: QueueFacts, namespace: str, role: Role | None) -> Finding:
    known = [count for count in facts.waiting.values() if count is not None]
    length = f"{sum(known):,} requests queued or running" if known else ""
    if facts.workers is None:
        fact = "this user may not see the workers" + (f"; {length}" if length else "")
        return Finding(AREA, "workers", "unknown", fact, "run xuankan doctor as the operator")
    if facts.workers:
        states = [str(worker.get("state", "?")) for worker in facts.workers]
        counted = ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))
        return Finding(AREA, "workers", "ok", f"{counted}; {length}" if length else counted)
    if role == "worker":  # it is about to start the first
        return Finding(AREA, "workers", "ok", "none is running yet" + (f"; {length}" if length else ""))
    fact = f"none is running in namespace {namespace!r}" + (f"; {length}" if length else "")
    return Finding(
        AREA,
        "workers",
        "warning",
        fact,
        "start one with this server and namespace: xuankan worker run",
    )


def _fit(facts: QueueFacts, package: Package) -> list[Finding]:
    """Whether the workers and this installation name journals and tokens alike."""
    ours = {
        "template": package.template and package.template.fingerprint,
        "catalogue": package.catalogue and package.catalogue.version,
    }
    remedies = {
        "template": "use the same version of xuankan and the same model release on both sides",
        "catalogue": "give producers and workers the same --catalogue",
    }
    found: list[Finding] = []
    workers = facts.workers or ()
    for what, own in ours.items():
        others = {
            str(worker.get("name")): str(worker[what])
            for worker in workers
            if what in worker and worker[what] != own and worker.get("state") != "draining"
        }
        if own is not None and others:
            named = ", ".join(f"{name} has {value}" for name, value in sorted(others.items())[:3])
            word = "tokenizer and template" if what == "template" else what
            fact = f"here the {word} is {own}, but {named}: every request ends as invalid"
            found.append(Finding(AREA, f"same {what}", "failure", fact, remedies[what]))
    releases = sorted({str(one.get("release")) for one in workers if one.get("state") != "draining"})
    if len(releases) > 1:
        fact = f"workers serve {', '.join(releases)}: a ranking depends on which of them makes it"
        found.append(Finding(AREA, "same release", "warning", fact, "finish the rollout: xuankan top"))
    if workers and not found:
        found.append(Finding(AREA, "agreement", "ok", "workers and this installation understand each other"))
    return found
