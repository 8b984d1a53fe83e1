"""The workers and producers of a run: kept alive while they may be, ended when told."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Literal

from tests.chaos import children, producer, worker
from tests.chaos.plan import Plan, of_producer
from tests.chaos.watch import Trouble
from tests.chaos.world import KILLED_BY_POISON
from tests.support.clocks import set_clock, settable

START_S = 1.0
"""What a process takes until it works."""
_YOUNG_S = 0.3
_LOOK_S = 0.02


@dataclass(slots=True)
class Member:
    """A place in the fleet, and the process that fills it."""

    number: int
    name: str
    process: BaseProcess | None = None
    state: Literal["running", "paused", "down"] = "down"
    killed: bool = False
    down_s: float = 0.0
    rename: bool = False
    limited: bool = False
    generation: int = 0


@dataclass(slots=True)
class Fleet:
    """All processes. `on_death(worker name)` is called at the end of each worker that did not want it, and
    gives what is to be told when it is back."""

    plan: Plan
    url: str
    directory: Path
    on_death: Callable[[str], Trouble]
    workers: list[Member] = field(default_factory=list[Member])
    producers: list[Member] = field(default_factory=list[Member])
    deaths: Counter[str] = field(default_factory=Counter[str])
    crashes: list[str] = field(default_factory=list[str])
    stopping: bool = False
    _namesakes: list[BaseProcess] = field(default_factory=list[BaseProcess])
    _tasks: list[asyncio.Task[None]] = field(default_factory=list[asyncio.Task[None]])
    _asking: list[asyncio.Task[None]] = field(default_factory=list[asyncio.Task[None]])

    def start(self) -> None:
        """Start everybody."""
        self.workers = [Member(number, f"w{number}") for number in range(self.plan.workers)]
        self.producers = [Member(number, f"p{number}") for number in range(self.plan.producers)]
        for kind, members in (("worker", self.workers), ("producer", self.producers)):
            for one in members if settable(self.directory) else ():
                set_clock(self.directory / f"clock-{kind}-{one.number}", 0.0)
        self._tasks = [asyncio.create_task(self._keep_worker(one)) for one in self.workers]
        self._asking = [asyncio.create_task(self._keep_producer(one)) for one in self.producers]

    def record(self, number: int) -> Path:
        """Where a producer writes what it was told."""
        return self.directory / f"producer-{number}.jsonl"

    @property
    def asked(self) -> bool:
        """Whether every producer has asked everything."""
        return all(task.done() for task in self._asking)

    def living(self, members: list[Member], target: int) -> Member | None:
        """The next member from `target` on that runs."""
        for step in range(len(members)):
            one = members[(target + step) % len(members)]
            if one.state == "running" and one.process is not None and one.process.is_alive():
                return one
        return None

    def kill(self, one: Member, down_s: float, rename: bool) -> None:
        """SIGKILL; it is started again after `down_s`."""
        assert one.process is not None
        one.killed, one.down_s, one.rename, one.state = True, down_s, rename, "down"
        children.send_signal(one.process, signal.SIGKILL)

    async def restart_over_and_over(self, one: Member, times: int) -> None:
        """Kill a worker soon after each of its starts."""
        for _ in range(times):
            while not self.stopping and (one.state != "running" or one.process is None):  # noqa: ASYNC110
                await asyncio.sleep(_LOOK_S)
            if self.stopping:
                return
            await asyncio.sleep(_YOUNG_S)
            if one.state == "running":
                self.kill(one, 0.0, False)

    async def run_namesake(self, one: Member, for_s: float) -> None:
        """Run another worker of the same name beside it for a while, then kill that."""
        other = self._start_worker(one)
        self._namesakes.append(other)
        await asyncio.sleep(for_s)
        children.send_signal(other, signal.SIGKILL)
        await asyncio.to_thread(other.join, 10)
        self.deaths["killed beside their namesake"] += 1

    async def limit_memory(self, one: Member, for_s: float) -> None:
        """Let a worker have no more address space than it has; it may end by that."""
        process = one.process
        assert process is not None
        assert process.pid is not None
        try:
            children.stop_growing(process.pid)
            one.limited = True
            await asyncio.sleep(for_s)
            if one.process is process:
                children.let_grow(process.pid)
        except (OSError, IndexError):
            pass  # it is gone

    def clock(self, one: Member) -> Path | None:
        """What sets a member's clock; None where that cannot be done."""
        file = self.directory / f"clock-{'worker' if one in self.workers else 'producer'}-{one.number}"
        return file if file.exists() else None

    async def pause(self, one: Member, for_s: float) -> None:
        """SIGSTOP, and SIGCONT after `for_s`."""
        process = one.process
        assert process is not None
        one.state = "paused"
        children.send_signal(process, signal.SIGSTOP)
        await asyncio.sleep(for_s)
        if one.process is process and one.state == "paused":
            one.state = "running"
        children.send_signal(process, signal.SIGCONT)

    async def stop(self) -> None:
        """Drain the workers; kills those that do not end."""
        self.stopping = True
        for one in self.workers:
            if one.process is not None:
                children.send_signal(one.process, signal.SIGTERM)
        _, stuck = await asyncio.wait(self._tasks, timeout=20)
        if stuck:
            self.crashes += [f"{one.name} did not drain" for one in self.workers if one.state != "down"]
        await self.kill_all()

    async def kill_all(self) -> None:
        """End everything at once."""
        self.stopping = True
        for task in (*self._tasks, *self._asking):
            task.cancel()
        for one in (*self.workers, *self.producers):
            if one.process is not None:
                children.send_signal(one.process, signal.SIGKILL)
                await asyncio.to_thread(one.process.join, 10)
        for process in self._namesakes:
            children.send_signal(process, signal.SIGKILL)
            await asyncio.to_thread(process.join, 10)
        await asyncio.gather(*self._tasks, *self._asking, return_exceptions=True)

    def left(self) -> list[str]:
        """Names of processes that still live."""
        everybody = (*self.workers, *self.producers)
        return [one.name for one in everybody if one.process is not None and one.process.is_alive()]

    async def _keep_worker(self, one: Member) -> None:
        while not self.stopping:
            one.process = self._start_worker(one)
            one.killed, one.limited, one.state = False, False, "running"
            code = await children.ended(one.process)
            one.state = "down"
            if one.killed:
                self.deaths["killed"] += 1
            elif code == -KILLED_BY_POISON:
                self.deaths["ended by poison"] += 1
                one.down_s, one.rename = 0.2, False
            elif code and one.limited:
                self.deaths["out of memory"] += 1
                one.down_s, one.rename = 0.2, False
            elif self.stopping and code == -signal.SIGTERM:
                return  # it had not come so far as to hear of it
            elif code or not self.stopping:
                self.crashes.append(f"{one.name} ended by itself with {code}")
                one.down_s, one.rename = 1.0, False
            else:
                return
            trouble = self.on_death(one.name)
            await asyncio.sleep(one.down_s)
            trouble.over(START_S)
            if one.rename:
                one.generation += 1
                one.name = f"w{one.number}-{one.generation}"

    def _start_worker(self, one: Member) -> BaseProcess:
        return children.start(
            one.name,
            self.directory / f"worker-{one.number}.log",
            self.clock(one),
            worker.main,
            self.url,
            one.name,
            self.plan.lease_s,
        )

    async def _keep_producer(self, one: Member) -> None:
        work = of_producer(self.plan.work, one.number)
        while True:
            one.process = children.start(
                one.name,
                self.directory / f"producer-{one.number}.log",
                self.clock(one),
                producer.main,
                self.url,
                one.number,
                work,
                str(self.record(one.number)),
            )
            one.killed, one.state = False, "running"
            code = await children.ended(one.process)
            one.state = "down"
            if not one.killed:
                if code:
                    self.crashes.append(f"{one.name} ended by itself with {code}")
                return
            await asyncio.sleep(one.down_s)
