"""What a run asks and what goes wrong in it: drawn from a seed beforehand, and kept as JSON lines."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from xuankan.protocol.keys import Lane

Action = Literal["rank", "submit", "twice", "cancel", "expire"]
Marker = Literal["kill", "raise", "nan"]
FaultKind = Literal[
    "worker killed",
    "worker paused",
    "server killed",
    "producer killed",
    "connections cut",
    "connections stalled",
    "replies dropped",
    "scripts flushed",
    "malformed entry",
    "restart loop",
    "two of one name",
    "memory limited",
    "network slow",
    "server full",
    "server clock set",
    "worker clock set",
    "producer clock set",
]
MALFORMED: Final = (
    "noise",
    "noise with an id",
    "no request",
    "no fields we know",
    "another version",
    "another id inside",
    "too large",
    "other tokenizer",
    "unknown journal",
    "an id that cannot be one",
)
_ACTIONS: Final[dict[Action, int]] = {"rank": 55, "submit": 30, "twice": 6, "cancel": 5, "expire": 4}
_MARKERS: Final[dict[Marker, float]] = {"kill": 0.0015, "raise": 0.008, "nan": 0.004}
_PER_THOUSAND: Final[dict[FaultKind, float]] = {
    "worker killed": 8,
    "worker paused": 4,
    "server killed": 2,
    "producer killed": 2,
    "connections cut": 8,
    "connections stalled": 4,
    "replies dropped": 10,
    "scripts flushed": 2,
    "malformed entry": 12,
    "restart loop": 1,
    "two of one name": 1,
    "memory limited": 1,
    "network slow": 2,
    "server full": 1,
    "server clock set": 3,
    "worker clock set": 2,
    "producer clock set": 2,
}
CLOCK_FAULTS: Final = ("server clock set", "worker clock set", "producer clock set")
_LONGEST_STEP_S: Final = 900.0
"""Steps of the server's clock together stay within the hour that a result lives."""


@dataclass(frozen=True, slots=True)
class Work:
    """One request: which producers ask for it, how, and with what text."""

    number: int
    id: str
    action: Action
    lane: Lane
    producers: tuple[int, ...]
    text: int
    marker: Marker | None
    after_s: float
    """When it is cancelled after it was submitted, or its deadline."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong once `at` requests have ended."""

    at: int
    kind: FaultKind
    target: int
    share: float
    for_s: float
    """How long it lasts; of a clock, how far from the right time it is set."""
    variant: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that chance decides in a run, apart from time."""

    seed: int
    requests: int
    producers: int
    workers: int
    lease_s: float
    work: tuple[Work, ...]
    faults: tuple[Fault, ...]

    def lines(self) -> Iterable[str]:
        """The plan as JSON lines."""
        head = {name: getattr(self, name) for name in ("seed", "requests", "producers", "workers", "lease_s")}
        yield json.dumps({"plan": head})
        for work in self.work:
            yield json.dumps({"work": dataclasses.asdict(work)})
        for fault in self.faults:
            yield json.dumps({"fault": dataclasses.asdict(fault)})

    @classmethod
    def read(cls, lines: Iterable[str]) -> Plan:
        """The plan of a run's log; what happened in it is skipped."""
        head: dict[str, Any] = {}
        work: list[Work] = []
        faults: list[Fault] = []
        for line in lines:
            parts: dict[str, Any] = json.loads(line)
            if "plan" in parts:
                head = parts["plan"]
            elif "work" in parts:
                values = parts["work"]
                work.append(Work(**(values | {"producers": tuple(values["producers"])})))
            elif "fault" in parts:
                faults.append(Fault(**parts["fault"]))
        return cls(work=tuple(work), faults=tuple(faults), **head)


def draw(
    seed: int, requests: int, *, producers: int = 5, workers: int = 4, lease_s: float = 2.0, texts: int = 1000
) -> Plan:
    """Draw a run. The same arguments give the same plan."""
    chance = random.Random(f"{seed}/{requests}")
    work = tuple(_work(chance, seed, number, producers, texts) for number in range(requests))
    faults: list[Fault] = []
    for kind, rate in _PER_THOUSAND.items():
        count = max(1, round(rate * requests / 1000))
        if kind == "malformed entry":
            count = max(count, len(MALFORMED))
        faults += [_fault(chance, kind, number, requests, lease_s) for number in range(count)]
    return Plan(
        seed, requests, producers, workers, lease_s, work, tuple(sorted(faults, key=lambda one: one.at))
    )


def _work(chance: random.Random, seed: int, number: int, producers: int, texts: int) -> Work:
    action = _choice(chance, _ACTIONS)
    lane: Lane = "interactive" if chance.random() < 0.5 else "bulk"
    first = number % producers
    others = (first + 1 + chance.randrange(producers - 1)) % producers
    marker: Marker | None = None
    if action in ("rank", "submit"):
        drawn = chance.random()
        for name, rate in _MARKERS.items():
            # A run of any length has each of them once.
            if drawn < rate or number == 20 + 20 * list(_MARKERS).index(name):
                marker = name
                break
            drawn -= rate
    return Work(
        number=number,
        id=f"c{seed}-{number}",
        action=action,
        lane=lane,
        producers=(first, others) if action == "twice" else (first,),
        text=chance.randrange(texts),
        marker=marker,
        after_s=round(chance.uniform(0.0, 0.08) if action == "cancel" else chance.uniform(0.05, 1.0), 3),
    )


def _fault(chance: random.Random, kind: FaultKind, number: int, requests: int, lease_s: float) -> Fault:
    for_s = {
        "worker killed": chance.uniform(0.0, 2 * lease_s),  # until it is started again
        "worker paused": chance.uniform(0.5, 2.0) * lease_s,
        "server killed": chance.uniform(0.0, 1.0),
        # One stall in five outlasts the time that a command may take.
        "two of one name": chance.uniform(0.5, 2.0) * lease_s,
        "memory limited": chance.uniform(0.5, 2.0) * lease_s,
        "network slow": chance.uniform(1.0, 4.0),
        "server full": chance.uniform(0.5, 2.0),
        **{name: chance.uniform(-_LONGEST_STEP_S, _LONGEST_STEP_S) for name in CLOCK_FAULTS},
        "connections stalled": chance.uniform(0.2, 1.5) if number % 5 else 6.5,
    }.get(kind, 0.0)
    variant = ""
    if kind == "malformed entry":
        variant = MALFORMED[number % len(MALFORMED)]
    elif kind == "worker killed":
        variant = chance.choice(("same name", "new name"))
    return Fault(
        at=chance.randrange(1, max(2, int(0.95 * requests))),
        kind=kind,
        target=chance.randrange(1000),
        share=round(chance.uniform(0.1, 1.0), 3),
        for_s=round(for_s, 3),
        variant=variant,
    )


def _choice(chance: random.Random, weights: dict[Action, int]) -> Action:
    return chance.choices(list(weights), list(weights.values()))[0]


def of_producer(work: Sequence[Work], number: int) -> list[Work]:
    """What one producer asks, in its order."""
    return [one for one in work if number in one.producers]
