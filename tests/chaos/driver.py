"""Runs a plan: real servers, real processes, faults at their time, and the account at the end."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO

from redis.exceptions import RedisError

from tests.chaos import audit
from tests.chaos.faults import Faults
from tests.chaos.fleet import Fleet
from tests.chaos.plan import Plan
from tests.chaos.report import Report
from tests.chaos.servers import Kind, Servers
from tests.chaos.watch import Recoveries, Results, Told
from tests.chaos.world import KEYS
from xuankan.protocol.keys import LANES

RECOVERY_MARGIN_S: Final = 1.0
"""A request of a worker that died is with another one, or has ended, within its lease and this."""
_STUCK_S: Final = 90.0
"""Without any request's end for this long, a run is given up."""
_PERIOD_S: Final = 0.02


@dataclass(slots=True)
class Run:
    """One run in its directory."""

    plan: Plan
    kind: Kind
    directory: Path

    async def run(self) -> Report:
        """Run the plan to its end, whatever that is."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "log.jsonl").open("w") as log:
            for line in self.plan.lines():
                log.write(line + "\n")
            servers = Servers(self.kind, self.directory)
            try:
                await servers.start()
                return await self._run_on(servers, log)
            finally:
                await servers.close()

    async def _run_on(self, servers: Servers, log: TextIO) -> Report:
        started_s = time.monotonic()
        before_bytes = await audit.memory(servers)
        recoveries, results = Recoveries(servers), Results(servers)
        fleet = Fleet(self.plan, servers.url, self.directory, recoveries.worker_died)
        told = Told([fleet.record(number) for number in range(self.plan.producers)])
        faults = Faults(servers, fleet, recoveries, lambda fact: _write(log, fact))
        watching = [asyncio.create_task(one) for one in (results.listen(), results.read(), recoveries.run())]
        stuck: str | None = None
        try:
            fleet.start()
            stuck = await self._drive(fleet, faults, told, results)
            asked_s = time.monotonic() - started_s
            empty = await _empty(servers)
            await fleet.stop()
        finally:
            await fleet.kill_all()
            for task in watching:
                task.cancel()
            ends = await asyncio.gather(*watching, return_exceptions=True)
        told.read()
        findings = await audit.account(servers, self.plan, told, results, faults.malformed)
        await audit.look_at_server(servers, findings)
        grown_bytes = await audit.memory_left(servers) - before_bytes
        if grown_bytes > audit.MEMORY_MARGIN_BYTES:
            findings.add("left behind", f"the server uses {grown_bytes:,} bytes more than before")
        for what in fleet.left():
            findings.add("left behind", f"the process {what}")
        for what in (*fleet.crashes, *([stuck] if stuck else [])):
            findings.add("crashed or stuck", what)
        if not empty:
            findings.add("crashed or stuck", "the streams did not become empty")
        for end in ends:
            assert isinstance(end, asyncio.CancelledError), end
        bar_s = self.plan.lease_s + RECOVERY_MARGIN_S
        for seconds in recoveries.seconds["alone"]:
            if seconds > bar_s:
                findings.add("slowly recovered", f"{seconds:.2f} s, at most {bar_s:g} s are allowed")
        return Report(
            self.plan,
            self.kind,
            findings,
            faults.done,
            fleet.deaths,
            recoveries.seconds,
            asked_s,
            grown_bytes,
        )

    async def _drive(self, fleet: Fleet, faults: Faults, told: Told, results: Results) -> str | None:
        """Inject every fault at its time until everything is asked; says so if nothing moves any more."""
        due = list(self.plan.faults)
        active: set[asyncio.Task[None]] = set()
        moved_s = time.monotonic()
        while not (fleet.asked and not due and not active):
            if fresh := told.read():
                moved_s = time.monotonic()
                results.look_for(fresh)
            ended = len(self.plan.work) if fleet.asked else len(told.by_request)
            while due and due[0].at <= ended:
                number = len(self.plan.faults) - len(due)
                active.add(_task(faults.inject(due.pop(0), number)))
            for task in [task for task in active if task.done()]:
                active.remove(task)
                task.result()
            if time.monotonic() - moved_s > _STUCK_S:
                for task in active:
                    task.cancel()
                return f"nothing moved for {_STUCK_S:g} s after {ended} requests"
            await asyncio.sleep(_PERIOD_S)
        return None


def _write(log: TextIO, fact: object) -> None:
    log.write(json.dumps(fact) + "\n")
    log.flush()


def _task(what: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    return asyncio.create_task(what)


async def _empty(servers: Servers, within_s: float = 60.0) -> bool:
    """Wait until nothing is queued, which malformed entries and requests past their deadline may be."""
    until_s = time.monotonic() + within_s
    while time.monotonic() < until_s:
        try:
            lengths = [await servers.command("XLEN", KEYS.stream(lane)) for lane in LANES]
        except (RedisError, OSError):
            lengths = [1]
        if not any(lengths):
            return True
        await asyncio.sleep(0.1)
    return False
